"""Functions of Go's runtime that go over to another stack: what holds there.

They are few, written in assembly, and known by name. Three ways lead back: fp, where it still is
that of the stack before; the runtime's records, in which a goroutine that went over to its thread's
own stack left its sp; and none, where nothing ever returns.

Format: runtime/asm_amd64.s of Go 1.16 to 1.27.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple

from huatuo.profilers.native.rules import ACROSS, OUTERMOST, Cfa, Rule, Saved

__all__ = ["MORESTACK", "SYSTEMSTACK", "Layout", "Row", "layout_of", "switching"]

SYSTEMSTACK, MORESTACK, _MCALL = "runtime.systemstack", "runtime.morestack", "runtime.mcall"

# push %rbp; mov %rsp,%rbp; before 1.21 mov %rbp,n(%rsp); lea n(%rsp),%rbp
_SETS_FP = re.compile(
    rb"\x55\x48\x89\xe5|\x48\x89\x6c\x24(.)\x48\x8d\x6c\x24\1"
    rb"|\x48\x89\xac\x24(....)\x48\x8d\xac\x24\2",
    re.DOTALL,
)
# mov n(%register),%rsp, or mov %register,%rsp in either encoding
_SETS_SP = re.compile(
    rb"[\x48\x49]\x8b(?:[\x20-\x23\x26\x27]|[\x60-\x63\x66\x67].|[\xa0-\xa3\xa6\xa7]....|[\xe0-\xe7])"
    rb"|[\x48\x4c]\x89[\xc4\xcc\xd4\xdc\xe4\xec\xf4\xfc]",
    re.DOTALL,
)
# systemstack: g is in thread-local storage, its m at g+0x30; is g m's goroutine, at m+n?
_FINDS_GOROUTINE = re.compile(
    rb"(?:\x64\x48\x8b\x04\x25(....)|\x48\xc7\xc1(....)\x64\x48\x8b\x01)\x48\x8b\x58\x30"
    rb"\x48\x3b\x43.\x74.\x48\x8b\x13\x48\x39\xd0\x74.\x48\x3b\x83(....)",
    re.DOTALL,
)
# morestack: pc, sp and bp are kept at g+0x40, g+0x38 and g+n
_KEEPS_GOROUTINE = re.compile(
    rb"\x48\x89[\x46\x47]\x40\x48\x8d\x44\x24\x08\x48\x89[\x46\x47]\x38.{0,4}?\x48\x89[\x6e\x6f](.)",
    re.DOTALL,
)
_KEPT_PC = 0x40

Row = tuple[int, Rule]  # address, rule from there on


class Layout(NamedTuple):
    """Where g is in thread-local storage, the current goroutine in m, bp in a goroutine."""

    local: int
    current: int
    fp: int


def layout_of(systemstack: bytes, morestack: bytes) -> Layout | None:
    """From the code of these two; None if it is other code than in the Go versions above."""
    finds, keeps = _FINDS_GOROUTINE.search(systemstack), _KEEPS_GOROUTINE.search(morestack)
    if not finds or not keeps:
        return None
    local = int.from_bytes(finds[1] or finds[2], "little", signed=True)
    return Layout(local, int.from_bytes(finds[3], "little"), keeps[1][0])


def switching(
    name: str, begin: int, code: bytes, rows: list[Row], layout: Callable[[], Layout | None]
) -> list[Row]:
    """All rows of a function with that code at `begin`; `rows` is what the table says of it."""
    writes = [begin + match.end() for match in _SETS_SP.finditer(code)]
    sets_fp = _SETS_FP.search(code)
    if not writes:
        return rows
    low, high = writes[0], writes[-1]
    if name == _MCALL:
        return _from(rows, low, OUTERMOST)
    if name == MORESTACK:
        found = layout()
        return _from(rows, low, _before_its_frame(found) if found else OUTERMOST)
    if name == SYSTEMSTACK and (found := layout()):
        return _between(rows, low, high, _at_its_call(found, _in_force(rows, low).cfa_offset))
    if sets_fp:  # and keeps it as long as there is a frame
        low = begin + sets_fp.end()
        rows = _between(rows, low, low, _in_force(rows, low))
        return [(at, ACROSS if at >= low and rule.cfa_offset > 8 else rule) for at, rule in rows]
    if low == high:
        return _from(rows, low, ACROSS)
    return _between(rows, low, high, ACROSS)  # fp is its caller's: the caller itself is left out


def _before_its_frame(layout: Layout) -> Rule:
    """The caller's caller asked for a larger stack before it made its frame."""
    return Rule(
        Cfa.GOROUTINE, cfa_add=layout.local, ra=Saved.AT_GOROUTINE, ra_offset=_KEPT_PC,
        fp=Saved.AT_GOROUTINE, fp_offset=layout.fp, bx_offset=layout.current, is_switch=True,
    )  # fmt: skip


def _at_its_call(layout: Layout, offset: int) -> Rule:
    """The goroutine's sp was kept within this function, whose frame has `offset` bytes."""
    return Rule(
        Cfa.GOROUTINE, cfa_offset=offset, cfa_add=layout.local, ra=Saved.AT_CFA, ra_offset=-8,
        fp=Saved.AT_GOROUTINE, fp_offset=layout.fp, bx_offset=layout.current, is_switch=True,
    )  # fmt: skip


def _in_force(rows: list[Row], address: int) -> Rule:
    return rows[max(bisect_right(rows, address, key=lambda row: row[0]) - 1, 0)][1]


def _from(rows: list[Row], low: int, rule: Rule) -> list[Row]:
    return [*(row for row in rows if row[0] < low), (low, rule)]


def _between(rows: list[Row], low: int, high: int, rule: Rule) -> list[Row]:
    """The rows, with another rule in [low, high)."""
    after = [(high, _in_force(rows, high)), *(row for row in rows if row[0] > high)]
    return (_from(rows, low, rule) if low < high else [r for r in rows if r[0] < low]) + after
