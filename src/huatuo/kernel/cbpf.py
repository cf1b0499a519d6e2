"""Classic BPF, which libpcap writes → the body of a C function that the kernel's verifier takes.

The function is `int packet_filter(const struct packet_view *view)` of bpf/packet_filter.bpf.h,
which says what a view is, and returns 1 or 0. Constant offsets in the view's window, which is on
the stack, are loads; everything else is read by its address.

Nothing that is read from the packet decides what the verifier must know exactly, such as an offset
into the stack: it sees each instruction about once, however many paths lead there.

It answers as libpcap's own interpreter does: a load beyond the captured bytes and a division by
zero mean "not wanted", shifts by 32 and more give 0. Jumps backwards, which only `protochain`
makes, are taken LOOPS times at most: what has more headers is not wanted.

Instruction sets: Documentation/networking/filter.rst, Documentation/bpf/standardization.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from huatuo.errors import ConfigError

__all__ = ["LOOPS", "translated"]

LOOPS = 16  # headers that all `protochain` of an expression follow together
_A, _X, _VIEW, _CAPTURED, _FRAME = 6, 7, 8, 9, 10  # registers kept over calls
# struct packet_view: the window is as long as the packet's first bytes that are on the stack
_WINDOW_AT, _WINDOW, _WINDOW_ADDRESS, _ADDRESS, _CAPTURED_AT, _LENGTH = 2, 94, 96, 104, 112, 116
_READ, _LEFT, _MEMORY = -8, -16, -80  # on the stack: what is read, loops left, 16 words of M[]
_MEMORY_WORDS = 16

# classic: class, size, mode, operation, source, as in linux/bpf_common.h
_LD, _LDX, _ST, _STX, _ALU, _JMP, _RET, _MISC = range(8)
_SIZES = {0x00: 4, 0x08: 2, 0x10: 1}
_IMM, _ABS, _IND, _MEM, _LEN, _MSH = 0x00, 0x20, 0x40, 0x60, 0x80, 0xA0
_OF_LINUX = 0xFFFFF000  # SKF_AD_OFF: what the kernel knows of a packet, linux/filter.h
_FROM_X = 0x08
_DIVIDE, _SHIFT_LEFT, _SHIFT_RIGHT, _NEGATE, _MODULO = 0x30, 0x60, 0x70, 0x80, 0x90
_ALWAYS, _EQUAL, _GREATER, _GREATER_EQUAL = 0x00, 0x10, 0x20, 0x30
_NOT_EQUAL, _LESS, _LESS_EQUAL = 0x50, 0xA0, 0xB0  # of eBPF only
_OPPOSITE = {_EQUAL: _NOT_EQUAL, _GREATER: _LESS_EQUAL, _GREATER_EQUAL: _LESS}

# eBPF
_ALU32, _ALU64, _JMP32, _JMP64 = 0x04, 0x07, 0x06, 0x05
_MOVE, _ADD, _OR, _AND = 0xB0, 0x00, 0x40, 0x50
_BIG_ENDIAN = 0xDC
_LOAD = {1: 0x71, 2: 0x69, 4: 0x61, 8: 0x79}
_STORE, _STORE_WORD, _STORE_ZERO = 0x7B, 0x63, 0x62
_CALL, _EXIT, _JUMP = 0x85, 0x95, 0x05
_PROBE_READ_KERNEL = 113

_ENCODED = struct.Struct("<BBhI")


@dataclass(slots=True)
class _Instruction:
    """`label`: where a jump leads, an instruction of the classic program or a place of our own."""

    code: int
    target: int = 0
    source: int = 0
    offset: int = 0
    value: int = 0
    label: int | str | None = None


def translated(program: npt.NDArray[np.void]) -> bytes:
    """eBPF instructions for rows of kernel.pcap.INSTRUCTION.

    Raises ConfigError for what is not in the packet, and for a program too long for its jumps.
    """
    return _Translator(program).run()


class _Translator:
    def __init__(self, program: npt.NDArray[np.void]) -> None:
        self._rows = program.tolist()
        self._out: list[_Instruction] = []
        self._labels: dict[int | str, int] = {}

    def run(self) -> bytes:
        self._begin()
        for at, (code, jt, jf, k) in enumerate(self._rows):
            self._labels[at] = len(self._out)
            self._one(at, code, jt, jf, k)
        for name, result in (("accept", 1), ("reject", 0)):
            self._labels[name] = len(self._out)
            self._move(0, result)
            self._emit(_EXIT)
        return _assembled(self._out, self._labels)

    def _emit(self, code: int, target: int = 0, source: int = 0, offset: int = 0,
              value: int = 0, label: int | str | None = None) -> None:  # fmt: skip
        self._out.append(_Instruction(code, target, source, offset, value & 0xFFFFFFFF, label))

    def _move(self, register: int, value: int) -> None:
        self._emit(_ALU32 | _MOVE, register, value=value)

    def _copy(self, register: int, source: int, width: int = _ALU64) -> None:
        self._emit(width | _MOVE | _FROM_X, register, source)

    def _add(self, register: int, value: int) -> None:
        self._emit(_ALU64 | _ADD, register, value=value)

    def _jump_if(self, comparison: int, register: int, value: int, label: int | str) -> None:
        self._emit(_JMP32 | comparison, register, value=value, label=label)

    def _begin(self) -> None:
        self._copy(_VIEW, 1)
        self._emit(_LOAD[4], _CAPTURED, _VIEW, _CAPTURED_AT)
        self._move(_A, 0)
        self._move(_X, 0)
        if any(map(_jumps_back, self._rows)):
            self._move(1, LOOPS)
            self._emit(_STORE, _FRAME, 1, _LEFT)
        for word in sorted({k for code, _, _, k in self._rows if _uses_memory(code)}):
            self._emit(_STORE_ZERO, _FRAME, offset=_word(word))

    def _one(self, at: int, code: int, jt: int, jf: int, k: int) -> None:
        kind = code & 7
        if kind in (_LD, _LDX):
            self._load(_A if kind == _LD else _X, code, k)
        elif kind in (_ST, _STX):
            self._emit(_STORE_WORD, _FRAME, _A if kind == _ST else _X, _word(k))
        elif kind == _ALU:
            self._calculate(code, k)
        elif kind == _JMP:
            self._jump(at, code, jt, jf, k)
        elif kind == _RET:
            self._return(code, k)
        else:
            self._copy(*((_A, _X) if code & 0x80 else (_X, _A)), _ALU32)

    def _load(self, register: int, code: int, k: int) -> None:
        mode, size = code & 0xE0, _SIZES[code & 0x18]
        if mode == _IMM:
            self._move(register, k)
        elif mode == _MEM:
            self._emit(_LOAD[4], register, _FRAME, _word(k))
        elif mode == _LEN:
            self._emit(_LOAD[4], register, _VIEW, _LENGTH)
        elif mode == _IND:
            self._load_at_x(k, size)
        else:
            self._load_at(register, k, size)
            if mode == _MSH:  # the length of an IPv4 header
                self._emit(_ALU32 | _AND, _X, value=15)
                self._emit(_ALU32 | _SHIFT_LEFT, _X, value=2)

    def _load_at(self, register: int, k: int, size: int) -> None:
        if k >= _OF_LINUX:
            raise ConfigError("the packet filter asks for what is not in the packet: "
                              "inbound, outbound and ifindex cannot be used")  # fmt: skip
        self._jump_if(_LESS, _CAPTURED, k + size, "reject")
        if k + size <= _WINDOW:
            self._load_window(register, k, size)
            return
        self._move(3, k)
        self._emit(_LOAD[8], 1, _VIEW, _ADDRESS)
        self._emit(_ALU64 | _ADD | _FROM_X, 3, 1)
        self._read(register, size)

    def _load_window(self, register: int, k: int, size: int) -> None:
        """In aligned pieces, as the verifier wants it on the stack."""
        if (_WINDOW_AT + k) % size:
            half, other = size // 2, 2 if register == 1 else 1
            self._load_window(register, k, half)
            self._emit(_ALU32 | _SHIFT_LEFT, register, value=half * 8)
            self._load_window(other, k + half, half)
            self._emit(_ALU32 | _OR | _FROM_X, register, other)
            return
        self._emit(_LOAD[size], register, _VIEW, _WINDOW_AT + k)
        self._swap(register, size)

    def _load_at_x(self, k: int, size: int) -> None:
        """A = the bytes at X + k, where all of the window is read by its address."""
        there = f"{len(self._out)} there"
        self._copy(3, _X, _ALU32)
        self._move(1, k)
        self._emit(_ALU64 | _ADD | _FROM_X, 3, 1)
        self._copy(2, 3)
        self._add(2, size)
        self._emit(_JMP64 | _GREATER | _FROM_X, 2, _CAPTURED, label="reject")
        self._emit(_LOAD[8], 1, _VIEW, _WINDOW_ADDRESS)
        self._emit(_JMP64 | _LESS_EQUAL, 2, value=_WINDOW, label=there)
        self._emit(_LOAD[8], 1, _VIEW, _ADDRESS)
        self._labels[there] = len(self._out)
        self._emit(_ALU64 | _ADD | _FROM_X, 3, 1)
        self._read(_A, size)

    def _read(self, register: int, size: int) -> None:
        """From the kernel's address in r3; what cannot be read is not wanted."""
        self._copy(1, _FRAME)
        self._add(1, _READ)
        self._move(2, size)
        self._emit(_CALL, value=_PROBE_READ_KERNEL)
        self._emit(_JMP64 | _NOT_EQUAL, 0, label="reject")
        self._emit(_LOAD[size], register, _FRAME, _READ)
        self._swap(register, size)

    def _swap(self, register: int, size: int) -> None:
        if size in (2, 4):
            self._emit(_BIG_ENDIAN, register, value=size * 8)

    def _calculate(self, code: int, k: int) -> None:
        operation, from_x = code & 0xF0, code & _FROM_X
        if operation == _NEGATE:
            self._emit(_ALU32 | _NEGATE, _A)
        elif operation in (_SHIFT_LEFT, _SHIFT_RIGHT):
            self._shift(operation, from_x, k)
        elif operation in (_DIVIDE, _MODULO) and not from_x and not k:
            self._emit(_JUMP, label="reject")
        else:
            if operation in (_DIVIDE, _MODULO) and from_x:
                self._jump_if(_EQUAL, _X, 0, "reject")
            self._with_operand(_ALU32 | operation, from_x, k)

    def _with_operand(self, code: int, from_x: int, k: int, label: int | None = None) -> None:
        """Of A with X, or with k."""
        if from_x:
            self._emit(code | _FROM_X, _A, _X, label=label)
        else:
            self._emit(code, _A, value=k, label=label)

    def _shift(self, operation: int, from_x: int, k: int) -> None:
        """By 32 and more it is 0, which the processor does not know."""
        if not from_x:
            self._emit(_ALU32 | operation, _A, value=k) if k < 32 else self._move(_A, 0)
            return
        here = f"{len(self._out)} shifted"
        self._move(1, 0)
        self._jump_if(_GREATER, _X, 31, here)
        self._copy(1, _A, _ALU32)
        self._emit(_ALU32 | operation | _FROM_X, 1, _X)
        self._labels[here] = len(self._out)
        self._copy(_A, 1, _ALU32)

    def _jump(self, at: int, code: int, jt: int, jf: int, k: int) -> None:
        comparison, from_x = code & 0xF0, code & _FROM_X
        if comparison == _ALWAYS:
            target = at + 1 + (k if k < 1 << 31 else k - (1 << 32))
            if target <= at:
                self._count_loop()
            self._emit(_JUMP, label=target)
            return
        if not jt and comparison in _OPPOSITE:
            comparison, jt, jf = _OPPOSITE[comparison], jf, 0
        self._with_operand(_JMP32 | comparison, from_x, k, at + 1 + jt)
        if jf:
            self._emit(_JUMP, label=at + 1 + jf)

    def _count_loop(self) -> None:
        self._emit(_LOAD[8], 1, _FRAME, _LEFT)
        self._add(1, -1)
        self._emit(_STORE, _FRAME, 1, _LEFT)
        self._jump_if(_EQUAL, 1, 0, "reject")

    def _return(self, code: int, k: int) -> None:
        if code & 0x18 == 0x10:  # A
            self._jump_if(_EQUAL, _A, 0, "reject")
            k = 1
        self._emit(_JUMP, label="accept" if k else "reject")


def _word(index: int) -> int:
    return _MEMORY + index % _MEMORY_WORDS * 4


def _uses_memory(code: int) -> bool:
    kind = code & 7
    return kind in (_ST, _STX) or (kind in (_LD, _LDX) and code & 0xE0 == _MEM)


def _jumps_back(row: tuple[int, int, int, int]) -> bool:
    code, _, _, k = row
    return code == _JMP | _ALWAYS and k >= 1 << 31


def _assembled(out: list[_Instruction], labels: dict[int | str, int]) -> bytes:
    """Without what no jump reaches, which the verifier would refuse."""
    reached = _reached(out, labels)
    places = {old: new for new, old in enumerate(reached)}
    code = bytearray()
    for place, old in enumerate(reached):
        one = out[old]
        offset = one.offset
        if one.label is not None:
            offset = places[labels[one.label]] - place - 1
            if not -(1 << 15) <= offset < 1 << 15:
                raise ConfigError("the packet filter is too long: its jumps are over 32767")
        code += _ENCODED.pack(one.code, one.source << 4 | one.target, offset, one.value)
    return bytes(code)


def _reached(out: list[_Instruction], labels: dict[int | str, int]) -> list[int]:
    pending, seen = [0], set()
    while pending:
        at = pending.pop()
        if at in seen:
            continue
        seen.add(at)
        label = out[at].label
        if label is not None:
            pending.append(labels[label])
        if out[at].code not in (_JUMP, _EXIT):
            pending.append(at + 1)
    return sorted(seen)
