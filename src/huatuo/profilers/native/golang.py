"""Go programs: frame sizes from the table that Go's own runtime unwinds with (.gopclntab).

It says, instruction by instruction, how far sp has moved. Where it says nothing, code keeps frame
pointers: Go does everywhere.

Format: Go's runtime/symtab.go (_func, pcvalue), internal/abi/symtab.go, cmd/link, debug/buildinfo.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from huatuo.errors import Malformed
from huatuo.kernel.elf import Elf
from huatuo.kernel.gopclntab import find_go_table
from huatuo.profilers.native.encoding import uleb
from huatuo.profilers.native.goswitch import (
    MORESTACK,
    SYSTEMSTACK,
    Layout,
    Row,
    layout_of,
    switching,
)
from huatuo.profilers.native.rules import FRAME_POINTER, OUTERMOST, SIGNAL, framed

__all__ = ["GoRows", "is_go"]

_SECTIONS = (".gopclntab", ".go.buildinfo", ".note.go.buildid", ".data.rel.ro.gopclntab")
_MAGIC = b"\xff Go buildinf:"
_SEARCHED = 1 << 16  # bytes at the beginning of the data, as Go's own tools do
_ALIGNED = 16
_LONGEST_SEQUENCE = 1 << 14  # bytes
_LONGEST_CODE = 1 << 12  # of a function that goes over to another stack
_LONGEST_NAME = 128
_NEARBY = 64  # functions: those two of the runtime stand together
_IS_TOP, _WRITES_SP = 1, 2  # abi.FuncFlag, since Go 1.17

_TOP = {"runtime.goexit", "runtime.mstart", "runtime.rt0_go"}
_SWITCHING = {
    *(SYSTEMSTACK, MORESTACK, "runtime.mcall", "runtime.gogo"),
    *("runtime.asmcgocall", "runtime.cgocallback"),
}
_RESTORERS = {"runtime.sigreturn", "runtime.sigreturn__sigaction"}
_HANDLERS = ("runtime.sig", "runtime.cgoSig")  # flagged as top, but what they interrupt is known


def is_go(elf: Elf) -> bool:
    """By its sections; by the linker's mark in the data where the section headers are gone."""
    if elf.sections:
        return any(name in elf.sections for name in _SECTIONS)
    for segment in elf.segments:
        if segment.is_writable and not segment.is_executable:
            data = elf.read(segment.offset, min(segment.size, _SEARCHED))
            at = data.find(_MAGIC)
            return at >= 0 and at % _ALIGNED == 0
    return False


class _Function(NamedTuple):
    """`sequence` is where in the table its sequence of sp begins, counted from the first one; 0:
    it has none. `name` is only there where the runtime treats the function in its own way."""

    begin: int
    end: int
    sequence: int
    flags: int
    name: str


class GoRows:
    """The rows of Go's own code. The Elf stays the caller's and must stay open."""

    def __init__(self, elf: Elf) -> None:
        """Malformed if there is no table that can be read."""
        table = find_go_table(elf)
        if table is None:
            raise Malformed(elf.name, "has no table of Go that is known")
        begins, ends, records = table.functions()
        if not len(begins) or int(ends[-1] - begins[0]) >> 32:
            raise Malformed(elf.name, "has no functions of Go, or more than 4 GiB of them")
        self._elf, self._table = elf, table
        self._base, self._end = int(begins[0]), int(ends[-1])
        self._begins = (begins - begins[0]).astype(np.uint32)
        self._records = records.astype(np.uint32)
        self._layout: Layout | None = None
        self._looked = False

    @property
    def held(self) -> int:
        """Bytes of memory."""
        return int(self._begins.nbytes + self._records.nbytes)

    def rows(self, low: int, high: int) -> list[Row]:
        """(address, rule from there on) of [low, high), from `low` on.

        Any of WRONG if the table is malformed.
        """
        rows: list[Row] = [(low, FRAME_POINTER)]
        first, last = self._index(low), self._index(high)  # (a restorer counts a byte early)
        for index in range(max(first, 0), last + 1):
            rows += self._function(index, high)
        if self._end < high:
            rows.append((max(self._end, low), FRAME_POINTER))
        before = sum(address <= low for address, _ in rows) - 1
        return [(max(address, low), rule) for address, rule in rows[before:] if address < high]

    def _index(self, address: int) -> int:
        """Of the last function that begins at or before an address, -1 if there is none."""
        if address < self._base:
            return -1
        offset = np.uint32(min(address - self._base, (1 << 32) - 1))
        return int(np.searchsorted(self._begins, offset, "right")) - 1

    def _read(self, index: int) -> _Function:
        is_last = index + 1 == len(self._begins)
        end = self._end if is_last else self._base + int(self._begins[index + 1])
        form = self._table.form
        record = self._table.read(int(self._records[index]), form.pcdata)
        name_at, _, _, sequence = (
            int.from_bytes(record[at : at + 4], "little")
            for at in range(form.name, form.name + 16, 4)
        )
        kind, flags = record[form.pcdata - 4], record[form.pcdata - 3]
        name = self._name(name_at) if kind or flags else ""
        return _Function(self._base + int(self._begins[index]), end, sequence, flags, name)

    def _name(self, offset: int) -> str:
        at = self._table.names + offset
        data = self._table.read(at, max(min(_LONGEST_NAME, self._table.size - at), 0))
        return data.partition(b"\0")[0].decode(errors="replace")

    def _function(self, index: int, high: int) -> list[Row]:
        """All rows of a function; some beyond `high` may be missing."""
        function = self._read(index)
        flags, name = function.flags, function.name
        if name in _RESTORERS:
            return [(function.begin - 1, SIGNAL)]  # entered by a return
        if (flags & _IS_TOP or name in _TOP) and not name.startswith(_HANDLERS):
            return [(function.begin, OUTERMOST)]
        if not flags & _WRITES_SP and name not in _SWITCHING:
            return list(self._moves(function, high))
        moves = list(self._moves(function, function.end))
        code = self._code(function)
        return switching(name, function.begin, code, moves, lambda: self._layout_near(index))

    def _moves(self, function: _Function, high: int) -> Iterator[Row]:
        """What the table says of sp."""
        if not function.sequence:
            yield function.begin, FRAME_POINTER
            return
        at = self._table.numbers + function.sequence
        data = self._table.read(at, max(min(_LONGEST_SEQUENCE, self._table.size - at), 0))
        where, moved, at = function.begin, -1, 0
        while where < min(function.end, high):
            change, at = uleb(data, at)
            if not change and where > function.begin:
                return
            moved += ~(change >> 1) if change & 1 else change >> 1
            yield where, framed(moved)
            span, at = uleb(data, at)
            where += max(span * self._table.quantum, 1)

    def _code(self, function: _Function) -> bytes:
        offset = self._elf.offset_of(function.begin)
        size = min(function.end - function.begin, _LONGEST_CODE)
        return self._elf.read(offset, size) if offset is not None else b""

    def _layout_near(self, index: int) -> Layout | None:
        if not self._looked:
            self._looked = True
            near = range(max(index - _NEARBY, 0), min(index + _NEARBY, len(self._begins)))
            functions = {each.name: each for each in map(self._read, near)}
            if SYSTEMSTACK in functions and MORESTACK in functions:
                codes = (self._code(functions[name]) for name in (SYSTEMSTACK, MORESTACK))
                self._layout = layout_of(*codes)
        return self._layout
