"""How columns become bytes: zstd, integers as byte planes of differences, floats as integers.

Cumulative values of one series change little from sample to sample. Their differences are small
numbers whose high bytes are zero; laid out plane by plane (all lowest bytes, then all next ones)
zstd removes nearly all of it. Everything here is exact: what comes out is what went in, bit by bit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = [
    "BadBlock",
    "compress",
    "decode_codes",
    "decode_floats",
    "decode_ints",
    "decompress",
    "encode_codes",
    "encode_floats",
    "encode_ints",
    "unzigzag",
    "zigzag",
]

Ints = npt.NDArray[np.int64]
Unsigned = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]

_EXACT_IN_FLOAT = 2.0**53
_RAW = 255


class BadBlock(ValueError):  # noqa: N818
    """Stored bytes do not decode: the medium changed them."""


def compress(data: bytes, level: int = 3) -> bytes:
    """One frame with a checksum, so that decompressing notices every flipped bit."""
    options: dict[int, int] = {
        zstd.CompressionParameter.compression_level: level,
        zstd.CompressionParameter.checksum_flag: 1,
    }
    return zstd.compress(data, options=options)


def decompress(data: bytes) -> bytes:
    """Raises BadBlock."""
    try:
        return zstd.decompress(data)
    except zstd.ZstdError as error:
        raise BadBlock(str(error)) from error


def _planes(values: Unsigned) -> bytes:
    """The width in bytes, then plane after plane, lowest first."""
    width = (int(values.max(initial=0)).bit_length() + 7) // 8
    columns = values.astype("<u8", copy=False).reshape(-1, 1).view(np.uint8)
    return bytes([width]) + columns[:, :width].T.tobytes()


def _from_planes(data: memoryview, count: int) -> tuple[Unsigned, memoryview]:
    width = data[0]
    end = 1 + width * count
    if width > 8 or len(data) < end:
        raise BadBlock("a column ends early")
    columns = np.zeros((count, 8), np.uint8)
    columns[:, :width] = np.frombuffer(data[1:end], np.uint8).reshape(width, count).T
    return columns.view("<u8").reshape(count).astype(np.uint64, copy=False), data[end:]


def zigzag(values: Ints) -> Unsigned:
    """Small numbers of either sign → small numbers."""
    return ((values << 1) ^ (values >> 63)).view(np.uint64)


def unzigzag(values: Unsigned) -> Ints:
    one = np.uint64(1)
    return (values >> one).view(np.int64) ^ -((values & one).view(np.int64))


def encode_codes(values: Unsigned | Ints) -> bytes:
    """Numbers that are not negative and have nothing to do with their neighbours: shape (n,)."""
    return _planes(values.astype(np.uint64, copy=False))


def decode_codes(data: memoryview, n: int) -> tuple[Ints, memoryview]:
    """The array of shape (n,) and the bytes after it. Raises BadBlock."""
    if not data:
        raise BadBlock("a column is missing")
    values, rest = _from_planes(data, n)
    return values.view(np.int64), rest


def encode_ints(values: Ints) -> bytes:
    """Rows of neighbours: shape (rows, n), differences along n. Any int64; wraps around."""
    with np.errstate(over="ignore"):
        first = np.diff(values[:, :1].ravel(), prepend=np.int64(0))
        rest = np.diff(values, axis=1)
    return _planes(zigzag(first)) + _planes(zigzag(rest).ravel())


def decode_ints(data: memoryview, rows: int, n: int) -> tuple[Ints, memoryview]:
    """The array of shape (rows, n) and the bytes after it."""
    if not n:
        return np.empty((rows, 0), np.int64), data[2:]
    first, data = _from_planes(data, rows)
    rest, data = _from_planes(data, rows * (n - 1))
    differences = np.empty((rows, n), np.int64)
    with np.errstate(over="ignore"):
        differences[:, 0] = np.cumsum(unzigzag(first))
        differences[:, 1:] = unzigzag(rest).reshape(rows, n - 1)
        return np.cumsum(differences, axis=1), data


# How floats come about: counts; what the kernel prints with digits after the point; ns by 1e-9.
_SCALES: tuple[tuple[float, Callable[[Floats], Any]], ...] = (
    (1.0, lambda whole: whole),
    (1e2, lambda whole: whole / 1e2),
    (1e9, lambda whole: whole * 1e-9),
    (1e6, lambda whole: whole / 1e6),
)


def encode_floats(values: Floats) -> bytes:
    """Shape (rows, n). Floats that are whole multiples of a usual unit go as integers, others by
    the differences of their bits. NaN is "no sample", whatever its bits."""
    missing = np.isnan(values)
    has_gaps = bool(missing.any())
    head = bytes([has_gaps])
    if has_gaps:
        head += np.packbits(missing).tobytes()
        values = np.where(missing, 0.0, values)
    for code, (scale, restore) in enumerate(_SCALES):
        with np.errstate(over="ignore", invalid="ignore"):
            whole = np.rint(values * scale) + 0.0  # no -0.0, which integers lack
        if np.abs(whole).max(initial=0.0) < _EXACT_IN_FLOAT and _same(restore(whole), values):
            return head + bytes([code]) + encode_ints(whole.astype(np.int64))
    return head + bytes([_RAW]) + encode_ints(np.ascontiguousarray(values).view(np.int64))


def _same(left: Floats, right: Floats) -> bool:
    """Bit by bit: 0.0 is not -0.0."""
    return bool((left.view(np.int64) == np.ascontiguousarray(right).view(np.int64)).all())


def decode_floats(data: memoryview, rows: int, n: int) -> tuple[Floats, memoryview]:
    """The array of shape (rows, n) and the bytes after it."""
    missing = None
    has_gaps, data = data[0], data[1:]
    if has_gaps:
        size = (rows * n + 7) // 8
        bits = np.unpackbits(np.frombuffer(data[:size], np.uint8), count=rows * n)
        missing, data = bits.reshape(rows, n).astype(bool), data[size:]
    code = data[0]
    whole, data = decode_ints(data[1:], rows, n)
    if code == _RAW:
        values = whole.view(np.float64)
    elif code < len(_SCALES):
        values = _SCALES[code][1](whole.astype(np.float64))
    else:
        raise BadBlock(f"unknown scale {code}")
    if missing is not None:
        values[missing] = np.nan
    return values, data
