"""Code that has no tables and is nevertheless known: linkers' stubs, the first code of a program.

GNU ld makes tables for its stubs; lld, gold and mold do not. The dynamic linker's first code has
none either, and each process begins with some 100,000 instructions called from there.
"""

from __future__ import annotations

from huatuo.errors import Malformed
from huatuo.kernel.elf import Elf
from huatuo.profilers.native.rules import OUTERMOST, Rule, plt, pushed

__all__ = ["Piece", "known_code"]

_ENTRY = 64  # bytes from the entry point on
_STUB = 16  # bytes, as is the header before them, which calls the dynamic linker
_MOST = 64  # pieces
_ENDBR64 = b"\xf3\x0f\x1e\xfa"
_PUSH = 0x68  # $number

Piece = tuple[int, int, list[tuple[int, Rule]]]  # begin, end, (address, rule from there on)


def known_code(elf: Elf) -> list[Piece]:
    """By address; x86-64 only, as the rest of this module."""
    found: list[Piece] = []
    if elf.entry:
        found.append((elf.entry, elf.entry + _ENTRY, [(elf.entry, OUTERMOST)]))
    for section in elf.section_list:
        if section.name.startswith(".plt") and section.address and section.has_data:
            begin = section.address
            rows = [(begin, pushed(0))]  # .plt.got, .plt.sec, and mold's: nothing but a jump
            threshold = _threshold(elf, section.offset) if section.name == ".plt" else 0
            if threshold:
                rows = [(begin, pushed(8)), (begin + 6, pushed(16)), (begin + 16, plt(threshold))]
            found.append((begin, begin + section.size, rows))
    return sorted(found[:_MOST])


def _threshold(elf: Elf, offset: int) -> int:
    """How far into a stub the number of its symbol has been pushed; 0 if that is not done."""
    try:
        stub = elf.read(offset + _STUB, _STUB)
    except Malformed:
        return 0
    if stub.startswith(_ENDBR64):
        return 9 if stub[4] == _PUSH else 0
    return 11 if stub[6] == _PUSH else 0  # after a jump
