"""Calling-context trees by function: what flame graphs, folded stacks and tables are made of.

A Profile's nodes are addresses; here one node is one function below one caller, with inlined
functions as nodes of their own. One profile or two that are to be compared make one tree, aligned
by the path of functions. Everything is done level by level in numpy, nothing node by node.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from huatuo.model.profile import Location, Profile

__all__ = [
    "OTHER",
    "FlameTree",
    "Frames",
    "Function",
    "below",
    "flame_tree",
    "frames",
    "place",
    "sums",
]

Ints = npt.NDArray[np.int32]
Values = npt.NDArray[np.int64]

OTHER = "(other)"  # what was pruned below one function


class Function(NamedTuple):
    """What makes a node: equal ones below one parent are one. The root's name is empty."""

    name: str
    kind: str = ""
    mapping: str = ""


@dataclass(frozen=True, slots=True)
class Frames:
    """A Profile with inlined functions as nodes: columns (n,), parents before children, node 0 the
    root. `line` indexes the location's lines; -1 where there are none. -1 at the root."""

    parent: Ints
    location: Ints
    line: Ints
    self_values: Values


@dataclass(frozen=True, slots=True)
class FlameTree:
    """Nodes level by level, siblings together and in order of name; node 0 is the root.

    `parent` (n,), -1 at the root; `function` (n,) indexes `functions`, which are sorted;
    `self_values` and `totals` (n, profiles); nodes levels[d]:levels[d+1] have depth d. `source`
    (n,) indexes `sources`, (file, line): where most of a node's value was; 0 is nowhere. `dropped`
    is how many nodes were pruned.
    """

    functions: Sequence[Function]
    parent: Ints
    function: Ints
    self_values: Values
    totals: Values
    levels: npt.NDArray[np.int64]
    sources: Sequence[tuple[str, int]]
    source: Ints
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.parent)

    def paths(self, nodes: Iterable[int]) -> Iterable[list[int]]:
        """The functions from below the root down to each node."""
        parent, function = self.parent.tolist(), self.function.tolist()
        for node in nodes:
            path = []
            while node > 0:
                path.append(function[node])
                node = parent[node]
            yield path[::-1]


def flame_tree(
    profiles: Sequence[Profile], max_nodes: int = 0, *, by_name: bool = False
) -> FlameTree:
    """The tree of one or several profiles, a column of values for each.

    `max_nodes` > 0 keeps so many of the largest; what is left out stands as one node "(other)"
    below each function it was called from, so that the values still add up. `by_name` makes one
    of equal names whatever their file.
    """
    keys = _Keys(by_name)
    parent, key, values, source = _joined([keys.add(profile) for profile in profiles])
    ranked = sorted(keys.functions)
    rank = np.empty(len(ranked), np.int64)
    rank[[keys.functions[one] for one in ranked]] = np.arange(len(ranked))
    tree = _merge(_Texts(ranked, list(keys.sources)), parent, rank[key], values, source)
    if 0 < max_nodes < len(tree):
        tree = _prune(tree, max_nodes)
    return tree


def place(location: Location) -> str:
    """What a location without symbols is called: libc.so.6+0x1234."""
    address = f"{location.address:#x}"
    return f"{location.mapping}+{address}" if location.mapping else address


def frames(profile: Profile) -> Frames:
    """See Frames. A node becomes a chain of as many as its location has lines."""
    lines, sizes = _chains(profile)
    ends = np.cumsum(sizes)
    starts = ends - sizes
    count = int(ends[-1])
    location = np.repeat(profile.location, sizes)
    place_in_chain = np.arange(count) - np.repeat(starts, sizes)
    parent = np.arange(-1, count - 1, dtype=np.int32)
    parent[starts[1:]] = ends[profile.parent[1:]] - 1
    line = (lines[location] - 1 - place_in_chain).astype(np.int32)  # outermost first
    line[0] = -1
    self_values = np.zeros(count, np.int64)
    self_values[ends - 1] = profile.self_values
    return Frames(parent, location.astype(np.int32, copy=False), line, self_values)


def _chains(profile: Profile) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(lines of each location, frames of each node)."""
    lines = np.array([len(location.lines) for location in profile.locations] or [0])
    sizes = np.maximum(lines, 1)[profile.location]
    sizes[0] = 1
    return lines, sizes


def below(profile: Profile, call_site: Sequence[str]) -> Profile:
    """Only what was called by way of these functions, from the outermost on."""
    shown = frames(profile)
    location, line = shown.location.tolist(), shown.line.tolist()
    reached = [0] * len(location)  # how many of the call site's functions lead to a frame
    for frame, above in enumerate(shown.parent.tolist()):
        known = reached[above] if frame else 0
        if frame and 0 <= known < len(call_site):
            where = profile.locations[location[frame]]
            name = where.lines[line[frame]].function if line[frame] >= 0 else place(where)
            known = known + 1 if name == call_site[known] else -1
        reached[frame] = known
    inside = np.array(reached) == len(call_site)
    ends = np.cumsum(_chains(profile)[1]) - 1  # a node's value is that of its innermost frame
    return replace(profile, self_values=np.where(inside[ends], profile.self_values, 0))


def sums(tree: FlameTree) -> tuple[Values, Values]:
    """(self, total) of each function (functions, profiles); recursion counts once in totals."""
    shape = (len(tree.functions), tree.totals.shape[1])
    own, total = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    np.add.at(own, tree.function, tree.self_values)
    outermost = np.ones(len(tree), bool)
    above = tree.parent.copy()
    while (above > 0).any():
        outermost &= (tree.function[above] != tree.function) | (above <= 0)
        above = np.where(above > 0, tree.parent[above], above)
    np.add.at(total, tree.function[outermost], tree.totals[outermost])
    return own, total


# -- building --------------------------------------------------------------------------------------


class _Part(NamedTuple):
    """One profile's frames, columns (n,); values get one column per profile when they are joined.
    `key` and `source` are numbers of functions and of places in the source."""

    parent: Ints
    key: npt.NDArray[np.int64]
    values: Values
    source: Ints


class _Texts(NamedTuple):
    functions: Sequence[Function]
    sources: Sequence[tuple[str, int]]


class _Keys:
    """Functions and places in the source by number, over all profiles of a tree."""

    def __init__(self, by_name: bool) -> None:
        self.by_name = by_name
        self.functions: dict[Function, int] = {Function(""): 0, Function(OTHER): 1}
        self.sources: dict[tuple[str, int], int] = {("", 0): 0}

    def add(self, profile: Profile) -> _Part:
        """The frames of a profile, self values as they are."""
        functions, sources, by_name = self.functions, self.sources, self.by_name
        keys: list[int] = []
        places: list[int] = []
        starts = []
        for location in profile.locations:
            starts.append(len(keys))
            kind, mapping = (location.kind, location.mapping) if not by_name else ("", "")
            for name, file, line in location.lines or ((place(location), "", 0),):
                function = Function(name, kind, mapping)
                keys.append(functions.setdefault(function, len(functions)))
                places.append(sources.setdefault((file, line), len(sources)))
        shown = frames(profile)
        index = np.array(starts or [0])[shown.location] + np.maximum(shown.line, 0)
        key = np.array(keys or [0], np.int64)[index]
        source = np.array(places or [0], np.int32)[index]
        key[0] = source[0] = 0
        return _Part(shown.parent, key, shown.self_values, source)


def _joined(parts: Sequence[_Part]) -> _Part:
    """All trees under one root, values (n, trees)."""
    count = sum(len(part.parent) for part in parts) - len(parts) + 1
    parents = np.full(count, -1, np.int32)
    keys = np.zeros(count, np.int64)
    values = np.zeros((count, len(parts)), np.int64)
    sources = np.zeros(count, np.int32)
    at = 1
    for column, (parent, key, self_values, source) in enumerate(parts):
        end = at + len(parent) - 1
        parents[at:end] = np.where(parent[1:] > 0, parent[1:] + (at - 1), 0)
        keys[at:end] = key[1:]
        values[at:end, column] = self_values[1:]
        values[0, column] = self_values[0]
        sources[at:end] = source[1:]
        at = end
    return _Part(parents, keys, values, sources)


def _merge(
    texts: _Texts, parent: Ints, key: npt.NDArray[np.int64], values: Values, source: Ints
) -> FlameTree:
    """One node for all of a level that have the same parent and key; keys order siblings."""
    order, bounds = _levels(parent)
    width = len(texts.functions)
    merged = np.zeros(len(parent), np.int64)  # old node → new node
    parents, keys, levels = [np.array([-1])], [np.zeros(1, np.int64)], [0, 1]
    for depth in range(1, len(bounds) - 1):
        nodes = order[bounds[depth] : bounds[depth + 1]]
        codes = merged[parent[nodes]] * width + key[nodes]
        distinct, which = np.unique(codes, return_inverse=True)
        merged[nodes] = levels[-1] + which
        above, key_of = np.divmod(distinct, width)
        parents.append(above)
        keys.append(key_of)
        levels.append(levels[-1] + len(distinct))
    new_parent = np.concatenate(parents).astype(np.int32)
    self_values = np.zeros((levels[-1], values.shape[1]), np.int64)
    np.add.at(self_values, merged, values)
    totals = self_values.copy()
    for depth in range(len(levels) - 2, 0, -1):
        level = slice(levels[depth], levels[depth + 1])
        np.add.at(totals, new_parent[level], totals[level])
    weight = values.sum(axis=1)
    for depth in range(len(bounds) - 2, 0, -1):
        nodes = order[bounds[depth] : bounds[depth + 1]]
        np.add.at(weight, parent[nodes], weight[nodes])
    largest = np.zeros(levels[-1], np.int64)  # new node → its old node with most value
    heaviest = np.argsort(weight, kind="stable")
    largest[merged[heaviest]] = heaviest  # the last one written stays
    return FlameTree(
        texts.functions,
        new_parent,
        np.concatenate(keys).astype(np.int32),
        self_values,
        totals,
        np.array(levels),
        texts.sources,
        source[largest],
    )


def _levels(parent: Ints) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """(nodes by depth, where each depth begins; the last is the end)."""
    depth = np.ones(len(parent), np.int64)
    depth[0] = 0
    above = np.maximum(parent, 0)
    while above.any():  # each round doubles how far `above` is away
        depth += depth[above]
        above = above[above]
    order = np.argsort(depth, kind="stable")
    return order, np.searchsorted(depth[order], np.arange(int(depth.max()) + 2))


def _prune(tree: FlameTree, max_nodes: int) -> FlameTree:
    """Largest first; of equal ones those nearer to the root, so that no parent goes before."""
    weight = np.abs(tree.totals).sum(axis=1)
    kept = np.zeros(len(tree), bool)
    kept[np.argsort(-weight, kind="stable")[:max_nodes]] = True
    kept[0] = True
    for depth in range(1, len(tree.levels) - 1):  # negative values do not shrink downwards
        level = slice(tree.levels[depth], tree.levels[depth + 1])
        kept[level] &= kept[tree.parent[level]]
    cut = ~kept & kept[np.maximum(tree.parent, 0)]
    cut[0] = False
    there = np.flatnonzero(kept | cut)
    number = np.zeros(len(tree), np.int32)
    number[there] = np.arange(len(there))
    parent = np.where(tree.parent[there] < 0, -1, number[tree.parent[there]]).astype(np.int32)
    other = tree.functions.index(Function(OTHER))
    key = np.where(cut[there], other, tree.function[there]).astype(np.int64)
    values = np.where(cut[there, None], tree.totals[there], tree.self_values[there])
    source = np.where(cut[there], 0, tree.source[there]).astype(np.int32)
    texts = _Texts(tree.functions, tree.sources)
    pruned = _merge(texts, parent, key, values, source)
    return replace(pruned, dropped=len(tree) - int(kept.sum()))
