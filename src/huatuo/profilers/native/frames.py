"""The entries of .eh_frame and .debug_frame: one per function, one per kind of function.

An entry of a function (FDE) says where it is, refers to an entry of what it shares with others
(CIE), and ends with its program.

Format: DWARF 5, 6.4.1; Linux Standard Base, "Exception Frames".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

from huatuo.profilers.native.cfi import Cie, Fde, state_after
from huatuo.profilers.native.encoding import ABSOLUTE, WRONG, pointer, sleb, uleb
from huatuo.profilers.native.rules import Machine

__all__ = ["Frames", "Window"]

_BLOCK = 1 << 14  # read at once
_LONGEST = 1 << 18  # bytes of an entry
_MOST_KINDS = 1 << 10  # CIEs that are kept
_ALIGNED = 0x50


class _Entry(NamedTuple):
    """`cie_at` is None for a CIE; what follows the header is data[at:last]."""

    cie_at: int | None
    data: bytes
    at: int
    last: int
    here: int


class Window:
    """[start, end) of a file, read in blocks of which the last is kept."""

    def __init__(self, read: Callable[[int, int], bytes], start: int, end: int) -> None:
        self._read, self.start, self.end = read, start, end
        self._data, self._from = b"", start

    def find(self, offset: int, size: int) -> tuple[bytes, int]:
        """(bytes, where in them `offset` is), at least `size` from there. ValueError outside."""
        at = offset - self._from
        if at < 0 or at + size > len(self._data):
            if not self.start <= offset <= self.end - size:
                raise ValueError("an entry that is not within its section")
            self._data = self._read(offset, min(max(size, _BLOCK), self.end - offset))
            self._from, at = offset, 0
        return self._data, at


class Frames:
    """Of one section; `bias` + an offset of the window is the address of that byte."""

    def __init__(self, window: Window, bias: int, machine: Machine, is_debug: bool = False) -> None:
        self._window, self._bias, self._machine = window, bias, machine
        self._is_debug = is_debug
        self.held = 0  # bytes of memory, of a section that is not read from the file
        self._cies: dict[int, Cie] = {}

    def fde(self, offset: int) -> Fde | None:
        """None if it is a CIE. Any of WRONG if it is malformed."""
        cie_at, data, at, last, here = self._entry(offset)
        if cie_at is None:
            return None
        cie = self._cies.get(cie_at) or self._cie(cie_at)
        begin, at = pointer(data, at, cie.encoding, here + at)
        size, at = pointer(data, at, cie.encoding & 0x0F, 0)
        if cie.has_augmentation:
            skip, at = uleb(data, at)
            at += skip
        if at > last:
            raise ValueError("an entry whose head is longer than all of it")
        return Fde(begin, size, cie, data, at, last, here)

    def walk(self, limit: int) -> Iterator[tuple[int, int]]:
        """(address, offset) of the functions in the order of the section, broken ones left out.

        Until the chain of entries breaks, `limit` at most.
        """
        offset = self._window.start
        for _ in range(limit):
            try:
                begin, end = self._extent(offset)
            except WRONG:
                return
            if begin == end and not self._is_debug:
                return  # the terminator
            try:
                fde = self.fde(offset)
            except WRONG:
                fde = None
            if fde is not None:
                yield fde.begin, offset
            offset = end

    def _extent(self, offset: int) -> tuple[int, int]:
        """Where an entry's contents are."""
        data, at = self._window.find(offset, 4)
        size = int.from_bytes(data[at : at + 4], "little")
        begin = offset + 4
        if size == 0xFFFFFFFF:
            data, at = self._window.find(begin, 8)
            size = int.from_bytes(data[at : at + 8], "little")
            begin += 8
        return begin, begin + size

    def _entry(self, offset: int) -> _Entry:
        begin, end = self._extent(offset)
        if end - begin > _LONGEST:
            raise ValueError("an entry that is too long")
        data, at = self._window.find(begin, end - begin)
        here, last = self._bias + begin - at, at + end - begin
        width = 8 if self._is_debug and begin - offset > 4 else 4
        number = int.from_bytes(data[at : at + width], "little")
        if number == ((1 << 8 * width) - 1 if self._is_debug else 0):
            cie_at = None
        else:
            cie_at = self._window.start + number if self._is_debug else begin - number
        return _Entry(cie_at, data, at + width, last, here)

    def _cie(self, offset: int) -> Cie:
        cie_at, data, at, last, here = self._entry(offset)
        if cie_at is not None:
            raise ValueError("a function that refers to another as its kind")
        version = data[at]
        end = data.index(b"\0", at, last)
        augmentation = data[at + 1 : end].decode("latin-1")
        at = end + 1
        if version not in (1, 3, 4) or (augmentation and not augmentation.startswith("z")):
            raise ValueError(f"version {version}, augmentation {augmentation!r}")
        if version == 4:
            if data[at : at + 2] != b"\x08\x00":  # bytes of an address, of a segment selector
                raise ValueError("addresses of another size")
            at += 2
        code_align, at = uleb(data, at)
        data_align, at = sleb(data, at)
        ra, at = (data[at], at + 1) if version == 1 else uleb(data, at)
        if ra != self._machine.ra:
            raise ValueError(f"the return address is in register {ra}")
        encoding = ABSOLUTE
        if augmentation:
            size, at = uleb(data, at)
            encoding = _encoding(augmentation, data, at, here)
            at += size
        cie = Cie(
            self._machine, code_align, data_align, encoding,
            has_augmentation=bool(augmentation), is_signal="S" in augmentation,
        )  # fmt: skip
        cie = replace(cie, initial=state_after(cie, data, at, last))
        if len(self._cies) >= _MOST_KINDS:
            self._cies.clear()
        self._cies[offset] = cie
        return cie


def _encoding(augmentation: str, data: bytes, at: int, here: int) -> int:
    """How addresses are written, from a CIE's augmentation data."""
    for letter in augmentation[1:]:
        if letter == "R":
            return data[at]
        if letter == "L":
            at += 1
        elif letter == "P":
            encoding, at = data[at], at + 1
            if encoding == _ALIGNED:
                at += -(here + at) % 8 + 8
            else:
                _, at = pointer(data, at, encoding & 0x0F, 0)
        elif letter not in "SBG":
            break
    return ABSOLUTE
