"""Which function is where: the sorted table that linkers make, or one made by reading all entries.

Format of .eh_frame_hdr: Linux Standard Base, "The .eh_frame_hdr section".
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Protocol

import numpy as np
import numpy.typing as npt

from huatuo.errors import Malformed
from huatuo.kernel.elf import Elf, Section, Segment
from huatuo.profilers.native.encoding import (
    ABSOLUTE,
    DATA_RELATIVE,
    OMITTED,
    WIDTHS,
    WRONG,
    pointer,
)
from huatuo.profilers.native.frames import Frames, Window
from huatuo.profilers.native.rules import Machine

__all__ = ["Table", "debug_frame", "eh_frame"]

PT_GNU_EH_FRAME = 0x6474E550
_MASK = (1 << 64) - 1
_LARGEST_DEBUG = 32 << 20  # of .debug_frame, decompressed: it stays in memory then
_MOST_SCANNED = 1 << 18  # entries: half a second and 4 MiB
_MOST_BETWEEN = 1 << 12  # a page cannot have more functions
_CHUNK = 64  # entries read at once


class Table(Protocol):
    @property
    def frames(self) -> Frames: ...

    @property
    def held(self) -> int:
        """Bytes of memory, beyond a few KiB."""

    def between(self, low: int, high: int) -> list[tuple[int, int]]:
        """(address, offset of the FDE) of the last function that begins at or before `low`, and
        of all that begin before `high`, by address."""


class _HeaderTable:
    """.eh_frame_hdr, searched in the file."""

    def __init__(self, elf: Elf, frames: Frames, bias: int, header: _Header) -> None:
        self.frames, self._count = frames, header.count
        self._read, self._bias, self._at = elf.read, bias, header.table_at
        self._base = header.base
        self._entry = struct.Struct("<2" + header.letter)

    held = 0

    def between(self, low: int, high: int) -> list[tuple[int, int]]:
        first = self._last_before(low)
        found: list[tuple[int, int]] = []
        for index in range(first, min(self._count, first + _MOST_BETWEEN), _CHUNK):
            size = min(_CHUNK, self._count - index)
            data = self._read(self._at + index * self._entry.size, size * self._entry.size)
            for begin, fde in self._entry.iter_unpack(data):
                address = begin + self._base & _MASK
                if address >= high:
                    return found
                if found and address <= low:
                    found.clear()
                found.append((address, (fde + self._base & _MASK) - self._bias))
        return found

    def _last_before(self, address: int) -> int:
        """The index of a function at or before an address, _CHUNK before the last at most."""
        low, high = 0, self._count
        while high - low > _CHUNK:
            middle = (low + high) // 2
            data = self._read(self._at + middle * self._entry.size, self._entry.size)
            if self._entry.unpack(data)[0] + self._base & _MASK <= address:
                low = middle
            else:
                high = middle
        return low


class _ScannedTable:
    """Made by reading every entry, when first needed."""

    def __init__(self, make: Callable[[], Frames]) -> None:
        self._make = make

    @property
    def held(self) -> int:
        kept = vars(self)
        tables = sum(table.nbytes for table in kept["_sorted"]) if "_sorted" in kept else 0
        return tables + (self.frames.held if "frames" in kept else 0)

    @cached_property
    def frames(self) -> Frames:
        return self._make()

    @cached_property
    def _sorted(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        """Addresses ascending, the offsets of their FDEs. Address 0 is what the linker removed."""
        numbers = chain.from_iterable(self.frames.walk(_MOST_SCANNED))
        table = np.fromiter(numbers, np.uint64).reshape(-1, 2)
        table = table[table[:, 0] > 0]
        table = table[np.argsort(table[:, 0], kind="stable")]
        return table[:, 0].copy(), table[:, 1].copy()

    def between(self, low: int, high: int) -> list[tuple[int, int]]:
        begins, offsets = self._sorted
        first = max(int(np.searchsorted(begins, np.uint64(low), "right")) - 1, 0)
        last = min(int(np.searchsorted(begins, np.uint64(high))), first + _MOST_BETWEEN)
        return list(zip(begins[first:last].tolist(), offsets[first:last].tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class _Header:
    """.eh_frame_hdr: where .eh_frame is, and a table of `count` pairs, numbers added to `base`."""

    frames_address: int
    table_at: int
    count: int = 0
    letter: str = ""
    base: int = 0


def eh_frame(elf: Elf, machine: Machine) -> Table | None:
    """None where the file has no .eh_frame that can be found or read."""
    header = _read_header(elf)
    section = elf.sections.get(".eh_frame") if elf.has(".eh_frame") else None
    address = header.frames_address if header else section.address if section else 0
    segment = elf.segment_at(address)
    if segment is None:
        return None
    bias, end = segment.address - segment.offset, segment.offset + segment.size
    if section and section.address <= address < section.address + section.size:
        end = min(end, section.offset + section.size)
    frames = Frames(Window(elf.read, address - bias, end), bias, machine)
    if header and header.count:
        return _HeaderTable(elf, frames, bias, header)
    return _ScannedTable(lambda: frames)


def debug_frame(elf: Elf, machine: Machine) -> Table | None:
    """None where there is no .debug_frame."""
    if not elf.has(".debug_frame"):
        return None
    return _ScannedTable(lambda: _debug_frames(elf, machine))


def _debug_frames(elf: Elf, machine: Machine) -> Frames:
    """Without entries if it is too large to be held in memory, or cannot be decompressed."""
    section, read = elf.sections[".debug_frame"], elf.read
    start, end = section.offset, section.offset + section.size
    if section.is_compressed:
        try:
            data = elf.contents(section.name, _LARGEST_DEBUG)
        except Malformed:
            data = b""
        read, start, end = lambda offset, size: data[offset : offset + size], 0, len(data)
    frames = Frames(Window(read, start, end), 0, machine, is_debug=True)
    frames.held = end if section.is_compressed else 0
    return frames


def _read_header(elf: Elf) -> _Header | None:
    """None where there is none, or one that makes no sense."""
    found: list[Section | Segment] = [*elf.segments_of(PT_GNU_EH_FRAME)]
    if not found and elf.has(".eh_frame_hdr"):
        found.append(elf.sections[".eh_frame_hdr"])
    if not found:
        return None
    offset, address, size = found[0].offset, found[0].address, found[0].size
    try:
        data = elf.read(offset, min(size, 32))
        version, frames_encoding, count_encoding, encoding = data[:4]
        frames_address, at = pointer(data, 4, frames_encoding, address + 4, address)
        if version != 1 or count_encoding == OMITTED or not _can_be_searched(encoding):
            return _Header(frames_address, 0)
        count, at = pointer(data, at, count_encoding, address + at, address)
    except WRONG:
        return None
    width, letter = WIDTHS[encoding & 0x0F]
    base = address if encoding & 0x70 == DATA_RELATIVE else 0
    most = (size - at) // (2 * width)
    return _Header(frames_address, offset + at, min(count, most), letter, base)


def _can_be_searched(encoding: int) -> bool:
    return encoding & 0x0F in WIDTHS and encoding & 0xF0 in (ABSOLUTE, DATA_RELATIVE)
