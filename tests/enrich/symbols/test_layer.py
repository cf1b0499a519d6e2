"""Layers, against a slow and obvious way to do the same."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from huatuo.enrich.symbols.layer import (
    NONE,
    Layer,
    Places,
    compact,
    empty,
    laid_upon,
    of_functions,
    steps,
)

TOP = 60
ranges = st.lists(st.tuples(st.integers(0, TOP), st.integers(0, 12)), max_size=20)


def arrays(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    starts = np.array([start for start, _ in pairs], np.uint64)
    return starts, starts + np.array([size for _, size in pairs], np.uint64)


def layer(pairs: list[tuple[int, int]], prefix: str) -> Layer:
    names = [f"{prefix}{index}".encode() for index in range(len(pairs))]
    return of_functions(*arrays(pairs), names)


def name_at(layer: Layer, address: int) -> bytes | None:
    index = int(np.searchsorted(layer.starts, np.uint64(address), side="right")) - 1
    place = int(layer.at[index]) if index >= 0 else NONE
    return None if place == NONE else layer.places.texts[int(layer.places.names[place])]


def best(pairs: list[tuple[int, int]], address: int) -> int | None:
    """Of the ranges around an address the last to begin, of those the shortest, then the first."""
    around = [
        (-start, size, index)
        for index, (start, size) in enumerate(pairs)
        if start <= address < start + size
    ]
    return min(around)[2] if around else None


@settings(max_examples=400, deadline=None)
@given(ranges)
def test_steps(pairs: list[tuple[int, int]]) -> None:
    starts, ends = arrays(pairs)
    points, at = steps(starts, ends)
    assert np.all(points[1:] > points[:-1])
    for address in range(TOP + 15):
        index = int(np.searchsorted(points, np.uint64(address), side="right")) - 1
        found = int(at[index]) if index >= 0 else NONE
        wanted = best(pairs, address)
        assert found == (NONE if wanted is None else wanted)


@settings(max_examples=400, deadline=None)
@given(ranges, ranges, ranges)
def test_laid_upon_each_other_and_compacted(
    first: list[tuple[int, int]], second: list[tuple[int, int]], third: list[tuple[int, int]]
) -> None:
    layers = [layer(first, "a"), layer(second, "b"), layer(third, "c")]
    whole = laid_upon(laid_upon(layers[0], layers[1]), layers[2])
    small = compact(whole, lambda name: name.upper())
    for address in range(TOP + 15):
        wanted = next(
            (name for each in layers if (name := name_at(each, address)) is not None), None
        )
        assert name_at(whole, address) == wanted
        assert name_at(small, address) == (wanted and wanted.upper())
    assert set(small.at.tolist()) - {NONE} == set(range(len(small.places)))
    assert np.all(small.at[1:] != small.at[:-1])
    assert len(set(small.places.texts)) == len(small.places.texts) == len(small.places)


def places(rows: list[tuple[int, int, int, int]], texts: list[bytes]) -> Places:
    columns = np.array(rows, np.uint32).reshape(-1, 4).T
    return Places(columns[0], columns[1], columns[2], columns[3], texts)


def test_equal_places_become_one_and_outer_ones_are_kept() -> None:
    texts = [b"inner", b"outer", b"file", b"unused", b"inner"]
    rows = [(0, 2, 5, 2), (4, 2, 5, 2), (1, 2, 9, NONE), (3, NONE, 0, NONE)]
    starts, at = np.array([10, 20, 30], np.uint64), np.array([0, 1, NONE], np.uint32)
    found = compact(Layer(starts, at, places(rows, texts)), lambda name: name)
    assert set(found.places.texts) == {b"inner", b"outer", b"file"}
    (place,) = set(found.at.tolist()) - {NONE}
    outer = int(found.places.outers[place])
    assert found.places.texts[int(found.places.names[outer])] == b"outer"
    assert int(found.places.outers[outer]) == NONE


def test_circles_and_numbers_out_of_range_end() -> None:
    rows = [(0, 9, 1, 1), (9, 0, 1, 0), (0, 0, 1, 77)]
    at = np.array([0, 2, 99], np.uint32)
    whole = Layer(np.array([1, 2, 3], np.uint64), at, places(rows, [b"x"]))
    found = compact(whole, lambda name: name)
    assert len(found.places) == 3
    assert int(found.at[-1]) == NONE


def test_nothing() -> None:
    assert len(laid_upon(empty(), empty()).starts) == 0
    assert len(compact(empty(), lambda name: name).starts) == 0
    assert name_at(laid_upon(empty(), layer([(3, 4)], "a")), 5) == b"a0"
