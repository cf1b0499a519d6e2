"""Protobuf's wire format: what all messages we write or read are made of.

Reading is safe for strangers' bytes: every length is checked and nothing is copied twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from huatuo.errors import HuatuoError

__all__ = [
    "FIXED32",
    "FIXED64",
    "LENGTH",
    "VARINT",
    "WireError",
    "delimited",
    "fields",
    "packed",
    "padded_varints",
    "tag",
    "text",
    "unpacked",
    "varint",
]

Bytes = npt.NDArray[np.uint8]
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # wire types
_LONGEST = 10  # bytes of a varint
_WORD = (1 << 64) - 1


class WireError(HuatuoError):
    """Bytes that are no protobuf message."""


def _encode(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_SMALL = [_encode(value) for value in range(1024)]


def varint(value: int) -> bytes:
    """Negative numbers as their 64 bits."""
    if 0 <= value < 1024:
        return _SMALL[value]
    if 0 <= value < 1 << 14:
        return bytes((value & 0x7F | 0x80, value >> 7))
    if 0 <= value < 1 << 21:
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
    return _encode(value & _WORD)


def tag(field: int, wire_type: int) -> bytes:
    return varint(field << 3 | wire_type)


def delimited(field: int, data: bytes) -> bytes:
    """A field of bytes: a text, a message, packed numbers."""
    return tag(field, LENGTH) + varint(len(data)) + data


def text(field: int, value: str) -> bytes:
    return delimited(field, value.encode("utf-8", "replace"))


def packed(values: npt.NDArray[Any]) -> bytes:
    """Varints one after the other; int64 or uint64 (n,)."""
    words = values.astype(np.int64, copy=False).view(np.uint64)
    digits = _digits(words, _length(words))
    shifts = np.arange(digits.shape[1], dtype=np.uint64) * np.uint64(7)
    used = (words[:, None] >> shifts) != 0
    digits[:, :-1][used[:, 1:]] |= np.uint8(0x80)
    used[:, 0] = True
    return bytes(digits[used])


def padded_varints(values: npt.NDArray[np.uint64]) -> Bytes:
    """All in the length of the longest: shape (…, length)."""
    digits = _digits(values, _length(values))
    digits[..., :-1] |= np.uint8(0x80)
    return digits


def _length(values: npt.NDArray[np.uint64]) -> int:
    return max((int(values.max(initial=0)).bit_length() + 6) // 7, 1)


def _digits(values: npt.NDArray[np.uint64], length: int) -> Bytes:
    shifts = np.arange(length, dtype=np.uint64) * np.uint64(7)
    return (values[..., None] >> shifts).astype(np.uint8) & np.uint8(0x7F)


def unpacked(data: bytes | memoryview) -> npt.NDArray[np.uint64]:
    """The reverse of `packed`. Raises WireError."""
    raw = np.frombuffer(data, np.uint8)
    last = np.flatnonzero(raw < 0x80)
    if len(raw) and (not len(last) or last[-1] != len(raw) - 1):
        raise WireError("a number is cut off")
    if not len(raw):
        return np.empty(0, np.uint64)
    starts = np.concatenate([[0], last[:-1] + 1])
    sizes = last - starts + 1
    if int(sizes.max()) > _LONGEST:
        raise WireError("a number is too long")
    place = np.arange(len(raw)) - np.repeat(starts, sizes)
    parts = (raw & np.uint8(0x7F)).astype(np.uint64) << (place.astype(np.uint64) * np.uint64(7))
    return np.add.reduceat(parts, starts)


def _varint_at(data: memoryview, at: int) -> tuple[int, int]:
    """(value, position after it)."""
    value = shift = 0
    for place in range(at, min(at + _LONGEST, len(data))):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _WORD, place + 1
        shift += 7
    raise WireError("a number is cut off or too long")


def fields(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    """(number, wire type, value) of each field: int for numbers as they stand, else a view.

    Raises WireError.
    """
    at, end = 0, len(data)
    while at < end:
        key = data[at]  # numbers of one byte, the most frequent ones, without a call
        if key < 0x80:
            at += 1
        else:
            key, at = _varint_at(data, at)
        kind = key & 7
        if kind in (VARINT, LENGTH):
            if at < end and data[at] < 0x80:
                size = data[at]
                at += 1
            else:
                size, at = _varint_at(data, at)
            if kind == VARINT:
                yield key >> 3, kind, size
                continue
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise WireError(f"wire type {kind} is not known")
        if size > end - at:
            raise WireError("a field is longer than its message")
        yield key >> 3, kind, data[at : at + size]
        at += size
