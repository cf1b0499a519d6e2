"""io.prometheus.client.MetricFamily messages, written by hand: it takes four wire types.

Histograms carry classic buckets and a native histogram of schema 0, whose bucket i covers
(2^(i-1), 2^i] seconds. Ours (model/metric.py) map without resampling:

    slot 0, below 2^-20 s      the zero bucket, whose threshold is 2^-20: exactly the slot
    slot i                     native bucket i - 20
    last slot, 32 s and more   native bucket 6, (32, 64]: as a quantile of classic buckets would
                               never exceed the last bound, this one never exceeds 64 s. Putting
                               it into the overflow bucket would make it 1.8e308.

A value that is a power of two to the nanosecond stands one bucket higher than `le` demands.

Counts are varints of one length per family, padded with continuation bits where needed. That is
valid protobuf, and it lets numpy lay out all buckets of a family at once.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from huatuo.export.families import Family, Kept, Labels, Rendering, families
from huatuo.export.wire import FIXED64, LENGTH, VARINT, delimited, padded_varints, tag, text, varint
from huatuo.model.meaning import Role
from huatuo.model.metric import FIRST_EDGE_LOG2, Metric, edges

__all__ = ["protobuf"]

Bytes = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.uint64]

_TYPES = {Role.COUNTER: 0, Role.GAUGE: 1, Role.HISTOGRAM: 4}
_UNTYPED = 3
_VALUE_FIELD = {Role.COUNTER: 3, Role.GAUGE: 2}  # of Metric; 5 is untyped
# sample_sum = 2: double, schema = 5: sint32 (0), zero_threshold = 6: double, each behind its tag
_FIXED = struct.Struct("<BdBBBd")
_ZERO_THRESHOLD = 2.0**FIRST_EDGE_LOG2


def protobuf(metrics: Sequence[Metric]) -> bytes:
    """Families one after the other, each behind its length."""
    labels = _LABELS.rendering()
    body: list[bytes] = []
    for family in families(metrics):
        message = b"".join(_family(family, labels))
        body += (varint(len(message)), message)
    labels.done()
    return b"".join(body)


def _family(family: Family, strings: Rendering[list[bytes]]) -> list[bytes]:
    kind = _TYPES.get(family.kind, _UNTYPED)
    out = [text(1, family.name), text(2, family.help), tag(3, VARINT) + varint(kind)]
    for number, (metric, labels) in enumerate(family.parts):
        pairs = strings.get(family.name, number, labels, metric)
        if metric.values.ndim == 2:
            bodies = _histograms(metric)
        else:
            bodies = _scalars(metric, _VALUE_FIELD.get(family.kind, 5))
        for pair, body in zip(pairs, bodies, strict=True):
            out += (b"\x22", varint(len(pair) + len(body)), pair, body)  # metric = 4
    return out


def _scalars(metric: Metric, field: int) -> list[bytes]:
    """field { value = 1: double }"""
    values = metric.values.astype("<f8").tobytes()
    head = tag(field, LENGTH) + b"\x09" + tag(1, FIXED64)
    return [head + values[at : at + 8] for at in range(0, len(values), 8)]


def _histograms(metric: Metric) -> list[bytes]:
    """histogram = 7 of each series."""
    slots = metric.values.astype(np.uint64, copy=False)
    sums = metric.sums if metric.sums is not None else np.zeros(len(slots))
    cumulative = np.cumsum(slots, axis=1, dtype=np.uint64)
    classic = _buckets(cumulative)
    native, deltas = slots[:, 1:], _deltas(slots[:, 1:])
    used = native != 0
    firsts = used.argmax(axis=1).tolist()
    lasts = (native.shape[1] - used[:, ::-1].argmax(axis=1)).tolist()
    some = used.any(axis=1).tolist()
    rows = zip(
        cumulative[:, -1].tolist(), sums.tolist(), slots[:, 0].tolist(), strict=True
    )  # fmt: skip
    bodies = []
    for row, (count, total, zero) in enumerate(rows):
        sums_and_schema = _FIXED.pack(0x11, total, 0x28, 0, 0x31, _ZERO_THRESHOLD)
        parts = [b"\x08", varint(count), sums_and_schema, b"\x38", varint(zero), classic[row]]
        if some[row]:
            first, last = firsts[row], lasts[row]
            parts.append(_span(first + 1 + FIRST_EDGE_LOG2, last - first))
            # the first bucket is absolute, each other the difference to its neighbour
            packed = deltas[row, first:last].tobytes()
            parts.append(b"\x6a" + varint(len(packed)) + packed)
        message = b"".join(parts)
        bodies.append(b"\x3a" + varint(len(message)) + message)
    return bodies


def _buckets(cumulative: Counts) -> list[bytes]:
    """bucket = 3 { cumulative_count = 1: uint64, upper_bound = 2: double } of each series."""
    rows, width = cumulative.shape
    counts = padded_varints(cumulative)
    size = counts.shape[2]
    layout = np.empty((rows, width, 2 + 1 + size + 9), np.uint8)
    layout[:, :, 0] = 0x1A
    layout[:, :, 1] = 1 + size + 9
    layout[:, :, 2] = 0x08
    layout[:, :, 3 : 3 + size] = counts
    layout[:, :, 3 + size] = 0x11
    bounds = np.array([*edges(width), np.inf], "<f8")
    layout[:, :, 4 + size :] = bounds.view(np.uint8).reshape(width, 8)
    return [row.tobytes() for row in layout]


def _deltas(native: Counts) -> Bytes:
    """Zigzag differences of neighbours, as varints."""
    signed = native.astype(np.int64)
    differences = np.diff(signed, axis=1, prepend=np.int64(0))
    return padded_varints(((differences << 1) ^ (differences >> 63)).view(np.uint64))


def _span(offset: int, length: int) -> bytes:
    """positive_span = 12 { offset = 1: sint32, length = 2: uint32 }"""
    message = b"\x08" + varint((offset << 1) ^ (offset >> 31)) + b"\x10" + varint(length)
    return delimited(12, message)


def _label_pairs(_name: str, labels: Labels, count: int, _width: int) -> list[bytes]:
    """label = 1 { name = 1, value = 2 } of each series; empty values are no labels."""
    columns: list[list[bytes]] = []
    for label, values in labels:
        name = text(1, label)
        pairs: dict[str, bytes] = {"": b""}
        for value in values:
            if value not in pairs:
                pairs[value] = delimited(1, name + text(2, value))
        columns.append([pairs[value] for value in values])
    return list(map(b"".join, zip(*columns, strict=True))) if columns else [b""] * count


_LABELS = Kept(_label_pairs)
