"""The forms in which Pyroscope and Grafana take a flame graph: levels, tree bytes, DOT."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from huatuo.export.flamegraph import OTHER, FlameTree, Function, sums
from huatuo.export.wire import varint

__all__ = ["Levels", "dot", "levels", "tree_bytes"]

Values = npt.NDArray[np.int64]
_NAMES = {"": "total", OTHER: "other"}
_DOT_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": " "})


class Levels(NamedTuple):
    """`levels`: for each depth int64 (nodes * width), for each node and profile the distance from
    the end of its neighbour to the left, the total and the self value; then the name's number."""

    names: list[str]
    levels: list[Values]
    totals: list[int]
    max_self: int


def levels(tree: FlameTree) -> Levels:
    """Of one profile (four numbers a node) or of two (seven). Nodes without a value are left out:
    they have no width."""
    shown = np.logical_or.reduce(tree.totals != 0, axis=1)
    shown[0] = True
    left = _left(tree)
    width = 3 * tree.totals.shape[1] + 1
    used, names = np.unique(tree.function[shown], return_inverse=True)
    # number 0 is the root, which stands first in the sorted functions
    name = np.zeros(len(tree), np.int64)
    name[shown] = names
    rows = []
    for depth in range(len(tree.levels) - 1):
        nodes = np.arange(tree.levels[depth], tree.levels[depth + 1])
        nodes = nodes[shown[nodes]]
        if not len(nodes):
            break
        row = np.empty((len(nodes), width), np.int64)
        ends = left[nodes] + tree.totals[nodes]
        row[:, 0:-1:3] = left[nodes]
        row[1:, 0:-1:3] -= ends[:-1]
        row[:, 1:-1:3] = tree.totals[nodes]
        row[:, 2:-1:3] = tree.self_values[nodes]
        row[:, -1] = name[nodes]
        rows.append(row.reshape(-1))
    return Levels(
        [_name(tree.functions[number]) for number in used.tolist()],
        rows,
        tree.totals[0].tolist(),
        int(tree.self_values.max(initial=0)),
    )


def _name(function: Function) -> str:
    return _NAMES.get(function.name, function.name)


def _left(tree: FlameTree) -> Values:
    """Where each node begins: a parent's own value stands to the left of its children."""
    left = np.zeros_like(tree.totals)
    for depth in range(1, len(tree.levels) - 1):
        level = slice(tree.levels[depth], tree.levels[depth + 1])
        parent, totals = tree.parent[level], tree.totals[level]
        before = np.cumsum(totals, axis=0) - totals
        first = np.flatnonzero(np.diff(parent, prepend=-2))
        sizes = np.diff(first, append=len(parent))
        within = before - np.repeat(before[first], sizes, axis=0)
        left[level] = left[parent] + tree.self_values[parent] + within
    return left


def tree_bytes(tree: FlameTree) -> bytes:
    """Pyroscope's own: depth first, for each node the name behind its length, the self value and
    the number of children, as varints."""
    if not tree.totals[0, 0]:
        return b""
    children = np.bincount(tree.parent[1:], minlength=len(tree)).tolist()
    names = [
        varint(len(data)) + data
        for data in (
            (_name(function) if function.name else "").encode("utf-8", "replace")
            for function in tree.functions
        )
    ]
    parts = [
        names[function] + varint(value) + varint(count)
        for function, value, count in zip(
            tree.function.tolist(), tree.self_values[:, 0].tolist(), children, strict=True
        )
    ]
    return b"".join([parts[node] for node in _depth_first(tree).tolist()])


def _depth_first(tree: FlameTree) -> npt.NDArray[np.int64]:
    """The nodes in the order of a walk that goes down first."""
    sizes = np.ones(len(tree), np.int64)
    for depth in range(len(tree.levels) - 2, 0, -1):
        level = slice(tree.levels[depth], tree.levels[depth + 1])
        np.add.at(sizes, tree.parent[level], sizes[level])
    position = np.zeros(len(tree), np.int64)
    for depth in range(1, len(tree.levels) - 1):
        level = slice(tree.levels[depth], tree.levels[depth + 1])
        parent = tree.parent[level]
        before = np.cumsum(sizes[level]) - sizes[level]
        first = np.flatnonzero(np.diff(parent, prepend=-2))
        counts = np.diff(first, append=len(parent))
        position[level] = position[parent] + 1 + before - np.repeat(before[first], counts)
    order = np.empty(len(tree), np.int64)
    order[position] = np.arange(len(tree))
    return order


def dot(tree: FlameTree, unit: str, most: int = 100) -> str:
    """A call graph for Graphviz: the `most` functions with the largest totals, and their calls."""
    own, total = sums(tree)
    whole = int(tree.totals[0, 0])
    ranked = np.argsort(-total[:, 0], kind="stable")
    chosen = [n for n in ranked.tolist() if tree.functions[n].name and total[n, 0] > 0][:most]
    lines = ["digraph calls {", 'node [shape=box fontname="sans-serif"]']
    for number in chosen:
        values = f"{int(own[number, 0])} of {int(total[number, 0])} {unit}"
        share = f"{100 * int(total[number, 0]) / whole:.2f}%"
        name = _name(tree.functions[number]).translate(_DOT_ESCAPES)
        lines.append(rf'N{number} [label="{name}\n{values} ({share})"]')
    for (caller, callee), value in _calls(tree).items():
        if caller in chosen and callee in chosen:
            weight = max(1, round(100 * value / whole))
            lines.append(f'N{caller} -> N{callee} [label="{value} {unit}" weight={weight}]')
    return "\n".join([*lines, "}\n"])


def _calls(tree: FlameTree) -> dict[tuple[int, int], int]:
    """(caller, callee) → value; a call below a recursion counts each time."""
    caller = tree.function[np.maximum(tree.parent, 0)]
    pairs, which = np.unique(np.stack([caller, tree.function]), axis=1, return_inverse=True)
    values = np.zeros(pairs.shape[1], np.int64)
    np.add.at(values, which.reshape(-1), tree.totals[:, 0])
    return {
        (int(a), int(b)): int(value)
        for a, b, value in zip(*pairs.tolist(), values.tolist(), strict=True)
        if value
    }
