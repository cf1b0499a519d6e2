"""How to get from a frame to its caller's, at one instruction.

A rule is what DWARF's call frame information says there, cut down to what a BPF program can follow:
where the canonical frame address (CFA, the caller's sp) is, and from there the return address and
the caller's frame pointer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from huatuo.kernel.elf import EM_X86_64

__all__ = [
    "ACROSS",
    "FRAME_POINTER",
    "MACHINES",
    "NOTHING",
    "OUTERMOST",
    "SIGNAL",
    "Cfa",
    "CfaRule",
    "Machine",
    "Rule",
    "Saved",
    "SavedRule",
    "framed",
    "plt",
    "pushed",
    "rule_of",
]


class Cfa(IntEnum):
    """Where the caller's sp is."""

    NONE = 0  # nothing is known of this code
    END = 1  # there is no caller: the return address is undefined
    REGISTER = 2  # register + offset
    DEREF = 3  # *(register + offset) + add
    PLT = 4  # sp + 8, and 8 more where the low four bits of pc are >= offset: a linker's stub
    GOROUTINE = 5  # the sp of the thread's goroutine in its record (goswitch.py) + offset


class Saved(IntEnum):
    """Where a caller's register is."""

    SAME = 0  # still in the register
    AT_CFA = 1  # stored at CFA + offset
    AT_SP = 2  # stored at this frame's sp + offset
    UNKNOWN = 3
    AT_FP = 4  # stored at this frame's fp + offset: stacks realigned by the function
    IN_REGISTER = 5  # in the register of that number, which only an innermost frame still has
    AT_GOROUTINE = 6  # stored in the record of the thread's goroutine, at offset


# register, offset, add; then the offset that counts again when a program names a register
CfaRule = tuple[Cfa, int, int, int, int]
SavedRule = tuple[Saved, int]  # offset


class Rule(NamedTuple):
    """`cfa_offset` fits 32 bits, the other offsets 16; registers have DWARF's numbers.

    `is_signal`: the caller was interrupted, its pc is the next instruction and no return address.
    `is_switch`: the caller may be on another stack. For GOROUTINE `cfa_add` is where thread-local
    storage has g, and `bx_offset` where its m has the goroutine.
    """

    cfa: Cfa
    cfa_register: int = 0
    cfa_offset: int = 0
    cfa_add: int = 0
    ra: Saved = Saved.UNKNOWN
    ra_offset: int = 0
    fp: Saved = Saved.SAME
    fp_offset: int = 0
    bx: Saved = Saved.SAME
    bx_offset: int = 0
    is_signal: bool = False
    is_switch: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Machine:
    """What is special about an instruction set; registers have DWARF's numbers.

    `base` is a register by which some code finds its frame: ld.so, on x86-64 by rbx. `prologue`:
    what functions begin with that keep a frame pointer.
    """

    registers: int  # general ones: 0 … registers - 1
    fp: int
    sp: int
    ra: int
    base: int
    prologue: re.Pattern[bytes]


# push %rbp; mov %rsp,%rbp in both encodings; GCC's crtstuff has cmpq $0,…(%rip) in between
_PROLOGUE = re.compile(rb"\x55(?:\x48\x83\x3d....\x00)?\x48(?:\x89\xe5|\x8b\xec)", re.DOTALL)
_X86_64 = Machine(16, fp=6, sp=7, ra=16, base=3, prologue=_PROLOGUE)
MACHINES = {EM_X86_64: _X86_64}

NOTHING = Rule(Cfa.NONE)
OUTERMOST = Rule(Cfa.END)
FRAME_POINTER = Rule(
    Cfa.REGISTER, _X86_64.fp, 16, ra=Saved.AT_CFA, ra_offset=-8, fp=Saved.AT_CFA, fp_offset=-16
)


ACROSS = FRAME_POINTER._replace(is_switch=True)
# where the kernel keeps registers while a handler runs: struct rt_sigframe of x86-64
SIGNAL = Rule(
    Cfa.DEREF, _X86_64.sp, 160, ra=Saved.AT_SP, ra_offset=168, fp=Saved.AT_SP, fp_offset=120,
    bx=Saved.AT_SP, bx_offset=128, is_signal=True,
)  # fmt: skip


def framed(size: int) -> Rule:
    """In Go's functions, whose frames of `size` bytes have the caller's fp on top."""
    if not 0 <= size < 1 << 31:
        return NOTHING
    fp = (Saved.AT_CFA, -16) if size else (Saved.SAME, 0)
    return Rule(Cfa.REGISTER, _X86_64.sp, size + 8, 0, Saved.AT_CFA, -8, *fp)


def pushed(size: int) -> Rule:
    """In functions that have done nothing yet but push `size` bytes."""
    return Rule(Cfa.REGISTER, _X86_64.sp, 8 + size, ra=Saved.AT_CFA, ra_offset=-8)


def plt(threshold: int) -> Rule:
    """In stubs of 16 bytes that have pushed 8 bytes once they are `threshold` bytes in."""
    return Rule(Cfa.PLT, _X86_64.sp, threshold, ra=Saved.AT_CFA, ra_offset=-8)


@lru_cache(maxsize=1 << 14)
def rule_of(
    cfa: CfaRule,
    ra: SavedRule,
    fp: SavedRule,
    base: SavedRule,
    is_signal: bool,
    machine: Machine,
) -> Rule:
    """NOTHING where it cannot be followed: numbers too large, a return address nowhere."""
    kind, register, offset, add, _ = cfa
    if ra[0] is Saved.UNKNOWN:
        return OUTERMOST
    if ra[0] is Saved.SAME or kind is Cfa.NONE or register >= machine.registers:
        return NOTHING
    if not _fits(offset, 32) or not _fits(add, 16) or not _fits(ra[1], 16):
        return NOTHING
    fp = fp if _fits(fp[1], 16) else (Saved.UNKNOWN, 0)
    base = base if _fits(base[1], 16) else (Saved.UNKNOWN, 0)
    return Rule(kind, register, offset, add, *ra, *fp, *base, is_signal)


def _fits(number: int, bits: int) -> bool:
    return -(1 << bits - 1) <= number < 1 << bits - 1
