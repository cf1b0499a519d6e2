"""Protobuf, read by a decoder that knows nothing of the encoder."""

from __future__ import annotations

import struct
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from huatuo.export.protobuf import protobuf
from huatuo.model.meaning import Role
from huatuo.model.metric import Column, Metric, edges

SLOTS = 27
Message = dict[int, list[Any]]


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def decode(data: bytes) -> Message:
    fields: Message = defaultdict(list)
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        if tag & 7 == 0:
            value, at = varint(data, at)
            fields[tag >> 3].append(value)
        elif tag & 7 == 1:
            fields[tag >> 3].append(struct.unpack_from("<d", data, at)[0])
            at += 8
        else:
            assert tag & 7 == 2
            size, at = varint(data, at)
            assert at + size <= len(data)
            fields[tag >> 3].append(data[at : at + size])
            at += size
    return fields


def signed(value: int) -> int:
    return value >> 1 ^ -(value & 1)


def families(metrics: list[Metric]) -> list[Message]:
    data = protobuf(metrics)
    at, found = 0, []
    while at < len(data):
        size, at = varint(data, at)
        found.append(decode(data[at : at + size]))
        at += size
    return found


def labels(metric: Message) -> dict[str, str]:
    pairs = (decode(pair) for pair in metric[1])
    return {pair[1][0].decode(): pair[2][0].decode() for pair in pairs}


def native(histogram: Message) -> dict[int, int]:
    """Bucket index → count."""
    deltas = []
    for packed in histogram[13]:
        at = 0
        while at < len(packed):
            value, at = varint(packed, at)
            deltas.append(signed(value))
    found, index, count = {}, 0, 0
    for raw in histogram[12]:
        span = decode(raw)
        index += signed(span[1][0])
        for _ in range(span[2][0]):
            count += deltas.pop(0)
            found[index] = count
            index += 1
    assert not deltas
    return found


def test_scalars() -> None:
    found = families(
        [
            Metric.of(
                "a_total", Role.COUNTER, "an a", {("x", ""): 1.5, ("ü", "1"): 2.0}, ["l", "m"]
            ),
            Metric.of("b", Role.GAUGE, "a b", {(): -3.0}),
        ]
    )
    assert [f[1][0] for f in found] == [b"a_total", b"b"]
    assert [f[2][0] for f in found] == [b"an a", b"a b"]
    assert [f[3][0] for f in found] == [0, 1]
    first, second = map(decode, found[0][4])
    assert labels(first) == {"l": "x"}  # an empty value is no label
    assert labels(second) == {"l": "ü", "m": "1"}
    assert decode(first[3][0])[1] == [1.5]
    assert decode(decode(found[1][4][0])[2][0])[1] == [-3.0]


@given(
    st.lists(
        st.lists(st.integers(0, 2**40), min_size=SLOTS, max_size=SLOTS), min_size=1, max_size=4
    )
)
def test_histograms(rows: list[list[int]]) -> None:
    slots = np.array(rows, np.uint64)
    names = [f"c{i}" for i in range(len(rows))]
    sums = np.arange(len(rows)) / 4
    metric = Metric("h", Role.HISTOGRAM, "h", slots, {"container": Column(names)}, sums)
    (family,) = families([metric])
    assert family[3] == [4]
    for row, name, total, raw in zip(rows, names, sums, family[4], strict=True):
        message = decode(raw)
        assert labels(message) == {"container": name}
        histogram = decode(message[7][0])
        assert histogram[1] == [sum(row)]
        assert histogram[2] == [total]
        buckets = [decode(bucket) for bucket in histogram[3]]
        assert [b[1][0] for b in buckets] == np.cumsum(row).tolist()
        assert [b[2][0] for b in buckets] == [*edges(SLOTS), float("inf")]
        assert signed(histogram[5][0]) == 0
        assert histogram[6] == [2.0**-20]  # all of slot 0, from 0 up to its edge
        assert histogram[7] == [row[0]]
        counts = {index: count for index, count in native(histogram).items() if count}
        assert counts == {slot - 20: row[slot] for slot in range(1, SLOTS) if row[slot]}
        assert sum(counts.values()) + row[0] == sum(row)


def test_native_buckets_have_the_edges_of_the_slots() -> None:
    """Bucket i of schema 0 ends at 2^i, as slot i + 20; only the last slot has no end."""
    for slot in range(1, SLOTS - 1):
        row = np.zeros((1, SLOTS), np.uint64)
        row[0, slot] = 5
        (family,) = families([Metric("h", Role.HISTOGRAM, "", row, {}, np.zeros(1))])
        histogram = decode(decode(family[4][0])[7][0])
        assert native(histogram) == {slot - 20: 5}
        assert 2.0 ** (slot - 20) == edges(SLOTS)[slot]


def test_the_last_slot_stays_finite() -> None:
    row = np.zeros((1, SLOTS), np.uint64)
    row[0, -1] = 1
    (family,) = families([Metric("h", Role.HISTOGRAM, "", row, {}, np.zeros(1))])
    assert native(decode(decode(family[4][0])[7][0])) == {6: 1}  # (32, 64] seconds


def test_empty_histogram_is_still_native() -> None:
    """Prometheus takes a histogram for native by its zero threshold, spans or zero count."""
    row = np.zeros((1, SLOTS), np.uint64)
    (family,) = families([Metric("h", Role.HISTOGRAM, "", row, {}, np.zeros(1))])
    histogram = decode(decode(family[4][0])[7][0])
    assert histogram[6][0] > 0
    assert histogram[12] == []


@pytest.mark.parametrize("count", [0, 1, 127, 128, 2**32, 2**63 - 1])
def test_counts_of_any_size(count: int) -> None:
    row = np.array([[count, 0, 0]], np.uint64)
    (family,) = families([Metric("h", Role.HISTOGRAM, "", row, {}, np.zeros(1))])
    histogram = decode(decode(family[4][0])[7][0])
    assert histogram[1] == histogram[7] == [count]
