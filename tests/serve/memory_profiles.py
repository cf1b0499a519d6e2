"""A profile store in plain lists: enough of the protocol to test API and UI without files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from huatuo.model.profile import PROFILE_TYPES, Line, Location, Profile, Samples, Stack
from huatuo.store.profiles import Matcher, ProfileQuery, ProfileSeries

Columns = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int32]]


class MemoryProfiles:
    """huatuo.store.profiles.ProfileStore; lines are those the samples came with."""

    def __init__(self) -> None:
        self._batches: list[Samples] = []

    def append(self, samples: Samples) -> None:
        self._batches.append(samples)

    def set_lines(self, lines: Mapping[Location, tuple[Line, ...]]) -> int:
        raise NotImplementedError(f"no symbols come late here: {len(lines)}")

    def types(self, start_ns: int, end_ns: int) -> list[str]:
        found = {
            batch.type
            for batch in self._batches
            if ((batch.times >= start_ns) & (batch.times <= end_ns)).any()
        }
        return sorted(found)

    def labels(self, query: ProfileQuery) -> dict[str, list[str]]:
        values: dict[str, set[str]] = {}
        for batch, mask in self._chosen(query):
            for index in np.unique(batch.labels_of[mask]):
                for name, value in batch.labels[index].items():
                    values.setdefault(name, set()).add(value)
        return {name: sorted(values[name]) for name in sorted(values)}

    def merge(self, query: ProfileQuery) -> Profile:
        tree = _Tree()
        samples, statuses = 0, dict[str, int]()
        for batch, mask in self._chosen(query):
            sums = np.zeros(len(batch.stacks), np.int64)
            np.add.at(sums, batch.stack_of[mask], batch.values[mask])
            samples += int(mask.sum())
            for index in np.flatnonzero(sums).tolist():
                stack, value = batch.stacks[index], int(sums[index])
                tree.add(stack, value)
                statuses[stack.status] = statuses.get(stack.status, 0) + value
        return Profile(
            PROFILE_TYPES[query.type], query.start_ns, query.end_ns, tree.locations,
            np.array(tree.parent, np.int32), np.array(tree.location, np.int32),
            np.array(tree.values, np.int64), samples, statuses,
        )  # fmt: skip

    def series(
        self, query: ProfileQuery, step_ns: int, by: Sequence[str] = ()
    ) -> list[ProfileSeries]:
        steps = -(-(query.end_ns - query.start_ns) // step_ns)
        found: dict[tuple[str, ...], npt.NDArray[np.int64]] = {}
        for batch, mask in self._chosen(query):
            groups = [tuple(labels.get(name, "") for name in by) for labels in batch.labels]
            for group in set(groups):
                of_group = np.array([one == group for one in groups])
                rows = mask & of_group[batch.labels_of]
                at = np.minimum((batch.times[rows] - query.start_ns) // step_ns, steps - 1)
                values = found.setdefault(group, np.zeros(steps, np.int64))
                np.add.at(values, at, batch.values[rows])
        return [
            ProfileSeries(dict(zip(by, group, strict=True)), found[group])
            for group in sorted(found)
        ]

    def _chosen(self, query: ProfileQuery) -> list[tuple[Samples, npt.NDArray[np.bool_]]]:
        chosen = []
        for batch in self._batches:
            if batch.type == query.type:
                fits = np.array([_fits(labels, query.matchers) for labels in batch.labels])
                mask = (batch.times >= query.start_ns) & (batch.times <= query.end_ns)
                chosen.append((batch, mask & fits[batch.labels_of]))
        return chosen


def _fits(labels: Mapping[str, str], matchers: Sequence[Matcher]) -> bool:
    for name, op, wanted in matchers:
        value = labels.get(name, "")
        same = bool(re.fullmatch(wanted, value)) if "~" in op else value == wanted
        if same == op.startswith("!"):
            return False
    return True


class _Tree:
    """Stacks merged into Profile's columns."""

    def __init__(self) -> None:
        self.parent, self.location, self.values = [-1], [-1], [0]
        self.locations: list[Location] = []
        self._numbers: dict[Location, int] = {}
        self._children: dict[tuple[int, int], int] = {}

    def add(self, stack: Stack, value: int) -> None:
        node = 0
        for location in reversed(stack.locations):
            number = self._numbers.setdefault(location, len(self.locations))
            if number == len(self.locations):
                self.locations.append(location)
            node = self._child(node, number)
        self.values[node] += value

    def _child(self, parent: int, location: int) -> int:
        node = self._children.setdefault((parent, location), len(self.parent))
        if node == len(self.parent):
            self.parent.append(parent)
            self.location.append(location)
            self.values.append(0)
        return node
