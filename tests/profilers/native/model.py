"""The unwinder of bpf/unwind.bpf.h in Python, on a stopped process, as a test of rows.

As there, only pc, sp and fp go from frame to frame; all registers are known of the innermost one.
"""

from __future__ import annotations

import bisect
import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from huatuo.kernel.elf import Elf
from huatuo.profilers.native.rows import PAGE_SHIFT, UnwindFile
from huatuo.profilers.native.rules import FRAME_POINTER, Cfa, Rule, Saved

_ATTACH, _DETACH, _GETREGS = 16, 17, 12
_REGISTERS = struct.Struct("<27Q")  # struct user_regs_struct
_DEEPEST = 256


class Frame(NamedTuple):
    path: str
    address: int  # as linked
    rule: Rule


@contextmanager
def stopped(pid: int) -> Iterator[dict[int, int]]:
    """The registers of a process by DWARF number; it goes on afterwards."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(_ATTACH, pid, None, None):
        raise OSError(ctypes.get_errno(), "ptrace")
    try:
        os.waitpid(pid, 0x40000000)  # __WALL
        buffer = ctypes.create_string_buffer(_REGISTERS.size)
        libc.ptrace(_GETREGS, pid, None, buffer)
        (
            r15,
            r14,
            r13,
            r12,
            rbp,
            rbx,
            r11,
            r10,
            r9,
            r8,
            rax,
            rcx,
            rdx,
            rsi,
            rdi,
            _,
            rip,
            _,
            _,
            rsp,
        ) = _REGISTERS.unpack(buffer.raw)[:20]
        order = [rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15, rip]
        yield dict(enumerate(order))
    finally:
        libc.ptrace(_DETACH, pid, None, None)


class Unwinder:
    """Of one process; the mappings are those of the moment it is made."""

    def __init__(self, pid: int) -> None:
        self._memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        self._maps = []
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, mode, offset, _, _, *path = line.split(maxsplit=5)
            begin, end = (int(part, 16) for part in span.split("-"))
            if "x" in mode:
                self._maps.append((begin, end, int(offset, 16), path[0] if path else ""))
        self._files: dict[str, tuple[Elf, UnwindFile]] = {}
        self.pages: dict[tuple[str, int], list[tuple[int, Rule]]] = {}

    def close(self) -> None:
        os.close(self._memory)
        for elf, _ in self._files.values():
            elf.close()

    def stack(self, registers: dict[int, int]) -> tuple[list[Frame], str]:
        """(frames, innermost first; "complete", or why there are no more)."""
        frames: list[Frame] = []
        is_exact = True
        while len(frames) < _DEEPEST:
            frame = self._frame(registers[16], is_exact)
            if frame is None:
                return frames, f"{registers[16]:#x} is no code"
            frames.append(frame)
            rule = frame.rule
            if rule.cfa is Cfa.END:
                return frames, "complete"
            if rule.cfa is Cfa.NONE:
                return frames, "nothing is known of this code"
            try:
                registers = self._caller(rule, registers)
            except KeyError as missing:
                return frames, f"register {missing} is not known"
            except OSError:
                return frames, "memory that cannot be read"
            is_exact = rule.is_signal
        return frames, "too deep"

    def _frame(self, pc: int, is_exact: bool) -> Frame | None:
        where = pc if is_exact else pc - 1
        at = bisect.bisect(self._maps, (where, 1 << 64)) - 1
        begin, end, offset, path = self._maps[at]
        if at < 0 or not begin <= where < end:
            return None
        if not path:
            return Frame(path, where, FRAME_POINTER)  # compiled at run time
        elf, file = self._file(path, begin, end)
        place = where - begin + offset
        key = (path, place >> PAGE_SHIFT)
        rows = self.pages.get(key)
        if rows is None:
            rows = self.pages[key] = file.rows(place >> PAGE_SHIFT)
        within = place & (1 << PAGE_SHIFT) - 1
        rule = rows[bisect.bisect_right([row[0] for row in rows], within) - 1][1]
        address = elf.address_of(place)
        return Frame(path, place if address is None else address, rule)

    def _file(self, path: str, begin: int, end: int) -> tuple[Elf, UnwindFile]:
        if path not in self._files:
            image = path == "[vdso]"
            elf = Elf(os.pread(self._memory, end - begin, begin) if image else Path(path))
            self._files[path] = elf, UnwindFile(elf)
        return self._files[path]

    def _caller(self, rule: Rule, registers: dict[int, int]) -> dict[int, int]:
        base = registers[rule.cfa_register]
        if rule.cfa is Cfa.REGISTER:
            cfa = base + rule.cfa_offset
        elif rule.cfa is Cfa.DEREF:
            cfa = self._word(base + rule.cfa_offset) + rule.cfa_add
        else:
            cfa = base + (16 if registers[16] & 15 >= rule.cfa_offset else 8)
        found = {7: cfa}
        for number, saved, offset in ((16, rule.ra, rule.ra_offset), (6, rule.fp, rule.fp_offset)):
            if saved is Saved.SAME and number in registers:
                found[number] = registers[number]
            elif saved in (Saved.AT_CFA, Saved.AT_SP, Saved.AT_FP):
                place = {Saved.AT_CFA: cfa, Saved.AT_SP: registers[7]}.get(saved)
                found[number] = self._word((registers[6] if place is None else place) + offset)
        return found

    def _word(self, address: int) -> int:
        data = os.pread(self._memory, 8, address)
        if len(data) != 8:
            raise OSError("short")
        return int.from_bytes(data, "little")
