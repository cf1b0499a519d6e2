"""The unwinder of bpf/unwind.bpf.h in Python, on a stopped process, as a test of rows.

As there, only pc, sp and fp go from frame to frame; all registers are known of the innermost one.
"""

from __future__ import annotations

import bisect
import ctypes
import os
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from huatuo.kernel.elf import Elf
from huatuo.profilers.native.rows import PAGE_SHIFT, UnwindFile
from huatuo.profilers.native.rules import FRAME_POINTER, Cfa, Rule, Saved

_TRACE_ME, _SINGLE_STEP, _GETREGS, _ATTACH, _DETACH = 0, 9, 12, 16, 17
_USER_REGISTERS = struct.Struct("<27Q")  # struct user_regs_struct
# DWARF's numbers in its order; what has none gets one above
_ORDER = (15, 14, 13, 12, 6, 3, 11, 10, 9, 8, 0, 2, 1, 4, 5, 100, 16, 101, 102, 7)
Registers = dict[int, int]  # by DWARF's number
_DEEPEST = 256


class Frame(NamedTuple):
    path: str
    address: int  # as linked
    rule: Rule


def _ptrace(request: int, pid: int, data: Any = None) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(request, pid, None, data):
        raise OSError(ctypes.get_errno(), "ptrace")


def _registers(pid: int) -> Registers:
    buffer = ctypes.create_string_buffer(_USER_REGISTERS.size)
    _ptrace(_GETREGS, pid, buffer)
    return dict(zip(_ORDER, _USER_REGISTERS.unpack(buffer.raw), strict=False))


@contextmanager
def stopped(pid: int) -> Iterator[Registers]:
    """The registers of a process that is ours; it goes on afterwards."""
    _ptrace(_ATTACH, pid)
    try:
        os.waitpid(pid, 0)
        yield _registers(pid)
    finally:
        _ptrace(_DETACH, pid)


def stepped(command: list[str], output: int, every: int) -> Iterator[tuple[int, Registers]]:
    """(pid, registers) at the first instruction of a program, and at each n-th until it ends."""
    pid = os.fork()
    if not pid:
        os.dup2(output, 1)
        _ptrace(_TRACE_ME, 0)
        os.execv(command[0], command)
    count = 0
    try:
        while os.WIFSTOPPED(os.waitpid(pid, 0)[1]):
            if count % every == 0:
                yield pid, _registers(pid)
            count += 1
            _ptrace(_SINGLE_STEP, pid)
        pid = 0
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


class Unwinder:
    """Of one process."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        self._files: dict[str, tuple[Elf, UnwindFile]] = {}
        self.pages: dict[tuple[str, int], list[tuple[int, Rule]]] = {}
        self.look()

    def look(self) -> None:
        """Which mappings there are now."""
        self._maps = []
        for line in Path(f"/proc/{self._pid}/maps").read_text().splitlines():
            span, mode, offset, _, _, *path = line.split(maxsplit=5)
            begin, end = (int(part, 16) for part in span.split("-"))
            if "x" in mode:
                self._maps.append((begin, end, int(offset, 16), path[0] if path else ""))

    def close(self) -> None:
        os.close(self._memory)
        for elf, _ in self._files.values():
            elf.close()

    def stack(self, registers: Registers) -> tuple[list[Frame], str]:
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

    def _caller(self, rule: Rule, registers: Registers) -> Registers:
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
