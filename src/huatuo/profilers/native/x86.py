"""Machine code of x86-64, as far as it tells how the stack pointer moves and where code goes on.

Format: Intel's manual, volume 2: instruction format and opcode maps.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["FP", "SP", "Kind", "step"]

FP, SP = 5, 4  # the numbers of rbp and rsp in instructions


class Kind(IntEnum):
    """What an instruction does, and what its value is."""

    PLAIN = 0
    MOVES = 1  # sp goes down by that much
    PUSHES = 2  # the register of that number; -1: something else
    POPS = 3  # the same
    SETS_FP = 4  # fp = sp + value
    SETS_FROM_FP = 5  # sp = fp + value
    LEAVES = 6  # sp = fp, then pops fp
    LOSES_SP = 7  # sets it to what is not known
    LOSES_FP = 8
    BRANCHES = 9  # to that address, or not
    JUMPS = 10  # to that address
    CALLS = 11  # that address; -1: one that is not known
    NAMES = 12  # that address, without going there
    LOST = 13  # a jump to somewhere
    ENDS = 14  # a return, or what does not go on
    NOTHING = 15  # padding


Step = tuple[int, Kind, int]  # where the next instruction begins, what this one does, value
_PLAIN, _ENDS = Kind.PLAIN, Kind.ENDS
_MODRM, _BYTE, _WORD, _IMMEDIATE, _INVALID = 1, 2, 4, 8, 16
_PREFIXES = frozenset(b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3")
_LONGEST = 15
# which have a register or a place in memory as their result: of reg, or of rm
_INTO_REG = frozenset((0x03, 0x0B, 0x13, 0x1B, 0x23, 0x2B, 0x33, 0x63, 0x69, 0x6B, 0x8B))
_INTO_RM = frozenset((0x01, 0x09, 0x11, 0x19, 0x21, 0x29, 0x31, 0x81, 0x83, 0x87, 0x89, 0xC1, 0xC7))
_INTO_RM |= {0xD1, 0xD3, 0xF7}
_TWO_INTO_REG = frozenset((*range(0x40, 0x50), 0xAF, 0xB6, 0xB7, 0xB8, 0xBC, 0xBD, 0xBE, 0xBF))


def _one_byte() -> bytes:
    table = bytearray(256)

    def mark(what: int, *opcodes: int) -> None:
        for opcode in opcodes:
            table[opcode] |= what

    for base in range(0, 0x40, 8):
        mark(_MODRM, *range(base, base + 4))
        mark(_BYTE, base + 4)
        mark(_IMMEDIATE, base + 5)
        mark(_INVALID, base + 6, base + 7)
    mark(_INVALID, 0x60, 0x61, 0x62, 0x82, 0x9A, 0xCE, 0xD4, 0xD5, 0xD6, 0xEA)
    mark(_MODRM, 0x63, 0x69, 0x6B, 0x80, 0x81, 0x83, 0xC0, 0xC1, 0xC6, 0xC7, 0xF6, 0xF7, 0xFE, 0xFF)
    mark(_MODRM, *range(0x84, 0x90), *range(0xD0, 0xD4), *range(0xD8, 0xE0))
    mark(_IMMEDIATE, 0x68, 0x69, 0x81, 0xA9, 0xC7, 0xE8, 0xE9)
    mark(_BYTE, 0x6A, 0x6B, 0x80, 0x83, 0xA8, 0xC0, 0xC1, 0xC6, 0xC8, 0xCD, 0xEB)
    mark(_BYTE, *range(0x70, 0x80), *range(0xB0, 0xB8), *range(0xE0, 0xE8))
    mark(_WORD, 0xC2, 0xC8, 0xCA)
    return bytes(table)


def _two_bytes() -> bytes:
    table = bytearray([_MODRM] * 256)
    for opcode in (*range(0x05, 0x0A), 0x0B, *range(0x30, 0x38), 0x77, *range(0xA0, 0xA3)):
        table[opcode] = 0
    for opcode in (0xA8, 0xA9, 0xAA, *range(0xC8, 0xD0)):
        table[opcode] = 0
    for opcode in (0x0F, 0x70, 0x71, 0x72, 0x73, 0xA4, 0xAC, 0xBA, 0xC2, 0xC4, 0xC5, 0xC6):
        table[opcode] = _MODRM | _BYTE
    for opcode in (0x04, 0x0A, 0x0C, 0x24, 0x25, 0x26, 0x27, 0x36, 0x39, 0x3B):
        table[opcode] = _INVALID
    return bytes(table)


_ONE, _TWO = _one_byte(), _two_bytes()


def step(code: bytes, at: int, base: int) -> Step:
    """The instruction at code[at], whose address is base + at. Positions are indices of `code`,
    addresses have `base` added. ValueError or IndexError if it is none, or not whole."""
    first = at
    narrow, rex, opcode = False, 0, code[at]
    while opcode in _PREFIXES:
        narrow |= opcode == 0x66
        at += 1
        opcode = code[at]
        if at - first > _LONGEST:
            raise ValueError("prefixes without an end")
    if opcode & 0xF0 == 0x40:
        rex = opcode
        at += 1
        opcode = code[at]
    at += 1
    if opcode == 0x0F:
        return _second_map(code, at, base, rex)
    if opcode in (0xC4, 0xC5, 0x62):
        return _vector(code, at, opcode), _PLAIN, 0
    flags = _ONE[opcode]
    if flags & _INVALID:
        raise ValueError(f"opcode {opcode:#x}")
    end = _modrm_end(code, at) if flags & _MODRM else at
    modrm = code[at] if flags & _MODRM else 0
    if opcode in (0xF6, 0xF7) and not modrm & 0x30:  # TEST
        flags |= _BYTE if opcode == 0xF6 else _IMMEDIATE
    immediate_at = end
    end += bool(flags & _BYTE) + 2 * bool(flags & _WORD)
    if flags & _IMMEDIATE:
        end += 2 if narrow and opcode not in (0xE8, 0xE9) else 4
    elif opcode & 0xF8 == 0xB8:
        end += 8 if rex & 8 else 2 if narrow else 4
    elif opcode & 0xFC == 0xA0:
        end += 8
    if end > len(code):
        raise ValueError("an instruction that is cut off")
    value = int.from_bytes(code[immediate_at:end], "little", signed=True)
    if flags & _MODRM:
        return end, *_with_operands(code, at, opcode, rex, value, end + base)
    return end, *_plain(opcode, rex, value, end + base)


def _modrm_end(code: bytes, at: int) -> int:
    """Behind ModRM, SIB and displacement."""
    modrm = code[at]
    mod, rm = modrm >> 6, modrm & 7
    at += 1
    if mod == 3:
        return at
    if rm == 4:
        if mod == 0 and code[at] & 7 == 5:
            return at + 5
        at += 1
    if mod == 0:
        return at + 4 if rm == 5 else at
    return at + (1 if mod == 1 else 4)


def _plain(opcode: int, rex: int, value: int, end: int) -> tuple[Kind, int]:
    """Of an instruction without ModRM; `end` is an address."""
    register = opcode & 7 | (rex & 1) << 3
    if opcode & 0xF8 == 0x50:
        return Kind.PUSHES, register
    if opcode & 0xF8 == 0x58:
        return (Kind.LOSES_SP, 0) if register == SP else (Kind.POPS, register)
    if opcode & 0xF0 == 0x70 or 0xE0 <= opcode <= 0xE3:
        return Kind.BRANCHES, end + value
    if opcode in (0xE9, 0xEB):
        return Kind.JUMPS, end + value
    if opcode == 0xE8:
        return Kind.CALLS, end + value
    if opcode in (0x68, 0x6A, 0x9C):
        return Kind.PUSHES, -1
    if opcode == 0x9D:
        return Kind.POPS, -1
    if opcode == 0xC9:
        return Kind.LEAVES, 0
    if opcode == 0x90 and not rex:
        return Kind.NOTHING, 0
    if opcode in (0xC2, 0xC3, 0xCA, 0xCB, 0xCC, 0xCF, 0xF4):
        return _ENDS, 0
    if opcode == 0xC8 or (opcode & 0xF8 == 0xB8 and register == SP):
        return Kind.LOSES_SP, 0
    if opcode & 0xF8 == 0xB8 and register == FP:
        return Kind.LOSES_FP, 0
    return _PLAIN, 0


def _with_operands(
    code: bytes, at: int, opcode: int, rex: int, value: int, end: int
) -> tuple[Kind, int]:
    """Of an instruction with ModRM at `at`."""
    modrm = code[at]
    mod, what, reg, rm = modrm >> 6, modrm >> 3 & 7, modrm >> 3 & 7 | (rex & 4) << 1, modrm & 7
    rm |= (rex & 1) << 3
    if opcode == 0xFF and what in (2, 3, 4, 5, 6):
        return ((Kind.CALLS, -1), (Kind.LOST, 0), (Kind.PUSHES, -1))[what // 2 - 1]
    if opcode == 0x8F:
        return Kind.POPS, -1
    if opcode == 0x8D:
        return _address(code, at, reg, end)
    if opcode in (0x81, 0x83) and mod == 3 and rm == SP and what in (0, 5):
        return Kind.MOVES, value if what == 5 else -value
    if opcode in (0x89, 0x8B) and mod == 3 and rex & 8:
        source, target = (reg, rm) if opcode == 0x89 else (rm, reg)
        if (source, target) == (SP, FP):
            return Kind.SETS_FP, 0
        if (source, target) == (FP, SP):
            return Kind.SETS_FROM_FP, 0
    if opcode in _INTO_REG:
        return _loses(reg)
    compares = (opcode in (0x81, 0x83) and what == 7) or (opcode == 0xF7 and what in (0, 1))
    return _loses(rm) if opcode in _INTO_RM and mod == 3 and not compares else (_PLAIN, 0)


def _loses(register: int) -> tuple[Kind, int]:
    if register == SP:
        return Kind.LOSES_SP, 0
    return (Kind.LOSES_FP, 0) if register == FP else (_PLAIN, 0)


def _address(code: bytes, at: int, reg: int, end: int) -> tuple[Kind, int]:
    """LEA."""
    mod, rm = code[at] >> 6, code[at] & 7
    if mod == 0 and rm == 5:
        return Kind.NAMES, end + int.from_bytes(code[at + 1 : at + 5], "little", signed=True)
    of_sp = mod in (0, 1, 2) and rm == 4 and code[at + 1] == 0x24
    place = at + 1 + (rm == 4)
    size = (0, 1, 4, 0)[mod]
    offset = int.from_bytes(code[place : place + size], "little", signed=True)
    if reg == SP:
        if of_sp:
            return Kind.MOVES, -offset
        return (Kind.SETS_FROM_FP, offset) if mod in (1, 2) and rm == 5 else (Kind.LOSES_SP, 0)
    if reg == FP:
        return (Kind.SETS_FP, offset) if of_sp else (Kind.LOSES_FP, 0)
    return _PLAIN, 0


def _second_map(code: bytes, at: int, base: int, rex: int) -> Step:
    opcode = code[at]
    at += 1
    if opcode in (0x38, 0x3A):
        return _checked(code, _modrm_end(code, at + 1) + (opcode == 0x3A)), _PLAIN, 0
    if opcode & 0xF0 == 0x80:
        end = _checked(code, at + 4)
        return end, Kind.BRANCHES, end + base + int.from_bytes(code[at:end], "little", signed=True)
    flags = _TWO[opcode]
    if flags & _INVALID:
        raise ValueError(f"opcode 0f {opcode:#x}")
    if not flags & _MODRM:
        kinds = {
            0x0B: _ENDS,
            0xA0: Kind.PUSHES,
            0xA8: Kind.PUSHES,
            0xA1: Kind.POPS,
            0xA9: Kind.POPS,
        }
        return at, kinds.get(opcode, _PLAIN), -1
    end = _checked(code, _modrm_end(code, at) + bool(flags & _BYTE))
    if opcode == 0x1F:
        return end, Kind.NOTHING, 0
    if opcode in _TWO_INTO_REG:
        return end, *_loses(code[at] >> 3 & 7 | (rex & 4) << 1)
    return end, _PLAIN, 0


def _vector(code: bytes, at: int, opcode: int) -> int:
    """Where a VEX or EVEX instruction ends, whose prefix continues at `at`."""
    if opcode == 0xC5:
        table, at = 1, at + 1
    elif opcode == 0xC4:
        table, at = code[at] & 0x1F, at + 2
    else:
        table, at = code[at] & 7, at + 3
    operation = code[at]
    at += 1
    if table not in (1, 2, 3, 5, 6):
        raise ValueError(f"opcode map {table}")
    if table == 1 and operation == 0x77:
        return at
    has_byte = table == 3 or (table == 1 and bool(_TWO[operation] & _BYTE))
    return _checked(code, _modrm_end(code, at) + has_byte)


def _checked(code: bytes, end: int) -> int:
    if end > len(code):
        raise ValueError("an instruction that is cut off")
    return end
