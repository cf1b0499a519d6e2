"""How parts of the dictionary are stored: texts, digests, nodes in columns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt

from huatuo.model.profile import Line, Location
from huatuo.store.codec import BadBlock, compress, decode_codes, decompress, encode_codes

__all__ = ["LINES", "WORD", "clean", "digest", "encode_nodes", "nodes_of", "plain"]

Ints = npt.NDArray[np.int64]
LINES = np.dtype([("name", "<u4"), ("line", "<i4")])  # of a location, one after the other
WORD = 2**64 - 1
_LONGEST_TEXT = 4096
_pack = msgspec.msgpack.Encoder().encode


def clean(text: str) -> str:
    """As it is stored: valid Unicode of bounded length, whatever a stranger's file says."""
    text = text[:_LONGEST_TEXT]
    return text if text.isascii() else text.encode(errors="replace").decode()


def plain(location: Location) -> Location:
    kind, mapping, address, build_id, lines = location
    cleaned = tuple(
        Line(clean(function), clean(file), min(max(line, 0), 2**31 - 1))
        for function, file, line in lines
    )
    return Location(kind, clean(mapping), address & WORD, clean(build_id), cleaned)


def digest(parts: tuple[object, ...]) -> int:
    """64 bits, signed as SQLite has them."""
    data = hashlib.blake2b(_pack(parts), digest_size=8).digest()
    return int.from_bytes(data, "little", signed=True)


def encode_nodes(first: int, parents: Ints, numbers: Ints) -> bytes:
    """Neighbouring nodes from number `first` on: their parents and locations."""
    nodes = first + np.arange(len(parents))
    return compress(encode_codes(nodes - parents) + encode_codes(numbers))


def nodes_of(
    first: int, count: int, data: bytes, on_bad_block: Callable[[str], None]
) -> tuple[Ints, Ints]:
    """(parents, locations) of a chunk, by its row. What cannot be read hangs below the root, with
    location 0, which is none."""
    try:
        raw = memoryview(decompress(data))
        above, raw = decode_codes(raw, count)
        numbers, _ = decode_codes(raw, count)
    except (BadBlock, IndexError) as error:
        on_bad_block(f"a part of the stacks of profiles cannot be read: {error}")
        return np.zeros(count, np.int64), np.zeros(count, np.int64)
    return (first & 0xFFFFFFFF) + np.arange(count) - above, numbers
