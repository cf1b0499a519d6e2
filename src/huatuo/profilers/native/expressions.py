"""The DWARF expressions that occur in call frame information, recognised as rules.

What compilers, linkers and assembler programmers really write are a few forms, all of them
"register + offset", read from there or not; anything else is not followed.
"""

from __future__ import annotations

from huatuo.profilers.native.encoding import sleb, uleb
from huatuo.profilers.native.rules import Cfa, Machine, Saved, SavedRule

__all__ = ["cfa_of", "place_of"]

_DEREF, _DROP, _PLUS, _PLUS_UCONST = 0x06, 0x13, 0x22, 0x23
_LIT0, _LIT31, _BREG0, _BREG31 = 0x30, 0x4F, 0x70, 0x8F
# breg7 8; breg16 0; lit15; and; litN; ge; lit3; shl; plus: what GNU ld says of a .plt section
_PLT_BEGIN, _PLT_END = b"\x77\x08\x80\x00\x3f\x1a", b"\x2a\x33\x24\x22"


def cfa_of(code: bytes) -> tuple[Cfa, int, int, int]:
    """(kind, register, offset, add), Cfa.NONE for unknown forms.

    Any of WRONG for what is no expression.
    """
    if len(code) == 11 and code.startswith(_PLT_BEGIN) and code.endswith(_PLT_END):
        return Cfa.PLT, 7, code[6] - _LIT0, 0
    base = _base(code)
    if base is None:
        return Cfa.NONE, 0, 0, 0
    register, offset, at = base
    if at == len(code):
        return Cfa.REGISTER, register, offset, 0
    if code[at] != _DEREF:
        return Cfa.NONE, 0, 0, 0
    add, at = _constant(code, at + 1)
    return (Cfa.DEREF, register, offset, add) if at == len(code) else (Cfa.NONE, 0, 0, 0)


def place_of(code: bytes, machine: Machine) -> SavedRule | None:
    """Where a register is stored; the CFA is on the stack at first. None for unknown forms."""
    add, at = _constant(code, 0)
    if at == len(code):
        return Saved.AT_CFA, add
    base = _base(code[code[0] == _DROP :])
    if base is None or base[2] != len(code) - (code[0] == _DROP):
        return None
    if base[0] == machine.sp:
        return Saved.AT_SP, base[1]
    return (Saved.AT_FP, base[1]) if base[0] == machine.fp else None


def _base(code: bytes) -> tuple[int, int, int] | None:
    """(register, offset, where it ends) of the sum a piece of code begins with."""
    if not code or not _BREG0 <= code[0] <= _BREG31:
        return None
    offset, at = sleb(code, 1)
    more, at = _constant(code, at)
    return code[0] - _BREG0, offset + more, at


def _constant(code: bytes, at: int) -> tuple[int, int]:
    """(what is added next to the top of the stack, where that ends): 0 if nothing is."""
    if code[at : at + 1] == bytes([_PLUS_UCONST]):
        return uleb(code, at + 1)
    if at + 1 < len(code) and _LIT0 <= code[at] <= _LIT31 and code[at + 1] == _PLUS:
        return code[at] - _LIT0, at + 2
    return 0, at
