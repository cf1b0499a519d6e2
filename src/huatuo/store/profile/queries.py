"""Answers of the profile store: merging, values over time, labels."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from huatuo.errors import BadQuery
from huatuo.model.profile import PROFILE_TYPES, Profile, ProfileType
from huatuo.store.profile import lookup
from huatuo.store.profile.labels import LabelTable, combine
from huatuo.store.profile.locations import LocationTable
from huatuo.store.profile.log import STATUS, Found, ProfileLog
from huatuo.store.profile.samples import MILLISECOND
from huatuo.store.profile.tree import Tree
from huatuo.store.profiles import ProfileQuery, ProfileSeries

__all__ = ["labels", "merge", "series"]

Ints = npt.NDArray[np.int64]
Key = tuple[str, ...]  # values of the labels that series are told apart by
_MAX_CELLS = 4_000_000  # of an answer: steps x series


def _type_of(query: ProfileQuery) -> ProfileType:
    """Raises BadQuery."""
    try:
        return PROFILE_TYPES[query.type]
    except KeyError:
        known = ", ".join(PROFILE_TYPES)
        raise BadQuery(f"{query.type}: no such type of profile; there are {known}") from None


def labels(db: sqlite3.Connection, log: ProfileLog, query: ProfileQuery) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    for block in log.find(db, query):
        sets = np.unique(block.groups.sets[block.groups.counts > 0])
        for name, (words, codes) in block.groups.labels.columns.items():
            used = np.unique(codes[sets]).tolist()
            found.setdefault(name, set()).update(words[code] for code in used)
    found.pop(STATUS, None)
    return {name: sorted(words - {""}) for name, words in sorted(found.items()) if words - {""}}


@dataclass(slots=True)
class _Values:
    """What the samples of one epoch add up to at each node."""

    values: Ints
    used: npt.NDArray[np.bool_]


@dataclass(slots=True)
class _Sum:
    """Everything that is added up while blocks are read."""

    is_gauge: bool
    epochs: dict[int, _Values] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    samples: int = 0
    times: list[Ints] = field(default_factory=list)

    def add(self, block: Found, nodes: int) -> None:
        """`nodes`: how many the epoch has."""
        groups = block.groups
        of_epoch = self.epochs.get(block.epoch)
        if of_epoch is None:
            of_epoch = _Values(np.zeros(nodes, np.int64), np.zeros(nodes, np.bool_))
            self.epochs[block.epoch] = of_epoch
        np.add.at(of_epoch.values, groups.nodes, groups.sums)
        of_epoch.used[groups.nodes[groups.counts > 0]] = True
        self.samples += int(groups.counts.sum())
        words, codes = groups.labels.column(STATUS)
        values, counts = np.zeros(len(words), np.int64), np.zeros(len(words), np.int64)
        np.add.at(values, codes[groups.sets], groups.sums)
        np.add.at(counts, codes[groups.sets], groups.counts)
        for word, value, count in zip(words, values.tolist(), counts.tolist(), strict=True):
            if count:
                self.statuses[word] = self.statuses.get(word, 0) + value
        if self.is_gauge and block.rows is not None:
            self.times.append(np.unique(block.rows.times))


def merge(
    db: sqlite3.Connection,
    log: ProfileLog,
    query: ProfileQuery,
    on_bad_block: Callable[[str], None],
) -> Profile:
    profile_type = _type_of(query)
    total = _Sum(profile_type.is_gauge)
    nodes = dict(db.execute("SELECT id, nodes FROM profile_epochs").fetchall())
    for block in log.find(db, query, with_rows=profile_type.is_gauge):
        total.add(block, nodes[block.epoch])
    trees, locations = _trees(db, total.epochs, on_bad_block)
    merged = Tree.merged(trees)
    moments = _distinct(total.times) if profile_type.is_gauge else 1
    start, end = log.bounds(db, query)
    return Profile(
        type=profile_type,
        start_ns=start,
        end_ns=end,
        locations=locations,
        parent=merged.parents.astype(np.int32),
        location=merged.locations.astype(np.int32),
        self_values=merged.values // moments,
        samples=total.samples,
        statuses={word: value // moments for word, value in total.statuses.items()},
    )


def _trees(
    db: sqlite3.Connection, epochs: dict[int, _Values], on_bad_block: Callable[[str], None]
) -> tuple[list[Tree], LocationTable]:
    """What is used of each epoch's tree, and the locations that all of them refer to."""
    trees = [Tree(np.array([-1]), np.array([0]), np.zeros(1, np.int64))]
    numbers: list[Ints] = []
    digests: list[Ints] = []
    for epoch, found in epochs.items():
        whole = Tree(*lookup.tree(db, epoch, on_bad_block), found.values)
        tree = whole.pruned(found.used)
        own, at = np.unique(tree.locations[1:], return_inverse=True)
        before = sum(map(len, numbers))
        trees.append(tree._replace(locations=np.append(0, at + before)))
        numbers.append(own)
        digests.append(lookup.digests(db, epoch, own))
    if not epochs:
        return trees, LocationTable()
    _, first, same = np.unique(np.concatenate(digests), return_index=True, return_inverse=True)
    place = np.argsort(np.argsort(first))[same]  # of each in the list, the first of equals
    is_first = np.zeros(len(place), np.bool_)
    is_first[first] = True
    locations = LocationTable()
    before = 0
    for epoch, own in zip(epochs, numbers, strict=True):
        chosen = own[is_first[before : before + len(own)]]
        locations.extend(lookup.locations(db, epoch, chosen))
        before += len(own)
    return [
        tree._replace(locations=np.append(place, 0)[tree.locations]) for tree in trees
    ], locations


def _distinct(times: Iterable[Ints]) -> int:
    parts = list(times)
    return len(np.unique(np.concatenate(parts))) if parts else 1


def series(
    db: sqlite3.Connection,
    log: ProfileLog,
    query: ProfileQuery,
    step_ns: int,
    by: Sequence[str],
    spread: bool = False,
) -> list[ProfileSeries]:
    steps = (_Spread if spread else _Steps)(query, step_ns, by)
    for block in log.find(db, query, with_rows=True):
        steps.add(block)
    return steps.answer()


class _Steps:
    """Values per step of each series, while blocks are read. Raises BadQuery."""

    def __init__(self, query: ProfileQuery, step_ns: int, by: Sequence[str]) -> None:
        if query.end_ns >= 2**63 - 1 or step_ns <= 0:
            raise BadQuery("values over time need a range with an end and a step above zero")
        self._start_ns, self._step_ns, self._by = query.start_ns, step_ns, by
        self._steps = max((query.end_ns - query.start_ns) // step_ns + 1, 0)
        self._is_gauge = _type_of(query).is_gauge
        self._sums: dict[Key, Ints] = {}
        self._times: dict[Key, list[Ints]] = {}

    def add(self, block: Found) -> None:
        assert block.rows is not None
        keys, key_of_set = _keys(block.groups.labels, self._by)
        key_of = key_of_set[block.groups.sets][block.rows.group_of]
        times = block.rows.times
        self._add(keys, key_of, times, block.rows.values)
        if self._is_gauge:
            pairs = combine([key_of, (times - times[0]) // MILLISECOND], len(times))
            first = np.unique(pairs, return_index=True)[1]
            for at, run in _runs(key_of[first]):
                self._times.setdefault(keys[at], []).append(times[first][run])

    def _add(self, keys: list[Key], key_of: Ints, times: Ints, values: Ints) -> None:
        self._count(keys, key_of, self._step(times), values, self._sum)

    def _count(
        self, keys: list[Key], key_of: Ints, step: Ints, values: Ints, into: Callable[[Key], Ints]
    ) -> None:
        """Add each value to its step in what `into` gives for its key."""
        width = self._steps + 1
        cells, cell_of = np.unique(key_of * width + step, return_inverse=True)
        sums = np.zeros(len(cells), np.int64)
        np.add.at(sums, cell_of, values)
        for at, run in _runs(cells // width):
            into(keys[at])[cells[run] % width] += sums[run]

    def _sum(self, key: Key) -> Ints:
        if key not in self._sums:
            if (len(self._sums) + 1) * self._steps > _MAX_CELLS:
                raise BadQuery(f"more than {_MAX_CELLS} values: ask for fewer series or steps")
            self._sums[key] = np.zeros(self._steps, np.int64)
        return self._sums[key]

    def _step(self, times: Ints) -> Ints:
        return (times - self._start_ns) // self._step_ns

    def answer(self) -> list[ProfileSeries]:
        for key, parts in self._times.items():
            moments = self._step(np.unique(np.concatenate(parts)))
            self._sums[key] //= np.maximum(np.bincount(moments, minlength=self._steps), 1)
        return [
            ProfileSeries({n: w for n, w in zip(self._by, key, strict=True) if w}, self._sums[key])
            for key in sorted(self._sums)
        ]


class _Spread(_Steps):
    """A value is what lies between two ramps: one rises from where its time begins, one from where
    it ends. A ramp counts for a part of the step it begins in, and wholly from the next one on."""

    def __init__(self, query: ProfileQuery, step_ns: int, by: Sequence[str]) -> None:
        super().__init__(query, step_ns, by)
        self._ramps: dict[Key, Ints] = {}  # how many more begin before each step than end

    def _add(self, keys: list[Key], key_of: Ints, times: Ints, values: Ints) -> None:
        begins = np.maximum(times - np.maximum(values, 0), self._start_ns)
        for sign, at in ((1, begins), (-1, times)):
            step = self._step(at)
            rest = (step + 1) * self._step_ns - (at - self._start_ns)
            self._count(keys, key_of, step, sign * rest, self._sum)
            self._count(keys, key_of, step + 1, np.full(len(at), sign), self._ramp)

    def _ramp(self, key: Key) -> Ints:
        return self._ramps.setdefault(key, np.zeros(self._steps + 1, np.int64))

    def answer(self) -> list[ProfileSeries]:
        for key, ramps in self._ramps.items():
            self._sums[key] += self._step_ns * np.cumsum(ramps[:-1])
        return super().answer()


def _runs(ascending: Ints) -> Iterator[tuple[int, slice]]:
    """Each distinct number, and where it stands."""
    starts = np.flatnonzero(np.diff(ascending, prepend=-1)).tolist()
    for start, end in pairwise([*starts, len(ascending)]):
        yield int(ascending[start]), slice(start, end)


def _keys(table: LabelTable, by: Sequence[str]) -> tuple[list[Key], Ints]:
    """The distinct words of these labels, and which of them each set has."""
    columns = [table.column(name) for name in by]
    combined = combine([codes for _, codes in columns], table.size)
    _, first, number = np.unique(combined, return_index=True, return_inverse=True)
    keys = [tuple(words[codes[at]] for words, codes in columns) for at in first.tolist()]
    return keys, number
