"""The symbols of one file as a file of our own: written once by a worker, mapped by the agent.

    header          _HEADER, padded to 128 bytes
    starts          uint32 (ranges,) ascending, relative to `base`
    at              uint32 (ranges,) which place holds from that start on, or NONE
    places          uint32 (places, 4): name, file, line, the place it is inlined into
    text_ends       uint64 (texts,): text i is blob[text_ends[i - 1]:text_ends[i]]
    blob            UTF-8

Whatever a number in it says, reading stays within the file and ends: a table that was damaged, or
written by a worker that a hostile file had taken over, gives wrong names at worst.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Sequence
from enum import IntFlag
from pathlib import Path

import numpy as np

from huatuo.enrich.symbols.layer import DEEPEST, NONE, Layer
from huatuo.errors import Malformed
from huatuo.kernel.rooted import open_regular
from huatuo.model.profile import Line

__all__ = ["Source", "Table", "write"]

_MAGIC = b"huatuosy"
VERSION = 1
_HEADER = struct.Struct("<8sIIQQIIIQI")
_HEADER_SIZE = 128
_PLACE = struct.Struct("<4I")
_END = struct.Struct("<Q")
_LONGEST_TEXT = 4096


class Source(IntFlag):
    """Where the symbols of a table come from, and what is wrong with it."""

    DWARF = 1
    GO = 2
    SYMTAB = 4
    MINI = 8  # .gnu_debugdata
    DYNSYM = 16
    FRAMES = 32  # only where functions begin
    SEPARATE = 64  # some of it from a file of debug information
    DEBUGINFOD = 128  # which was downloaded
    MANGLED = 256  # names are as the linker has them
    PARTIAL = 512  # something could not be had today and may be tomorrow
    FAILED = 1024  # empty, because building it failed


def write(fd: int, layer: Layer, sources: Source, created: int) -> int:
    """Writes a table, ready to be renamed to its place; the number of bytes. OSError if it cannot.

    Addresses 4 GiB or more above the first are left out. `created` is UTC seconds.
    """
    places = layer.places
    base = int(layer.starts[0]) if len(layer.starts) else 0
    within = layer.starts - np.uint64(base) < np.uint64(NONE)
    starts = (layer.starts[within] - np.uint64(base)).astype("<u4")
    blob = b"".join(places.texts)
    ends = np.cumsum([len(text) for text in places.texts], dtype="<u8")
    rows = np.stack([places.names, places.files, places.lines, places.outers], axis=1)
    parts = [
        starts, layer.at[within].astype("<u4"), rows.astype("<u4"), ends.astype("<u8"), blob,
    ]  # fmt: skip
    header = _HEADER.pack(
        _MAGIC, VERSION, int(sources), base, created,
        len(starts), len(rows), len(ends), len(blob), 0,
    )  # fmt: skip
    header = header[:-4] + struct.pack("<I", zlib.crc32(header[:-4]))
    with os.fdopen(os.dup(fd), "wb") as stream:
        stream.write(header.ljust(_HEADER_SIZE, b"\0"))
        for part in parts:
            stream.write(part if isinstance(part, bytes) else np.ascontiguousarray(part).data)
            stream.write(bytes(-stream.tell() % 8))
        stream.flush()
        os.fsync(fd)  # renamed next: a crash of the machine must not leave a hole under that name
        return stream.tell()


class Table:
    """An open table; `close` it. OSError if it is not there, Malformed if it is not one."""

    def __init__(self, path: Path) -> None:
        fd = open_regular(path)
        try:
            self.size = os.fstat(fd).st_size
            self._read_header(path, os.pread(fd, _HEADER_SIZE, 0))
            self._map = mmap.mmap(fd, self.size, prot=mmap.PROT_READ)
        finally:
            os.close(fd)
        self._starts = np.frombuffer(self._map, "<u4", self.ranges, self._starts_at)

    def _read_header(self, path: Path, header: bytes) -> None:
        if len(header) < _HEADER_SIZE:
            raise Malformed(path, "is too short for a symbol table")
        (magic, version, sources, self.base, self.created,
         self.ranges, self.places, self.texts, self._blob_size, checksum) = (
            _HEADER.unpack_from(header)
        )  # fmt: skip
        if magic != _MAGIC or version != VERSION:
            raise Malformed(path, "is no symbol table of this version")
        if checksum != zlib.crc32(header[: _HEADER.size - 4]):
            raise Malformed(path, "has a damaged header")
        self.sources = Source(sources & int(sum(Source)))
        self._starts_at = _HEADER_SIZE
        self._at_at = _aligned(self._starts_at + 4 * self.ranges)
        self._places_at = _aligned(self._at_at + 4 * self.ranges)
        self._ends_at = _aligned(self._places_at + _PLACE.size * self.places)
        self._blob_at = _aligned(self._ends_at + 8 * self.texts)
        if _aligned(self._blob_at + self._blob_size) != self.size:
            raise Malformed(path, f"has {self.size} bytes, not those its header promises")

    def close(self) -> None:
        del self._starts
        self._map.close()

    def rest(self) -> None:
        """Pages that were read go back to the kernel, which keeps them while it has room."""
        self._map.madvise(mmap.MADV_DONTNEED)

    def places_of(self, addresses: Sequence[int]) -> list[int]:
        """The place at each address, NONE where there is none."""
        last = self.base + NONE
        relative = [
            address - self.base if self.base <= address < last else -1 for address in addresses
        ]
        wanted = np.array(relative, np.int64)
        index = np.searchsorted(self._starts, wanted.astype(np.uint32), side="right") - 1
        index[wanted < 0] = -1
        unpack = struct.Struct("<I").unpack_from
        return [
            unpack(self._map, self._at_at + 4 * i)[0] if i >= 0 else NONE for i in index.tolist()
        ]

    def lines(self, place: int, file_name: str) -> tuple[Line, ...]:
        """What is there, innermost first; () for NONE. `file_name` goes before mere addresses."""
        found: list[Line] = []
        while place < self.places and len(found) < DEEPEST:
            name, file, line, place = _PLACE.unpack_from(
                self._map, self._places_at + _PLACE.size * place
            )
            function = self._text(name)
            if function.startswith("0x"):
                function = f"{file_name}:{function}"
            found.append(Line(function or "??", self._text(file), line))
        return tuple(found)

    def _text(self, index: int) -> str:
        if index >= self.texts:
            return ""
        at = self._ends_at + 8 * index
        begin = _END.unpack_from(self._map, at - 8)[0] if index else 0
        end = min(_END.unpack_from(self._map, at)[0], begin + _LONGEST_TEXT, self._blob_size)
        if begin > end:
            return ""
        return self._map[self._blob_at + begin : self._blob_at + end].decode(errors="replace")


def _aligned(offset: int) -> int:
    return (offset + 7) // 8 * 8
