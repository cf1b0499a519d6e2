"""Unwind rows of a file, compiled when a page of its code is first met.

A process runs less than a hundredth of the functions it maps. So nothing is made in advance: a page
is looked up in the linker's sorted table, and only its functions' entries are read.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property

from huatuo.kernel.elf import Elf
from huatuo.profilers.native.cfi import Fde, rows_of
from huatuo.profilers.native.encoding import WRONG
from huatuo.profilers.native.golang import GoRows, is_go
from huatuo.profilers.native.known import Piece, known_code
from huatuo.profilers.native.rules import FRAME_POINTER, MACHINES, NOTHING, Rule
from huatuo.profilers.native.tables import Table, debug_frame, eh_frame

__all__ = ["PAGE_SHIFT", "UnwindFile"]

PAGE_SHIFT = 12
_PAGE = 1 << PAGE_SHIFT
_LONGEST_PROGRAMS = 1 << 19  # bytes of all programs of a page
_PADDING = 16  # bytes between functions: no code of its own
_NEIGHBOURHOOD = 1 << 15  # of code without tables, on both sides: how do its functions begin?
_RAREST = 1 << 14  # bytes for each function that sets up a frame pointer, at most
_Row = tuple[int, Rule]  # address


class UnwindFile:
    """One file. `source` says where its rows come from:

        eh_frame         tables; code outside them is NONE, unless it visibly keeps frame pointers
        debug_frame      the same
        go               its own table, eh_frame for the C code in it, frame pointers for all else
        frame_pointer    it has no tables: frame pointers everywhere
        none             no code, or that of a machine that is not known here: NONE everywhere

    The Elf stays the caller's and must stay open.
    """

    def __init__(self, elf: Elf) -> None:
        """Malformed if the file is damaged where it says what it consists of."""
        self._elf = elf
        self._code = sorted(
            (segment for segment in elf.segments if segment.is_executable),
            key=lambda segment: segment.offset,
        )
        self._machine = MACHINES.get(elf.machine)
        self._tables: list[Table] = []
        self._elsewhere: Rule | None = None  # in code without tables; None: look at the code
        self._is_go = False
        self.source = self._sources()

    def _sources(self) -> str:
        elf, machine = self._elf, self._machine
        if machine is None or not self._code:
            self._elsewhere = NOTHING
            return "none"
        found = {"eh_frame": eh_frame(elf, machine)}
        self._is_go = is_go(elf)
        if not self._is_go:
            found["debug_frame"] = debug_frame(elf, machine)
        self._tables = [table for table in found.values() if table is not None]
        if self._is_go or not self._tables:
            self._elsewhere = FRAME_POINTER
            return "go" if self._is_go else "frame_pointer"
        return next(name for name, table in found.items() if table is not None)

    @property
    def held(self) -> int:
        """Bytes of memory, beyond some ten KiB."""
        go = vars(self).get("_go")
        return sum(table.held for table in self._tables) + (go.held if go else 0)

    @cached_property
    def _go(self) -> GoRows | None:
        """Its own table, found when it is first needed."""
        with suppress(*WRONG):
            return GoRows(self._elf) if self._is_go else None
        return None

    def rows(self, page: int) -> list[tuple[int, Rule]]:
        """(offset in the page, rule from there on) of a page of the file, the first at offset 0.

        Neighbours differ. Bytes that are loaded as code twice count as where the first segment
        has them.
        """
        at, end = page << PAGE_SHIFT, (page + 1) << PAGE_SHIFT
        found: list[_Row] = []
        for segment in self._code:
            low, high = max(at, segment.offset), min(end, segment.offset + segment.size)
            if low >= high:
                continue
            if low > at:
                found.append((at, NOTHING))
            bias = segment.address - segment.offset
            found += [(a - bias, rule) for a, rule in self._compile(low + bias, high + bias)]
            at = high
        if at < end:
            found.append((at, NOTHING))
        return [
            (offset & _PAGE - 1, rule)
            for i, (offset, rule) in enumerate(found)
            if not i or (rule is not found[i - 1][1] and rule != found[i - 1][1])
        ]

    def _compile(self, low: int, high: int) -> list[_Row]:
        try:
            return self._rows(low, high, self._tables)
        except (*WRONG, OSError):  # the file changes, or tables lead out of it
            return [(low, NOTHING)]

    def _rows(self, low: int, high: int, tables: list[Table]) -> list[_Row]:
        """Rows of [low, high) from the first table; of what it leaves out from the others."""
        if not tables:
            return self._without_tables(low, high)
        table, room, at = tables[0], _LONGEST_PROGRAMS, low
        functions = table.between(low, high)
        rows: list[_Row] = []
        for i, (begin, offset) in enumerate(functions):
            end = functions[i + 1][0] if i + 1 < len(functions) else high
            fde = _fde(table, offset)
            if fde is None:
                continue
            first, last = max(begin, at), min(end, begin + fde.size)
            if first >= last:
                continue
            if at < first:
                rows += self._rows(at, first, tables[1:])
            room -= fde.last - fde.at
            rows += _function(fde, begin, first, last) if room >= 0 else [(first, NOTHING)]
            at = last
        if at < high:
            rows += self._rows(at, high, tables[1:])
        return rows

    def _without_tables(self, low: int, high: int) -> list[_Row]:
        if self._go is not None:
            return self._go.rows(low, high)
        if self._elsewhere is not None:
            return [(low, self._elsewhere)]
        rows: list[_Row] = []
        for begin, end, known in self._known:
            first, last = max(low, begin), min(high, end)
            if first < last:
                rows += self._guess(low, first)
                inside = [row for row in known if row[0] < last]
                skipped = sum(row[0] <= first for row in inside) - 1
                rows += [(max(address, first), rule) for address, rule in inside[skipped:]]
                low = last
        return rows + self._guess(low, high)

    @cached_property
    def _known(self) -> list[Piece]:
        return [piece for piece in known_code(self._elf) if not self._has_table(piece[0])]

    def _has_table(self, address: int) -> bool:
        for begin, offset in self._tables[0].between(address, address + 1):
            fde = _fde(self._tables[0], offset)
            if fde is not None and begin <= address < begin + fde.size:
                return True
        return False

    def _guess(self, low: int, high: int) -> list[_Row]:
        """Frame pointers, if the code around here that has no tables either sets them up."""
        if low >= high:
            return []
        if high - low < _PADDING or self._machine is None:
            return [(low, NOTHING)]
        code = self._code_around(low, high)
        found = len(self._machine.prologue.findall(code))
        return [(low, FRAME_POINTER if 0 < len(code) <= found * _RAREST else NOTHING)]

    def _code_around(self, low: int, high: int) -> bytes:
        """What is in [low, high), and beyond the page until the next functions that have tables."""
        segment = self._elf.segment_at(low)
        if segment is None:
            return b""
        bias, first, last = segment.address - segment.offset, low, high
        if (low - bias) % _PAGE == 0:
            first = max(low - _NEIGHBOURHOOD, segment.address)
        if (high - bias) % _PAGE == 0:
            last = min(high + _NEIGHBOURHOOD, segment.address + segment.size)
        if first == low and last == high:
            return self._elf.read(low - bias, high - low)
        for begin, offset in self._tables[0].between(low, last):
            if begin >= high:
                last = begin
                break
            fde = _fde(self._tables[0], offset) if begin < low else None
            if fde is not None:
                first = max(first, min(begin + fde.size, low))
        return self._elf.read(first - bias, last - first)


def _fde(table: Table, offset: int) -> Fde | None:
    try:
        return table.frames.fde(offset)
    except WRONG:
        return None


def _function(fde: Fde, begin: int, low: int, high: int) -> list[_Row]:
    try:
        return rows_of(fde, begin, low, high)
    except WRONG:
        return [(low, NOTHING)]
