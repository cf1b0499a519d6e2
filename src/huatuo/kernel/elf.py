"""ELF64 files, little-endian: sections, segments, symbols, notes.

For objects of our own and for the binaries of strangers alike: every length is checked against the
file, nothing is mapped (a process may truncate its binary under us, and a mapping would then kill
the agent), and only what is asked for is read.

Format: System V ABI, generic and AMD64 supplements.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from huatuo.errors import Malformed

__all__ = ["EM_AARCH64", "EM_X86_64", "SECTION", "SYMBOL", "Elf", "Section", "Segment", "text_at"]

EM_X86_64, EM_AARCH64 = 62, 183
PT_LOAD, PF_X, PF_W = 1, 1, 2
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION = np.dtype(
    [
        *(("name", "<u4"), ("type", "<u4"), ("flags", "<u8"), ("address", "<u8")),
        *(("offset", "<u8"), ("size", "<u8"), ("link", "<u4"), ("info", "<u4")),
        *(("align", "<u8"), ("entry", "<u8")),
    ]
)
_SEGMENT = np.dtype(
    [
        *(("type", "<u4"), ("flags", "<u4"), ("offset", "<u8"), ("address", "<u8")),
        *(("physical", "<u8"), ("size", "<u8"), ("memory", "<u8"), ("align", "<u8")),
    ]
)
SYMBOL = np.dtype(
    [
        *(("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2")),
        *(("value", "<u8"), ("size", "<u8")),
    ]
)
_NOBITS, _COMPRESSED, _NOTE = 8, 0x800, 7
_COMPRESSION = struct.Struct("<IIQQ")  # Elf64_Chdr
_ZLIB, _ZSTD = 1, 2
_GNU_BUILD_ID = 3
_MOST_HEADERS = 1 << 16
_MOST_SEGMENTS = 1 << 9
_LARGEST_SECTION = 4 << 30
_LARGEST_NOTES = 1 << 20
_LARGEST_NAMES = 1 << 20  # of all sections together
_LONGEST_NAME = 1 << 12


@dataclass(frozen=True, slots=True)
class Section:
    """`address` is where it is loaded (0: it is not), `offset` and `size` where it is in the file.

    `has_data` is false for .bss, and for what `strip --only-keep-debug` took out.
    """

    name: str
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    has_data: bool

    @property
    def is_compressed(self) -> bool:
        return bool(self.flags & _COMPRESSED)


@dataclass(frozen=True, slots=True)
class Segment:
    """`size` bytes at `offset` of the file are at `address` in memory."""

    offset: int
    address: int
    size: int
    is_executable: bool
    is_writable: bool


class Elf:
    """An open file; use as a context manager, or `close`. A descriptor is duplicated.

    Raises Malformed if `source` is not such a file, OSError if it cannot be read. Sections of the
    same name: the first counts.
    """

    def __init__(self, source: Path | bytes | int) -> None:
        self.name = "<memory>" if isinstance(source, bytes) else source
        self._memory = source if isinstance(source, bytes) else None
        self._fd = _open(source)
        try:
            self.size = len(source) if isinstance(source, bytes) else os.fstat(self._fd).st_size
            self._read_headers()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Elf:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def forget(self) -> None:
        """Give up what was kept of the sections; it is read again when it is asked for."""
        for name in ("_headers", "section_list", "sections"):
            self.__dict__.pop(name, None)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def descriptor(self) -> int:
        """Of the open file; -1 for one in memory, or closed."""
        return self._fd

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes of the file; Malformed where it ends before."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise Malformed(self.name, f"{size} bytes at {offset:#x} are outside the file")
        data = (
            self._memory[offset : offset + size]
            if self._memory is not None
            else os.pread(self._fd, size, offset)
        )
        if len(data) != size:
            raise Malformed(self.name, "became shorter while it was read")
        return data

    def _read_headers(self) -> None:
        header = self.read(0, _HEADER.size) if self.size >= _HEADER.size else b""
        if header[:6] != b"\x7fELF\x02\x01":
            raise Malformed(self.name, "not a 64-bit little-endian ELF file")
        fields = _HEADER.unpack(header)
        self.type, self.machine, self.entry = fields[1], fields[2], fields[4]
        segments_at, sections_at = fields[5], fields[6]
        if fields[10] > _MOST_SEGMENTS:
            raise Malformed(self.name, f"has {fields[10]} segments")
        self._segments = self._table(segments_at, fields[9], fields[10], _SEGMENT)
        count, names = fields[12], fields[13]
        if sections_at and not count:  # more than fit into the header: the first section has it
            first = self._table(sections_at, fields[11], 1, SECTION)[0]
            count = int(first["size"])
        if names == 0xFFFF and count:
            names = int(self._table(sections_at, fields[11], 1, SECTION)[0]["link"])
        self._sections_at = sections_at, fields[11], count
        self.headers_at = sections_at  # offset of the table of sections
        self._names_index = names
        assert self._headers is not None  # or it is malformed

    def _table(
        self, offset: int, entry: int, count: int, dtype: np.dtype[Any]
    ) -> npt.NDArray[np.void]:
        if not count or not offset:
            return np.empty(0, dtype)
        if entry != dtype.itemsize or count > _MOST_HEADERS:
            raise Malformed(self.name, "has a header table of a form that is not ELF64's")
        return np.frombuffer(self.read(offset, count * dtype.itemsize), dtype)

    @cached_property
    def _headers(self) -> npt.NDArray[np.void]:
        return self._table(*self._sections_at, SECTION)

    @cached_property
    def segments(self) -> list[Segment]:
        """The loaded ones (PT_LOAD), by address."""
        return sorted(self.segments_of(PT_LOAD), key=lambda segment: segment.address)

    def segments_of(self, kind: int) -> list[Segment]:
        """Those of a type (PT_…), as the program headers have them."""
        rows = self._segments[self._segments["type"] == kind]
        return [
            Segment(offset, address, size, bool(flags & PF_X), bool(flags & PF_W))
            for flags, offset, address, size in rows[
                ["flags", "offset", "address", "size"]
            ].tolist()
        ]

    def segment_at(self, address: int) -> Segment | None:
        """The loaded one that has a byte of the file at this address."""
        for segment in self.segments:
            if segment.address <= address < segment.address + segment.size:
                return segment
        return None

    @cached_property
    def section_list(self) -> list[Section]:
        """All sections by index: a symbol's section is one of these."""
        if self._names_index >= len(self._headers):
            return []
        at = self._headers[self._names_index]
        size = min(int(at["size"]), self.size, _LARGEST_NAMES)
        names = self.read(int(at["offset"]), size)
        return [
            Section(
                text_at(names, name, _LONGEST_NAME), kind, flags, address, offset, size, link,
                kind != _NOBITS and offset + size <= self.size,
            )
            for name, kind, flags, address, offset, size, link in self._headers[
                ["name", "type", "flags", "address", "offset", "size", "link"]
            ].tolist()
        ]  # fmt: skip

    @cached_property
    def sections(self) -> dict[str, Section]:
        found: dict[str, Section] = {}
        for section in self.section_list:
            found.setdefault(section.name, section)
        return found

    def has(self, name: str) -> bool:
        """Whether that section is here with its contents."""
        section = self.sections.get(name)
        return section is not None and section.has_data and section.size > 0

    def contents(self, name: str, limit: int = _LARGEST_SECTION) -> bytes:
        """A section's bytes, decompressed; b"" where there is none. Malformed beyond `limit`."""
        if not self.has(name):
            return b""
        section = self.sections[name]
        if section.size > limit:
            raise Malformed(self.name, f"{name} has {section.size} bytes, the limit is {limit}")
        data = self.read(section.offset, section.size)
        return self._decompressed(name, data, limit) if section.is_compressed else data

    def _decompressed(self, name: str, data: bytes, limit: int) -> bytes:
        if len(data) < _COMPRESSION.size:
            raise Malformed(self.name, f"{name} is compressed without a header")
        kind, _, size, _ = _COMPRESSION.unpack_from(data)
        if size > limit:
            raise Malformed(self.name, f"{name} would have {size} bytes, the limit is {limit}")
        try:
            if kind == _ZLIB:
                return zlib.decompressobj().decompress(data[_COMPRESSION.size :], size)
            if kind == _ZSTD:
                return _zstd(data[_COMPRESSION.size :], size)
        except (zlib.error, ValueError, EOFError) as error:
            raise Malformed(self.name, f"{name} cannot be decompressed: {error}") from error
        raise Malformed(self.name, f"{name} is compressed in an unknown way ({kind})")

    def offset_of(self, address: int) -> int | None:
        """Where in the file a loaded address is."""
        segment = self.segment_at(address)
        return None if segment is None else address - segment.address + segment.offset

    def address_of(self, offset: int) -> int | None:
        """Where a byte of the file is loaded; executable segments first, should they overlap."""
        for segment in sorted(self.segments, key=lambda segment: not segment.is_executable):
            if segment.offset <= offset < segment.offset + segment.size:
                return offset - segment.offset + segment.address
        return None

    @cached_property
    def build_id(self) -> str:
        """In hexadecimal, "" if the linker was not asked for one."""
        for owner, kind, description in self.notes():
            if owner == b"GNU" and kind == _GNU_BUILD_ID:
                return description.hex()
        return ""

    def notes(self) -> Iterator[tuple[bytes, int, bytes]]:
        """(owner, type, description) of every note, as far as they are well-formed."""
        for section in self.section_list:
            if section.type != _NOTE or not section.has_data or section.size > _LARGEST_NOTES:
                continue
            data, at = self.read(section.offset, section.size), 0
            while at + 12 <= len(data):
                owner_size, size, kind = struct.unpack_from("<III", data, at)
                begin = at + 12 + (owner_size + 3) // 4 * 4
                if begin + size > len(data):
                    break
                yield (
                    data[at + 12 : at + 12 + owner_size].rstrip(b"\0"),
                    kind,
                    data[begin : begin + size],
                )
                at = begin + (size + 3) // 4 * 4

    def symbol_table(self, name: str = ".symtab") -> tuple[npt.NDArray[np.void], bytes]:
        """(SYMBOL rows, their names' bytes) of .symtab or .dynsym; empty where there is none."""
        section = self.sections.get(name)
        if section is None or not self.has(name):
            return np.empty(0, SYMBOL), b""
        table = self.contents(name)
        strings = b""
        if section.link < len(self.section_list):
            link = self.section_list[section.link]
            strings = self.read(link.offset, link.size) if link.has_data else b""
        return np.frombuffer(
            table[: len(table) // SYMBOL.itemsize * SYMBOL.itemsize], SYMBOL
        ), strings


def _open(source: Path | bytes | int) -> int:
    if isinstance(source, int):
        return os.dup(source)
    return os.open(source, os.O_RDONLY | os.O_CLOEXEC) if isinstance(source, Path) else -1


def text_at(names: bytes, offset: int, longest: int = _LARGEST_NAMES) -> str:
    """The zero-terminated text at an offset, cut off if it is longer; "" outside."""
    last = min(offset + longest, len(names))
    end = names.find(b"\0", offset, last)
    return names[offset : end if end >= 0 else last].decode(errors="replace")


def _zstd(data: bytes, size: int) -> bytes:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        from backports import zstd
    decompressor = zstd.ZstdDecompressor()
    try:
        return bytes(decompressor.decompress(data, size))
    except zstd.ZstdError as error:
        raise ValueError(str(error)) from error
