"""Profiles in plain lists: every answer is worked out sample by sample, as simply as it can be.

The double of the web server's tests, and what tests/contracts/profiles.py compares stores with.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from huatuo.errors import BadQuery
from huatuo.model.profile import (
    PROFILE_TYPES,
    Line,
    Location,
    Profile,
    ProfileType,
    Samples,
    Stack,
    StackStatus,
)
from huatuo.store.profiles import Matcher, ProfileQuery, ProfileSeries

MILLISECOND = 1_000_000


class Sample(NamedTuple):
    type: str
    time: int
    value: int
    locations: tuple[Location, ...]
    status: StackStatus
    labels: Mapping[str, str]


class MemoryProfiles:
    def __init__(self) -> None:
        self.samples: list[Sample] = []

    def append(self, samples: Samples) -> None:
        for time, value, stack_at, labels_at in zip(
            samples.times.tolist(),
            samples.values.tolist(),
            samples.stack_of.tolist(),
            samples.labels_of.tolist(),
            strict=True,
        ):
            stack = samples.stacks[stack_at]
            labels = {name: word for name, word in samples.labels[labels_at].items() if word}
            time -= time % MILLISECOND
            self.samples.append(
                Sample(samples.type, time, value, stack.locations, stack.status, labels)
            )

    def set_lines(self, lines: Mapping[Location, tuple[Line, ...]]) -> int:
        by_site = {location[:4]: new for location, new in lines.items()}
        changed = set()

        def repaired(location: Location) -> Location:
            new = by_site.get(location[:4], location.lines)
            if new != location.lines:
                changed.add(location[:4])
            return location._replace(lines=new)

        self.samples = [
            sample._replace(locations=tuple(map(repaired, sample.locations)))
            for sample in self.samples
        ]
        return len(changed)

    def _matching(self, query: ProfileQuery) -> Iterator[Sample]:
        for matcher in query.matchers:
            matches(matcher, "")  # raises
        for sample in self.samples:
            if (
                sample.type == query.type
                and query.start_ns <= sample.time <= query.end_ns
                and all(matches(each, sample.labels.get(each.name, "")) for each in query.matchers)
            ):
                yield sample

    def types(self, start_ns: int, end_ns: int) -> list[str]:
        return sorted({s.type for s in self.samples if start_ns <= s.time <= end_ns})

    def labels(self, query: ProfileQuery) -> dict[str, list[str]]:
        found: dict[str, set[str]] = {}
        for sample in self._matching(query):
            for name, word in sample.labels.items():
                found.setdefault(name, set()).add(word)
        return {name: sorted(words) for name, words in sorted(found.items())}

    def merge(self, query: ProfileQuery) -> Profile:
        samples = list(self._matching(query))
        profile_type = type_of(query)
        moments = len({s.time for s in samples}) if profile_type.is_gauge else 1
        node_of: dict[tuple[int, Location], int] = {}
        locations: dict[Location, int] = {}
        parent, location, values = [-1], [-1], [0]
        statuses: Counter[str] = Counter()
        for sample in samples:
            node = 0
            for each in reversed(sample.locations):
                if (node, each) not in node_of:
                    node_of[node, each] = len(parent)
                    parent.append(node)
                    location.append(locations.setdefault(each, len(locations)))
                    values.append(0)
                node = node_of[node, each]
            values[node] += sample.value
            statuses[str(sample.status)] += sample.value
        return Profile(
            profile_type,
            *self._bounds(query),
            list(locations),
            np.array(parent, np.int32),
            np.array(location, np.int32),
            np.array(values, np.int64) // max(moments, 1),
            len(samples),
            {status: value // max(moments, 1) for status, value in statuses.items()},
        )

    def _bounds(self, query: ProfileQuery) -> tuple[int, int]:
        inside = ProfileQuery(query.type, query.start_ns, query.end_ns)
        times = [sample.time for sample in self._matching(inside)]
        start = query.start_ns or min(times, default=0)
        return start, max(times, default=start) if query.end_ns == 2**63 - 1 else query.end_ns

    def series(
        self, query: ProfileQuery, step_ns: int, by: Sequence[str] = (), spread: bool = False
    ) -> list[ProfileSeries]:
        if query.end_ns == 2**63 - 1 or step_ns < 1:
            raise BadQuery("values over time need a range with an end and a step above zero")
        steps = (query.end_ns - query.start_ns) // step_ns + 1
        sums: dict[tuple[str, ...], list[int]] = {}
        moments: dict[tuple[tuple[str, ...], int], set[int]] = {}
        for sample in self._matching(query):
            key = tuple(sample.labels.get(name, "") for name in by)
            step = (sample.time - query.start_ns) // step_ns
            row = sums.setdefault(key, [0] * steps)
            if spread:
                begin = sample.time - query.start_ns - sample.value
                for at in range(max(begin // step_ns, 0), step + 1):
                    until = min(sample.time - query.start_ns, (at + 1) * step_ns)
                    row[at] += max(until - max(begin, at * step_ns), 0)
            else:
                row[step] += sample.value
            moments.setdefault((key, step), set()).add(sample.time)
        if type_of(query).is_gauge:
            for (key, step), times in moments.items():
                sums[key][step] //= len(times)
        return [
            ProfileSeries(
                {name: word for name, word in zip(by, key, strict=True) if word},
                np.array(sums[key], np.int64),
            )
            for key in sorted(sums)
        ]


def type_of(query: ProfileQuery) -> ProfileType:
    if query.type not in PROFILE_TYPES:
        raise BadQuery(f"{query.type}: no such type")
    return PROFILE_TYPES[query.type]


def matches(matcher: Matcher, word: str) -> bool:
    if matcher.op in ("=", "!="):
        return (word == matcher.value) == (matcher.op == "=")
    if matcher.op not in ("=~", "!~") or len(matcher.value) > 1000:
        raise BadQuery(f"{matcher.op}: neither =, !=, =~ nor !~, or too long")
    try:
        found = re.fullmatch(matcher.value, word, re.DOTALL)
    except re.error as error:
        raise BadQuery(str(error)) from error
    return (found is not None) == (matcher.op == "=~")


Row = tuple[int, int, Stack, Mapping[str, str]]  # time, value, stack, labels


def samples_of(name: str, rows: Sequence[Row]) -> Samples:
    """A batch of rows, whose stacks and labels may repeat."""
    return Samples(
        type=name,
        times=np.array([row[0] for row in rows], np.int64),
        values=np.array([row[1] for row in rows], np.int64),
        stacks=[row[2] for row in rows],
        stack_of=np.arange(len(rows), dtype=np.int32),
        labels=[row[3] for row in rows],
        labels_of=np.arange(len(rows), dtype=np.int32),
    )


def rows_of(samples: Samples) -> Iterator[Row]:
    """The reverse."""
    columns = (samples.times, samples.values, samples.stack_of, samples.labels_of)
    for time, value, stack, labels in zip(*(c.tolist() for c in columns), strict=True):
        yield time, value, samples.stacks[stack], samples.labels[labels]


def merged(name: str, rows: Sequence[Row], start_ns: int = 0, end_ns: int = 0) -> Profile:
    """The calling-context tree of rows, as if they were of one moment in that range."""
    store = MemoryProfiles()
    store.append(samples_of(name, [(0, *row[1:]) for row in rows]))
    found = store.merge(ProfileQuery(name))
    return dataclasses.replace(found, start_ns=start_ns, end_ns=end_ns)
