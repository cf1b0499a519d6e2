"""Our messages beside google's protobuf package, with descriptors made here from field lists."""

from __future__ import annotations

import contextlib
import random
from typing import Annotated

import numpy as np
import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from huatuo.export.message import Message
from huatuo.export.wire import WireError, fields, packed, unpacked, varint
from tests.export.descriptors import messages

_T = messages(
    "test",
    Point="value:double:1 timestamp:int64:2",
    Series="name:string:1 points:Point[]:2 numbers:int64[]:3 big:uint64[]:4 raw:bytes:5 "
    "on:bool:6 fixed:fixed64:7 fixeds:fixed64[]:8 point:Point:9 words:string[]:10 "
    "small_int:int32:11",
)


class Point(Message):
    value: Annotated[float, 1] = 0.0
    timestamp: Annotated[int, 2] = 0


class Series(Message):
    name: Annotated[str, 1] = ""
    points: Annotated[list[Point], 2] = []  # noqa: RUF012
    numbers: Annotated[list[int], 3] = []  # noqa: RUF012
    big: Annotated[list[int], 4, "uint64"] = []  # noqa: RUF012
    raw: Annotated[bytes, 5] = b""
    on: Annotated[bool, 6] = False
    fixed: Annotated[int, 7, "fixed64"] = 0
    fixeds: Annotated[list[int], 8, "fixed64"] = []  # noqa: RUF012
    point: Annotated[Point | None, 9] = None
    words: Annotated[list[str], 10] = []  # noqa: RUF012
    small_int: Annotated[int, 11, "int32"] = 0


_int64 = st.integers(-(2**63), 2**63 - 1)
_uint64 = st.integers(0, 2**64 - 1)
_text = st.text(st.characters(codec="utf-8"), max_size=20)
_points = st.builds(Point, st.floats(allow_nan=False, allow_infinity=False), _int64)
_series = st.builds(
    Series,
    _text,
    st.lists(_points, max_size=4),
    st.lists(_int64, max_size=100),
    st.lists(_uint64, max_size=100),
    st.binary(max_size=20),
    st.booleans(),
    _uint64,
    st.lists(_uint64, max_size=4),
    st.none() | _points,
    st.lists(_text, max_size=4),
    st.integers(-(2**31), 2**31 - 1),
)


@given(_series)
def test_protobuf_reads_what_we_write_and_the_reverse(series: Series) -> None:
    theirs = _T["Series"].FromString(series.encode())
    assert theirs.name == series.name
    assert [(p.value, p.timestamp) for p in theirs.points] == [
        (p.value, p.timestamp) for p in series.points
    ]
    assert list(theirs.numbers) == series.numbers
    assert list(theirs.big) == series.big
    assert (theirs.raw, theirs.on, theirs.fixed) == (series.raw, series.on, series.fixed)
    assert list(theirs.fixeds) == series.fixeds
    assert theirs.HasField("point") == (series.point is not None)
    assert list(theirs.words) == series.words
    assert theirs.small_int == series.small_int
    assert Series.decode(theirs.SerializeToString()) == series


@given(_series)
def test_the_same_in_json(series: Series) -> None:
    theirs = json_format.ParseDict(series.to_json(), _T["Series"]())
    assert Series.decode(theirs.SerializeToString()) == series
    assert Series.from_json(json_format.MessageToDict(theirs)) == series
    kept = json_format.MessageToDict(theirs, preserving_proto_field_name=True)
    assert Series.from_json(kept) == series


@given(st.lists(_int64))
def test_packed_numbers(values: list[int]) -> None:
    data = packed(np.array(values, np.int64))
    assert data == b"".join(map(varint, values))
    assert unpacked(data).view(np.int64).tolist() == values


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(WireError):
        Series.decode(data)


def test_damaged_messages_are_read_or_refused() -> None:
    rng = random.Random(1)
    whole = Series("x", [Point(1.0, 2)] * 3, list(range(-50, 50)), [2**64 - 1], b"123").encode()
    refused = 0
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            Series.decode(bytes(data[: rng.randint(0, len(data))]))
        except WireError:
            refused += 1
    assert refused > 500


def test_a_message_of_too_many_parts_is_refused() -> None:
    with pytest.raises(WireError, match="too many parts"):
        Series.decode(b"\x12\x00" * 500_001)
    with pytest.raises(WireError, match="too many parts"):
        Series.decode(Series(numbers=[0] * 4_100_000).encode())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "expected an object"),
        ({"name": 1}, "name = 1"),
        ({"numbers": 1}, "numbers = 1"),
        ({"numbers": ["x"]}, "numbers"),
        ({"numbers": [1.5]}, "numbers"),
        ({"numbers": [True]}, "numbers"),
        ({"smallInt": str(2**70)}, "smallInt"),
        ({"raw": "*"}, "raw"),
        ({"point": {"timestamp": {}}}, "timestamp"),
    ],
)
def test_json_that_does_not_fit_is_refused_by_name(given: object, message: str) -> None:
    with pytest.raises(WireError, match=message):
        Series.from_json(given)


def test_unknown_fields_are_skipped() -> None:
    data = Point(1.5, 7).encode() + b"\xfa\x01\x03abc\xf8\x01\x05\xf9\x01" + bytes(8)
    assert Point.decode(data) == Point(1.5, 7)
    assert Point.from_json({"value": 1.5, "timestamp": "7", "more": {}}) == Point(1.5, 7)
    assert len(list(fields(memoryview(data)))) == 5
