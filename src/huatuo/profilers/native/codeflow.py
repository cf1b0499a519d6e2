"""Code that nobody made tables for: where its functions begin, and how they move sp, is read.

musl's libc has none, and with it every container of Alpine; neither have many functions written in
assembly. A function is followed from where it begins, at known sp, along all its jumps; what it
saves of fp and rbx is seen on the way. What is not reached is not known.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from huatuo.kernel.elf import Elf, Segment
from huatuo.profilers.native.rules import NOTHING, OUTERMOST, SIGNAL, Cfa, Rule, Saved
from huatuo.profilers.native.x86 import FP, Kind, step

__all__ = ["CodeFlow"]

_MOST_SEARCHED = 16 << 20  # bytes of a segment
_MOST_STEPS = 8000  # instructions followed for a page
_BACK, _FORTH = 1 << 15, 1 << 12  # bytes around a page that may belong to its functions
_IS_FUNCTION = 2  # STT_FUNC
_RELATIVE = 8  # R_X86_64_RELATIVE
_RELA = np.dtype([("offset", "<u8"), ("info", "<u8"), ("addend", "<u8")])
_CALL, _JUMP = 0xE8, 0xE9
_ALIGNED = 16
_BX = 3  # its number in instructions
_DWARF_FP, _DWARF_SP = 6, 7
_RESTORERS = (b"\xb8\x0f\x00\x00\x00\x0f\x05", b"\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05")
# what stands before a function: ret, int3, ud2, nop in all sizes
_ENDS = [b"\xc3", b"\xcc", b"\x0f\x0b", b"\x90", b"\x0f\x1f\x00", b"\x0f\x1f\x40\x00"]
_ENDS += [b"\x0f\x1f\x44\x00\x00", b"\x0f\x1f\x80\x00\x00\x00\x00"]
_ENDS += [b"\x0f\x1f\x84\x00\x00\x00\x00\x00"]

Row = tuple[int, Rule]  # address, rule from there on
I8 = npt.NDArray[np.int64]


class CodeFlow:
    """Of one file. The Elf stays the caller's and must stay open."""

    def __init__(self, elf: Elf) -> None:
        self._elf = elf
        self._code = [segment for segment in elf.segments if segment.is_executable]

    def rows(self, low: int, high: int) -> list[Row]:
        """(address, rule from there on) of [low, high), from `low` on.

        Malformed or OSError if the file became shorter.
        """
        segment = self._elf.segment_at(low)
        if segment is None:
            return [(low, NOTHING)]
        starts, likely, jumped = self._starts
        first = bisect_left(starts, low + 1) - 1
        begin = max(int(starts[first]) if first >= 0 else low, segment.address)
        if low - begin > _BACK:  # within a very large function
            begin, likely = low, likely[:0]
        end = min(high + _FORTH, segment.address + segment.size)
        code = self._elf.read(segment.offset + begin - segment.address, end - begin)
        flow = _Flow(code, begin, *(_within(each, begin, end) for each in (starts, likely, jumped)))
        flow.follow_functions()
        flow.follow_tables()
        return _cut(flow.rows(), low, high)

    @cached_property
    def _starts(self) -> tuple[I8, I8, I8]:
        """(where functions begin, where they likely do, what else is gone to)."""
        certain, likely = [self._symbols(), np.array([self._elf.entry])], [self._relocated()]
        called, jumps = [], []
        for segment in self._code:
            code = self._read(segment)
            called.append(_targets(code, segment.address, _CALL))
            jumps.append(_targets(code, segment.address, _JUMP))
            likely.append(_named(code, segment.address))
        for segment in self._elf.segments:
            if not segment.is_executable:
                data = self._read(segment)
                likely.append(np.frombuffer(data[: len(data) // 8 * 8], "<i8"))
        once, counts = np.unique(np.concatenate(called), return_counts=True)
        certain += [once[counts > 1], self._after_ends(once)]
        likely = [self._after_ends(self._in_code(likely))]
        jumps = [each[each % _ALIGNED == 0] for each in jumps]
        return self._in_code(certain), self._in_code(likely), self._in_code([*jumps, once])

    def _read(self, segment: Segment) -> bytes:
        return self._elf.read(segment.offset, min(segment.size, _MOST_SEARCHED))

    def _symbols(self) -> I8:
        found = []
        for name in (".symtab", ".dynsym"):
            table, _ = self._elf.symbol_table(name)
            found.append(table["value"][table["info"] & 15 == _IS_FUNCTION])
        return np.concatenate(found).astype(np.int64)

    def _relocated(self) -> I8:
        data = self._elf.contents(".rela.dyn", _MOST_SEARCHED)
        rows = np.frombuffer(data[: len(data) // _RELA.itemsize * _RELA.itemsize], _RELA)
        addends: I8 = rows["addend"][rows["info"] == _RELATIVE].astype(np.int64)
        return addends

    def _in_code(self, found: Iterable[npt.NDArray[np.integer]]) -> I8:
        addresses = np.unique(np.concatenate([each.astype(np.int64) for each in found]))
        inside = np.zeros(len(addresses), bool)
        for segment in self._code:
            end = segment.address + segment.size
            inside |= (addresses >= segment.address) & (addresses < end)
        return addresses[inside]

    def _after_ends(self, addresses: I8) -> I8:
        """Those behind something with which functions end."""
        kept = [addresses[:0]]
        for segment in self._code:
            octets = np.frombuffer(self._read(segment), np.uint8)
            at = addresses - segment.address
            here = (at > 0) & (at <= len(octets))
            at = at[here]
            found = np.zeros(len(at), bool)
            for ending in _ENDS:
                same = at >= len(ending)
                for i, byte in enumerate(ending, -len(ending)):
                    same &= octets[np.maximum(at + i, 0)] == byte
                found |= same
            kept.append(addresses[here][found])
        return np.concatenate(kept)


def _words_at(octets: npt.NDArray[np.uint8], at: I8) -> I8:
    words: npt.NDArray[np.int32] = octets[at[:, None] + np.arange(4)].copy().view("<i4")
    return words[:, 0].astype(np.int64)


def _targets(code: bytes, address: int, opcode: int) -> I8:
    """Where direct calls or jumps go; other bytes that look like one rarely lead into the code."""
    octets = np.frombuffer(code, np.uint8)
    at = np.flatnonzero(octets[:-5] == opcode)
    return address + at + 5 + _words_at(octets, at + 1)


def _named(code: bytes, address: int) -> I8:
    """What is taken the address of: lea n(%rip), register."""
    octets = np.frombuffer(code, np.uint8)
    at = np.flatnonzero((octets[:-6] == 0x8D) & (octets[1:-5] & 0xC7 == 0x05))
    return address + at + 6 + _words_at(octets, at + 2)


def _within(addresses: I8, low: int, high: int) -> list[int]:
    first, last = bisect_left(addresses, low), bisect_left(addresses, high)
    found: list[int] = addresses[first:last].tolist()
    return found


def _cut(rows: list[Row], low: int, high: int) -> list[Row]:
    before = [row for row in rows if row[0] <= low]
    first = before[-1][1] if before else NOTHING
    return [(low, first), *(row for row in rows if low < row[0] < high)]


class _State(NamedTuple):
    """`depth`: from sp up to the CFA, `above`: from fp; None: not known. `fp`, `bx`: where they are
    saved, from the CFA; None: they still are what they were."""

    depth: int | None = 8
    above: int | None = None
    fp: int | None = None
    bx: int | None = None

    def rule(self) -> Rule:
        fp, bx = (
            (Saved.SAME, 0) if at is None else (Saved.AT_CFA, at) for at in (self.fp, self.bx)
        )
        if self.depth == 0:
            return OUTERMOST  # its own return address is gone: the first code of a thread
        if self.depth is not None and self.depth >= 8:
            return Rule(Cfa.REGISTER, _DWARF_SP, self.depth, 0, Saved.AT_CFA, -8, *fp, *bx)
        if self.depth is None and self.above is not None:
            return Rule(Cfa.REGISTER, _DWARF_FP, self.above, 0, Saved.AT_CFA, -8, *fp, *bx)
        return NOTHING

    def after(self, kind: Kind, value: int) -> _State:
        """What holds after an instruction."""
        depth, above, fp, bx = self
        if kind is Kind.MOVES:
            return _State(None if depth is None else depth + value, above, fp, bx)
        if kind is Kind.PUSHES:
            depth = None if depth is None else depth + 8
            if value == FP and fp is None and depth is not None:
                fp = -depth
            elif value == _BX and bx is None and depth is not None:
                bx = -depth
            return _State(depth, above, fp, bx)
        if kind is Kind.POPS:
            depth = None if depth is None else depth - 8
            is_fp = value == FP
            return _State(depth, None if is_fp else above, None if is_fp else fp,
                          None if value == _BX else bx)  # fmt: skip
        if kind is Kind.SETS_FP:
            return _State(depth, None if depth is None else depth - value, fp, bx)
        if kind is Kind.SETS_FROM_FP:
            return _State(None if above is None else above - value, above, fp, bx)
        if kind is Kind.LEAVES:
            return _State(None if above is None else above - 8, None, None, bx)
        if kind is Kind.LOSES_SP:
            return _State(None, above, fp, bx)
        return _State(depth, None, fp, bx) if kind is Kind.LOSES_FP else self


class _Flow:
    """Code at `base`, whose functions begin at `starts` for certain, at `likely` unless the code
    before goes on there, and at `jumped` if that code before is a call that may never return. The
    first to come somewhere says what holds there."""

    def __init__(
        self, code: bytes, base: int, starts: list[int], likely: list[int], jumped: list[int]
    ) -> None:
        self._code, self._base = code, base
        self._starts, self._likely = dict.fromkeys(starts), dict.fromkeys(likely)
        self._behind_calls = {*likely, *jumped}
        self._known: dict[int, tuple[_State, int]] = {}  # address → what holds, end of instruction
        self._lost: list[tuple[int, _State]] = []  # behind jumps to somewhere
        self._covered = bytearray(len(code))  # by instructions that are known
        self._left = _MOST_STEPS

    def follow_functions(self) -> None:
        for start in (*self._starts, *self._likely):  # (more of them are found on the way)
            self._follow(start, _State())

    def _follow(self, start: int, state: _State) -> None:
        work = [(start, state)]
        while work:
            at, state = work.pop()
            after_call = False
            while self._is_new(at):
                self._left -= 1
                try:
                    end, kind, value = step(self._code, at - self._base, self._base)
                except (ValueError, IndexError):
                    break  # data, or cut off
                self._covered[at - self._base : end] = b"\1" * (end - at + self._base)
                end += self._base
                self._known[at] = state, end
                if kind is Kind.BRANCHES:
                    work.append((value, state))
                elif kind is Kind.CALLS and value not in self._starts:
                    self._starts[value] = None
                    work.append((value, _State()))
                elif kind is Kind.JUMPS:
                    end = value
                elif kind is Kind.LOST:
                    self._lost.append((end, state))
                    break
                elif kind is Kind.ENDS:
                    break
                after_call = kind is Kind.CALLS or (after_call and kind is Kind.NOTHING)
                at, state = end, state.after(kind, value)
                if at in self._starts or (after_call and at in self._behind_calls):
                    break  # a tail call, or behind a call that does not return

    def _is_new(self, at: int) -> bool:
        place = at - self._base
        return 0 <= place < len(self._code) and not self._covered[place] and self._left > 0

    def follow_tables(self) -> None:
        """What is behind a jump to somewhere and is not reached otherwise is where it leads to."""
        for at, state in sorted(self._lost, key=lambda each: -each[0]):
            while at not in self._starts and self._left > 0:
                if at not in self._known:
                    self._follow(at, state)
                if at not in self._known:
                    break
                at = self._known[at][1]

    def rows(self) -> list[Row]:
        rows: list[Row] = []
        end = -1
        for at in sorted(self._known):
            state, following = self._known[at]
            if at > end >= 0:
                rows.append((end, NOTHING))
            rows.append((at, state.rule()))
            end = max(end, following)
        if end >= 0:
            rows.append((end, NOTHING))
        return self._with_restorer(rows)

    def _with_restorer(self, rows: list[Row]) -> list[Row]:
        """Signal handlers return to it: from a byte before on it counts."""
        for pattern in _RESTORERS:
            at = self._code.find(pattern)
            if at >= 0:
                begin, end = self._base + at - 1, self._base + at + len(pattern)
                rows = [row for row in rows if not begin <= row[0] <= end]
                rows = sorted([*rows, (begin, SIGNAL), (end, NOTHING)], key=lambda row: row[0])
        return rows
