"""What one source says of a file's addresses, and how several become one.

A layer is a function of the address, in steps: from `starts[i]` up to the next start, `places[i]`
holds. A place is a line of a function, with the place it is inlined into. Layers are laid upon each
other by numpy alone: libLLVM has 95,000 functions, a Go program 3,000,000 steps.

Used in worker processes; nothing here is called by the agent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "DEEPEST",
    "NONE",
    "Layer",
    "Places",
    "compact",
    "empty",
    "laid_upon",
    "of_functions",
    "steps",
]

NONE = 0xFFFF_FFFF  # no such place, text or file
DEEPEST = 64  # functions inlined into each other

U4 = npt.NDArray[np.uint32]
U8 = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Places:
    """Columns uint32 (m,): `names` and `files` index `texts`; `outers` index the places themselves.

    NONE where a file or an outer place is unknown. A name that begins with "0x" is the address of
    a function that has no name.
    """

    names: U4
    files: U4
    lines: U4
    outers: U4
    texts: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, slots=True)
class Layer:
    """`starts` uint64 (n,) ascending; `at` uint32 (n,) indexes `places`, NONE in gaps."""

    starts: U8
    at: U4
    places: Places


def empty() -> Layer:
    nothing = np.zeros(0, np.uint32)
    return Layer(np.zeros(0, np.uint64), nothing, Places(nothing, nothing, nothing, nothing, []))


def of_functions(starts: U8, ends: U8, names: Sequence[bytes]) -> Layer:
    """Functions of which only the name is known; where they overlap, the one that begins last."""
    points, at = steps(starts, ends)
    unknown = np.full(len(names), NONE, np.uint32)
    index = np.arange(len(names), dtype=np.uint32)
    return Layer(points, at, Places(index, unknown, np.zeros_like(index), unknown, names))


def steps(starts: U8, ends: U8) -> tuple[U8, U4]:
    """Ranges [start, end) → (points ascending, index of the range from there on, or NONE).

    Of ranges that overlap the one that begins last counts; of those that begin together the
    shortest, then the first.
    """
    if not len(starts):
        return np.zeros(0, np.uint64), np.zeros(0, np.uint32)
    order = np.lexsort((-np.arange(len(starts)), ~ends, starts))
    begins, finishes = starts[order], ends[order]
    if np.all(finishes[:-1] <= begins[1:]):  # the usual case: nothing overlaps
        return _disjoint(begins, finishes, order.astype(np.uint32))
    return _nested(begins.tolist(), finishes.tolist(), order.tolist())


def _disjoint(begins: U8, finishes: U8, order: U4) -> tuple[U8, U4]:
    points = np.stack([begins, finishes], axis=1).reshape(-1)
    at = np.stack([order, np.full_like(order, NONE)], axis=1).reshape(-1)
    filled = np.append(points[1:] > points[:-1], True)  # of equal points the last counts
    return points[filled], at[filled]


def _nested(begins: list[int], finishes: list[int], order: list[int]) -> tuple[U8, U4]:
    points: list[int] = []
    at: list[int] = []
    open_ones: list[tuple[int, int]] = []  # (end, index), those below have begun before

    def put(point: int, index: int) -> None:
        if points and points[-1] == point:
            at[-1] = index
        else:
            points.append(point)
            at.append(index)

    def close_until(address: int) -> None:
        while open_ones and open_ones[-1][0] <= address:
            end, _ = open_ones.pop()
            while open_ones and open_ones[-1][0] <= end:
                open_ones.pop()
            put(end, open_ones[-1][1] if open_ones else NONE)

    for begin, finish, index in zip(begins, finishes, order, strict=True):
        if finish <= begin:
            continue
        close_until(begin)
        open_ones.append((finish, index))
        put(begin, index)
    close_until(2**64)
    return np.array(points, np.uint64), np.array(at, np.uint32)


def laid_upon(upper: Layer, lower: Layer) -> Layer:
    """`upper` where it has a place, `lower` in its gaps."""
    if not len(upper.starts) or not len(lower.starts):
        return upper if len(upper.starts) else lower
    points = np.union1d(upper.starts, lower.starts)
    above, below = _at(upper, points), _at(lower, points)
    offset = len(upper.places)
    at = np.where(above != NONE, above, np.where(below != NONE, below + np.uint32(offset), NONE))
    changes = np.append(True, at[1:] != at[:-1])
    return Layer(points[changes], at[changes], _joined(upper.places, lower.places))


def _at(layer: Layer, points: U8) -> U4:
    index = np.searchsorted(layer.starts, points, side="right") - 1
    found = layer.at[np.maximum(index, 0)]
    return np.where(index >= 0, found, np.uint32(NONE))


def _joined(first: Places, second: Places) -> Places:
    places, texts = len(first), len(first.texts)
    return Places(
        np.concatenate([first.names, second.names + np.uint32(texts)]),
        np.concatenate([first.files, _shifted(second.files, texts)]),
        np.concatenate([first.lines, second.lines]),
        np.concatenate([first.outers, _shifted(second.outers, places)]),
        [*first.texts, *second.texts],
    )


def _shifted(column: U4, by: int) -> U4:
    return np.where(column == NONE, column, column + np.uint32(by))


def compact(layer: Layer, rename: Callable[[bytes], bytes]) -> Layer:
    """Only what is used, and once: equal places, steps that change nothing, texts.

    `rename` is applied to the names that remain.
    """
    at = layer.at.copy()
    at[at >= len(layer.places)] = NONE
    at, places = _used(at, layer.places)
    at, places = _distinct(at, _used_texts(places, rename))
    changes = np.append(True, at[1:] != at[:-1])[: len(at)]
    if len(at) and at[0] == NONE:
        changes[0] = False
    return Layer(layer.starts[changes], at[changes], places)


def _used(at: U4, places: Places) -> tuple[U4, Places]:
    """Without the places that no step leads to."""
    used = np.zeros(len(places), bool)
    fresh = np.unique(at[at != NONE])
    outers = places.outers.copy()
    outers[outers >= len(places)] = NONE
    for _ in range(DEEPEST):
        used[fresh] = True
        fresh = np.unique(outers[fresh])
        fresh = fresh[fresh != NONE]
        fresh = fresh[~used[fresh]]
        if not len(fresh):
            break
    outers[np.isin(outers, fresh)] = NONE  # inlined too deep: the outermost are left out
    number = np.cumsum(used, dtype=np.uint32) - np.uint32(1)
    return _renumbered(at, number), _chosen(places, outers, used, number)


def _distinct(at: U4, places: Places) -> tuple[U4, Places]:
    """Of equal places one. (Places become equal by this too, but few: it is done once.)"""
    if not len(places):
        return at, places
    order = np.lexsort((places.lines, places.names, places.files, places.outers))
    columns = (places.lines, places.names, places.files, places.outers)
    differs = np.zeros(len(order), bool)
    for column in columns:
        differs[1:] |= column[order][1:] != column[order][:-1]
    differs[0] = True
    number = np.empty(len(order), np.uint32)
    number[order] = np.cumsum(differs, dtype=np.uint32) - np.uint32(1)
    return _renumbered(at, number), _chosen(places, places.outers, order[differs], number)


def _chosen(
    places: Places, outers: U4, which: npt.NDArray[np.bool_ | np.intp], number: U4
) -> Places:
    """Those places alone; `number` is what an old one is now called."""
    return Places(
        places.names[which],
        places.files[which],
        places.lines[which],
        _renumbered(outers[which], number),
        places.texts,
    )


def _renumbered(column: U4, number: U4) -> U4:
    if not len(number):
        return column
    return np.where(column == NONE, column, number[np.where(column == NONE, 0, column)])


def _used_texts(places: Places, rename: Callable[[bytes], bytes]) -> Places:
    numbers: dict[bytes, int] = {}

    def renumbered(column: U4, change: Callable[[bytes], bytes]) -> U4:
        number = np.full(len(places.texts) + 1, NONE, np.uint32)
        within = np.where(column < len(places.texts), column, len(places.texts))
        for index in np.unique(within[within < len(places.texts)]).tolist():
            number[index] = numbers.setdefault(change(places.texts[index]), len(numbers))
        return number[within]

    names = renumbered(places.names, rename)
    files = renumbered(places.files, lambda text: text)
    return Places(names, files, places.lines, places.outers, list(numbers))
