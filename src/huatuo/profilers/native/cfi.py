"""The programs in .eh_frame and .debug_frame that say, address by address, how to find the caller.

Only the CFA, the return address, the frame pointer and rbx (Machine.base) are followed: the
unwinder carries nothing else from frame to frame.

Format: DWARF 5, 6.4; Linux Standard Base; opcodes of GNU and of Arm's ABI.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from huatuo.profilers.native.encoding import pointer, sleb, uleb
from huatuo.profilers.native.expressions import cfa_of, place_of
from huatuo.profilers.native.rules import Cfa, CfaRule, Machine, Rule, Saved, SavedRule, rule_of

__all__ = ["Cie", "Fde", "rows_of", "state_after"]

_DEEPEST = 64  # of remembered states
_NEVER = 1 << 80  # an address that no program reaches
_REGISTER, _AT_CFA = Cfa.REGISTER, Saved.AT_CFA  # a look-up in an enum costs as much as a row
State = tuple[CfaRule, SavedRule, SavedRule, SavedRule]  # cfa, return address, fp, base
_UNSET: State = (Cfa.NONE, 0, 0, 0, 0), (Saved.SAME, 0), (Saved.SAME, 0), (Saved.SAME, 0)
_LOST: SavedRule = (Saved.UNKNOWN, 0)
_NOWHERE: SavedRule = (Saved.SAME, 0)  # of a return address: nothing that can be followed


@dataclass(frozen=True, slots=True)
class Cie:
    """What the functions of an object file have in common; `initial` is where each begins."""

    machine: Machine
    code_align: int
    data_align: int
    encoding: int  # of addresses
    has_augmentation: bool
    is_signal: bool
    initial: State = _UNSET


class Fde(NamedTuple):
    """A function; its program is data[at:last]."""

    begin: int
    size: int
    cie: Cie
    data: bytes
    at: int
    last: int
    here: int  # + a position in data: the address of that byte


def state_after(cie: Cie, data: bytes, at: int, last: int) -> State:
    """What the program data[at:last] of a CIE leaves. Any of WRONG if it is malformed."""
    program = _Program(Fde(0, 0, cie, data, at, last, 0), 0)
    program.run(_NEVER, _NEVER)
    return program.state


def rows_of(fde: Fde, begin: int, low: int, high: int) -> list[tuple[int, Rule]]:
    """(address, rule from there on) within [low, high) for a function that begins at `begin`.

    Any of WRONG if its program is malformed.
    """
    return _Program(fde, begin).run(low, high)


class _Program:
    """One run: `cfa`, `ra`, `fp` and `base` are what holds at `location`."""

    __slots__ = (
        "at", "base", "cfa", "cie", "data", "end", "fp", "here", "location", "ra", "remembered",
    )  # fmt: skip

    def __init__(self, fde: Fde, begin: int) -> None:
        _, _, self.cie, self.data, self.at, self.end, self.here = fde
        self.location = begin
        self.state = self.cie.initial
        self.remembered: list[State] = []

    @property
    def state(self) -> State:
        return self.cfa, self.ra, self.fp, self.base

    @state.setter
    def state(self, state: State) -> None:
        self.cfa, self.ra, self.fp, self.base = state

    def run(self, low: int, high: int) -> list[tuple[int, Rule]]:
        """Rows within [low, high). The commonest instructions are handled here, on locals."""
        rows: list[tuple[int, Rule]] = []
        cie, data, at, end, location = self.cie, self.data, self.at, self.end, self.location
        cfa, ra, fp, base = cie.initial
        machine, is_signal, data_align = cie.machine, cie.is_signal, cie.data_align
        while at < end:
            opcode = data[at]
            at += 1
            if 0x40 <= opcode < 0x80:  # advance
                following = location + (opcode & 0x3F) * cie.code_align
            elif opcode == 0x0E:  # the offset of the CFA
                number = data[at]
                at += 1
                if number >= 0x80:
                    number, at = uleb(data, at - 1)
                cfa = _moved(cfa, number)
                continue
            elif 0x80 <= opcode < 0xC0:  # saved at an offset
                number, at = uleb(data, at)
                if opcode & 0x3F == machine.fp:
                    fp = _AT_CFA, number * data_align
                elif opcode & 0x3F == machine.ra:
                    ra = _AT_CFA, number * data_align
                elif opcode & 0x3F == machine.base:
                    base = _AT_CFA, number * data_align
                continue
            elif 1 <= opcode <= 4:
                following, at = self._advance(opcode, location, at)
            else:
                self.at, self.state = at, (cfa, ra, fp, base)
                if opcode >= 0xC0:
                    self._restore(opcode & 0x3F)
                else:
                    _OTHERS[opcode](self)
                at, (cfa, ra, fp, base) = self.at, self.state
                continue
            if following > low and following != location:
                where = location if location > low else low
                rows.append((where, rule_of(cfa, ra, fp, base, is_signal, machine)))
                if following >= high:
                    return rows
            location = following
        if at != end:
            raise ValueError("a program that ends within an instruction")
        self.state = cfa, ra, fp, base
        rows.append((max(location, low), rule_of(cfa, ra, fp, base, is_signal, machine)))
        return rows

    def _advance(self, opcode: int, location: int, at: int) -> tuple[int, int]:
        if opcode == 0x01:
            where, at = pointer(self.data, at, self.cie.encoding, self.here + at)
            if where < location:
                raise ValueError("a program that goes backwards")
            return where, at
        size = 1 << opcode - 2
        number = int.from_bytes(self.data[at : at + size], "little")
        return location + number * self.cie.code_align, at + size

    def _uleb(self) -> int:
        number, self.at = uleb(self.data, self.at)
        return number

    def _sleb(self) -> int:
        number, self.at = sleb(self.data, self.at)
        return number

    def _block(self) -> bytes:
        size = self._uleb()
        self.at += size
        if self.at > self.end:
            raise ValueError("an expression that ends after its program")
        return self.data[self.at - size : self.at]

    def _save(self, register: int, rule: SavedRule, ra: SavedRule | None = None) -> None:
        """`ra` if it differs for the return address."""
        machine = self.cie.machine
        if register == machine.fp:
            self.fp = rule
        elif register == machine.ra:
            self.ra = rule if ra is None else ra
        elif register == machine.base:
            self.base = rule

    def _restore(self, register: int) -> None:
        _, ra, fp, base = self.cie.initial
        self._save(register, base if register == self.cie.machine.base else fp, ra)

    def define_cfa(self) -> None:
        register = self._uleb()
        self.cfa = _at(register, self._uleb())

    def define_cfa_signed(self) -> None:
        register = self._uleb()
        self.cfa = _at(register, self._sleb() * self.cie.data_align)

    def define_cfa_register(self) -> None:
        self.cfa = _at(self._uleb(), self.cfa[4])

    def define_cfa_offset_signed(self) -> None:
        self.cfa = _moved(self.cfa, self._sleb() * self.cie.data_align)

    def define_cfa_expression(self) -> None:
        self.cfa = (*cfa_of(self._block()), self.cfa[4])

    def remember(self) -> None:
        if len(self.remembered) >= _DEEPEST:
            raise ValueError("too many remembered states")
        self.remembered.append(self.state)

    def recall(self) -> None:
        self.state = self.remembered.pop()

    def restore(self) -> None:
        self._restore(self._uleb())

    def offset(self) -> None:
        register = self._uleb()
        self._save(register, (_AT_CFA, self._uleb() * self.cie.data_align))

    def offset_signed(self) -> None:
        register = self._uleb()
        self._save(register, (_AT_CFA, self._sleb() * self.cie.data_align))

    def offset_negated(self) -> None:
        register = self._uleb()
        self._save(register, (_AT_CFA, -self._uleb() * self.cie.data_align))

    def undefined(self) -> None:
        self._save(self._uleb(), _LOST)

    def same(self) -> None:
        self._save(self._uleb(), (Saved.SAME, 0), _NOWHERE)

    def in_register(self) -> None:
        """A return address that is kept in a register: vfork's."""
        register = self._uleb()
        self._save(register, _LOST, (Saved.IN_REGISTER, self._uleb()))

    def value_offset(self) -> None:
        register = self._uleb()
        self._uleb()
        self._save(register, _LOST, _NOWHERE)

    def expression(self) -> None:
        register, code = self._uleb(), self._block()
        machine = self.cie.machine
        if register in (machine.fp, machine.ra, machine.base):
            place = place_of(code, machine)
            self._save(register, place or _LOST, place or _NOWHERE)

    def value_expression(self) -> None:
        register = self._uleb()
        self._block()
        self._save(register, _LOST, _NOWHERE)

    def nothing(self) -> None:
        """A nop, or AArch64's state of the return address's signature."""

    def arguments(self) -> None:
        self._uleb()


def _at(register: int, offset: int) -> CfaRule:
    return _REGISTER, register, offset, 0, offset


def _moved(cfa: CfaRule, offset: int) -> CfaRule:
    """An expression stays one, but programs (libgcrypt's) expect the offset to be kept."""
    kind, register, _, _, _ = cfa
    if kind is _REGISTER:
        return kind, register, offset, 0, offset
    return (*cfa[:4], offset)


_OTHERS: dict[int, Callable[[_Program], None]] = {
    0x00: _Program.nothing,
    0x05: _Program.offset,
    0x06: _Program.restore,
    0x07: _Program.undefined,
    0x08: _Program.same,
    0x09: _Program.in_register,
    0x0A: _Program.remember,
    0x0B: _Program.recall,
    0x0C: _Program.define_cfa,
    0x0D: _Program.define_cfa_register,
    0x0F: _Program.define_cfa_expression,
    0x10: _Program.expression,
    0x11: _Program.offset_signed,
    0x12: _Program.define_cfa_signed,
    0x13: _Program.define_cfa_offset_signed,
    0x14: _Program.value_offset,
    0x15: _Program.value_offset,
    0x16: _Program.value_expression,
    0x2C: _Program.nothing,
    0x2D: _Program.nothing,
    0x2E: _Program.arguments,
    0x2F: _Program.offset_negated,
}
