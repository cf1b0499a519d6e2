"""What comes out of the codecs is what went in, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from huatuo.store.codec import (
    BadBlock,
    compress,
    decode_floats,
    decode_ints,
    decompress,
    encode_floats,
    encode_ints,
)
from huatuo.store.piece import Piece

SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20)
BASE = 1_790_000_000_000_000_000


@given(arrays.arrays(np.int64, SHAPES))
def test_ints(values: np.ndarray) -> None:
    found, rest = decode_ints(memoryview(encode_ints(values) + b"tail"), *values.shape)
    assert found.tolist() == values.tolist()
    assert bytes(rest) == b"tail"


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_no_ints(shape: tuple[int, int]) -> None:
    found, rest = decode_ints(memoryview(encode_ints(np.empty(shape, np.int64)) + b"t"), *shape)
    assert found.shape == shape
    assert bytes(rest) == b"t"


@given(
    st.one_of(
        arrays.arrays(np.float64, SHAPES),
        arrays.arrays(np.int64, SHAPES, elements=st.integers(0, 2**60)).map(lambda a: a * 1e-9),
        arrays.arrays(np.int64, SHAPES, elements=st.integers(-(2**40), 2**40)).map(
            lambda a: a / 100
        ),
        arrays.arrays(
            np.float64, SHAPES, elements=st.sampled_from([0.0, -0.0, 1.0, 0.1, np.nan, np.inf])
        ),
    )
)
def test_floats(values: np.ndarray) -> None:
    found, rest = decode_floats(memoryview(encode_floats(values) + b"tail"), *values.shape)
    missing = np.isnan(values)
    assert (np.isnan(found) == missing).all()
    assert (found.view(np.int64) == values.view(np.int64))[~missing].all()
    assert bytes(rest) == b"tail"


@st.composite
def pieces(draw: st.DrawFn, width: int) -> Piece:
    times = np.array(sorted(draw(st.sets(st.integers(0, 10**6), min_size=1, max_size=8))), np.int64)
    ids = np.array(
        sorted(draw(st.sets(st.integers(1, 2**31 - 1), min_size=1, max_size=8))), np.int32
    )
    shape = (len(times), len(ids))
    values = draw(arrays.arrays(np.float64, shape, elements=st.floats(allow_infinity=False)))
    slots = None
    if width:
        slots = draw(arrays.arrays(np.uint64, (*shape, width)))
        slots[np.isnan(values)] = 0
    return Piece(BASE + times * draw(st.sampled_from([1, 10**6, 10**9])), ids, values, slots)


def samples(piece: Piece) -> dict[tuple[int, int], tuple[object, ...]]:
    """(time, id) → value and slots, of all that are there."""
    found: dict[tuple[int, int], tuple[object, ...]] = {}
    for row, time in enumerate(piece.times.tolist()):
        for column, number in enumerate(piece.ids.tolist()):
            value = piece.values[row, column]
            if not np.isnan(value):
                slots = [] if piece.slots is None else piece.slots[row, column].tolist()
                found[time, number] = (float(value).hex(), *slots)
    return found


@given(st.sampled_from([0, 3]).flatmap(pieces))
def test_pieces(piece: Piece) -> None:
    found = Piece.decode(piece.encode())
    assert samples(found) == samples(piece)
    assert found.times.tolist() == piece.times.tolist()
    assert found.ids.tolist() == piece.ids.tolist()


@given(st.sampled_from([0, 3]).flatmap(lambda w: st.lists(pieces(w), min_size=1, max_size=4)))
def test_merging(parts: list[Piece]) -> None:
    merged = Piece.merge(parts)
    expected: dict[tuple[int, int], tuple[object, ...]] = {}
    for part in parts:
        expected |= samples(part)
    if any(len(part.times) == 1 for part in parts):  # a snapshot also says what is not there
        assert samples(merged).items() <= expected.items()
    else:
        assert samples(merged) == expected
    assert (np.diff(merged.times) > 0).all()
    assert (np.diff(merged.ids) > 0).all()


@given(pieces(0), st.integers(1, 10**12))
def test_thinning_keeps_the_last_of_each_step(piece: Piece, step: int) -> None:
    thin = piece.thin(step)
    last = {time // step: time for time in piece.times.tolist()}
    assert thin.times.tolist() == list(last.values())
    assert samples(thin).items() <= samples(piece).items()


@given(st.binary(max_size=300), st.integers(0, 10**6), st.integers(0, 7))
def test_every_flipped_bit_is_noticed(data: bytes, where: int, bit: int) -> None:
    packed = bytearray(compress(data))
    packed[where % len(packed)] ^= 1 << bit
    try:
        found = decompress(bytes(packed))
    except BadBlock:
        return
    assert found == data  # bits that mean nothing


@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    for raw in (data, compress(data)):
        with pytest.raises(BadBlock):
            Piece.decode(raw)
