"""A profile store in plain lists: enough of the protocol to test what is built on it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from huatuo.model.profile import PROFILE_TYPES, Line, Location, Profile, Samples, Stack
from huatuo.store.profiles import Matcher, ProfileQuery, ProfileSeries

Row = tuple[int, int, Stack, Mapping[str, str]]  # time, value, stack, labels


def matches(matcher: Matcher, labels: Mapping[str, str]) -> bool:
    value = labels.get(matcher.name, "")
    if matcher.op in ("=", "!="):
        return (value == matcher.value) == (matcher.op == "=")
    return bool(re.fullmatch(matcher.value, value)) == (matcher.op == "=~")


def merged(
    name: str, rows: Sequence[Row], start_ns: int = 0, end_ns: int = 0, divide: int = 1
) -> Profile:
    """The calling-context tree of rows."""
    nodes: dict[tuple[int, Location], int] = {}
    values = [0]
    locations: dict[Location, int] = {}
    statuses: dict[str, int] = defaultdict(int)
    for _, value, stack, _ in rows:
        node = 0
        for location in reversed(stack.locations):
            locations.setdefault(location, len(locations))
            node = nodes.setdefault((node, location), len(nodes) + 1)
        values += [0] * (len(nodes) + 1 - len(values))
        values[node] += value
        statuses[stack.status] += value
    return Profile(
        type=PROFILE_TYPES[name],
        start_ns=start_ns,
        end_ns=end_ns,
        locations=list(locations),
        parent=np.array([-1, *(parent for parent, _ in nodes)], np.int32),
        location=np.array([-1, *(locations[location] for _, location in nodes)], np.int32),
        self_values=np.array(values, np.int64) // divide,
        samples=len(rows),
        statuses={status: value // divide for status, value in statuses.items()},
    )


def rows_of(samples: Samples) -> Iterator[Row]:
    columns = (samples.times, samples.values, samples.stack_of, samples.labels_of)
    for time, value, stack, labels in zip(*(c.tolist() for c in columns), strict=True):
        yield time, value, samples.stacks[stack], samples.labels[labels]


def samples_of(name: str, rows: Sequence[Row]) -> Samples:
    return Samples(
        type=name,
        times=np.array([row[0] for row in rows], np.int64),
        values=np.array([row[1] for row in rows], np.int64),
        stacks=[row[2] for row in rows],
        stack_of=np.arange(len(rows), dtype=np.int32),
        labels=[row[3] for row in rows],
        labels_of=np.arange(len(rows), dtype=np.int32),
    )


class MemoryProfiles:
    def __init__(self) -> None:
        self.batches: list[Samples] = []
        self.lines: dict[Location, tuple[Line, ...]] = {}

    def append(self, samples: Samples) -> None:
        self.batches.append(samples)

    def set_lines(self, lines: Mapping[Location, tuple[Line, ...]]) -> int:
        self.lines |= {key._replace(lines=()): value for key, value in lines.items()}
        return len(lines)

    def _rows(self, query: ProfileQuery) -> list[Row]:
        return [
            (time, value, self._named(stack), labels)
            for batch in self.batches
            if batch.type == query.type
            for time, value, stack, labels in rows_of(batch)
            if query.start_ns <= time <= query.end_ns
            and all(matches(matcher, labels) for matcher in query.matchers)
        ]

    def _named(self, stack: Stack) -> Stack:
        if not self.lines:
            return stack
        located = (
            one._replace(lines=self.lines.get(one._replace(lines=()), one.lines))
            for one in stack.locations
        )
        return stack._replace(locations=tuple(located))

    def types(self, start_ns: int, end_ns: int) -> list[str]:
        return [n for n in PROFILE_TYPES if self._rows(ProfileQuery(n, start_ns, end_ns))]

    def labels(self, query: ProfileQuery) -> dict[str, list[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for *_, labels in self._rows(query):
            for name, value in labels.items():
                found[name].add(value)
        return {name: sorted(values) for name, values in sorted(found.items())}

    def merge(self, query: ProfileQuery) -> Profile:
        rows = self._rows(query)
        gauge = PROFILE_TYPES[query.type].is_gauge
        divide = len({row[0] for row in rows}) or 1 if gauge else 1
        return merged(query.type, rows, query.start_ns, query.end_ns, divide)

    def series(
        self, query: ProfileQuery, step_ns: int, by: Sequence[str] = ()
    ) -> list[ProfileSeries]:
        steps = -(-(query.end_ns - query.start_ns + 1) // step_ns)
        found: dict[tuple[str, ...], np.ndarray] = {}
        times: dict[int, set[int]] = defaultdict(set)
        for time, value, _, labels in self._rows(query):
            key = tuple(labels.get(name, "") for name in by)
            step = (time - query.start_ns) // step_ns
            found.setdefault(key, np.zeros(steps, np.int64))[step] += value
            times[step].add(time)
        if PROFILE_TYPES[query.type].is_gauge:
            for values in found.values():
                values //= np.array([len(times[i]) or 1 for i in range(steps)])
        return [
            ProfileSeries({n: v for n, v in zip(by, key, strict=True) if v}, values)
            for key, values in sorted(found.items())
        ]
