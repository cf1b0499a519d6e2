"""gzip with a bound on what comes out."""

from __future__ import annotations

import gzip
import zlib

from huatuo.errors import HuatuoError

__all__ = ["TooLarge", "compressed", "expanded", "is_gzip"]

_LEVEL = 4  # for profiles: half the time of 6, 5 % larger
_GZIP = 31  # window bits


class TooLarge(HuatuoError):  # noqa: N818  (reads as a sentence)
    """More than was allowed."""


def is_gzip(data: bytes) -> bool:
    return data[:2] == b"\x1f\x8b"


def compressed(data: bytes) -> bytes:
    return gzip.compress(data, _LEVEL, mtime=0)


def expanded(data: bytes, limit: int) -> bytes:
    """gzip'd bytes, all members, or bytes as they are. Raises TooLarge beyond `limit` bytes,
    HuatuoError for gzip that is damaged."""
    if not is_gzip(data):
        if len(data) > limit:
            raise TooLarge(f"larger than {limit} bytes")
        return data
    out: list[bytes] = []
    left = limit
    while data:
        reader = zlib.decompressobj(_GZIP)
        try:
            part = reader.decompress(data, left + 1)
        except zlib.error as error:
            raise HuatuoError(f"not valid gzip: {error}") from None
        left -= len(part)
        if left < 0:
            raise TooLarge(f"larger than {limit} bytes after decompression")
        if not reader.eof:
            raise HuatuoError("not valid gzip: cut off")
        out.append(part)
        data = reader.unused_data
    return b"".join(out)
