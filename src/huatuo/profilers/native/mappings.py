"""Bare addresses of processes → frames of files, by /proc/PID/maps.

For kernels whose mappings the BPF side cannot search: there it follows frame pointers and leaves
the rest to us. A process that is gone by then keeps its bare addresses.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
import numpy.typing as npt

from huatuo.kernel.host import Host
from huatuo.kernel.procfs import CodeMapping, code_mappings
from huatuo.model.profile import StackStatus
from huatuo.profilers.native.binaries import VDSO, Binaries, Mapped, map_file

__all__ = ["Mappings"]

_NOWHERE, _FILE_SHIFT = 1 << 63, 40  # bpf/unwind/tables.bpf.h
_BARE = list(StackStatus).index(StackStatus.FRAME_POINTERS)


class Mappings:
    """Files get their numbers here, as `binaries` knows them from then on."""

    def __init__(self, host: Host, binaries: Binaries) -> None:
        self._host, self._binaries = host, binaries
        self._numbers: dict[tuple[int, int, int], int] = {}  # device, inode, size
        self._last = VDSO

    def resolve(self, stacks: npt.NDArray[np.void]) -> None:
        """Changes the frames of those stacks (struct stack) that frame pointers led to."""
        known: dict[int, list[CodeMapping]] = {}
        for at in np.flatnonzero(stacks["status"] == _BARE).tolist():
            pid, count = int(stacks["tgid"][at]), int(stacks["user_count"][at])
            if pid not in known:
                known[pid] = self._code(pid)
            frames = stacks["user"][at, :count]
            frames[:] = [self._frame(pid, known[pid], frame) for frame in frames.tolist()]

    def _code(self, pid: int) -> list[CodeMapping]:
        try:
            return code_mappings(self._host.proc / str(pid))
        except OSError:
            return []

    def _frame(self, pid: int, code: list[CodeMapping], frame: int) -> int:
        """The frame as it is where no file is mapped."""
        address = frame & ~_NOWHERE
        at = bisect_right(code, address, key=lambda each: each.start) - 1
        if at < 0 or address >= code[at].end:
            return frame
        number = self._number(pid, code[at])
        offset = address - code[at].start + code[at].offset
        return number << _FILE_SHIFT | offset if number else frame

    def _number(self, pid: int, code: CodeMapping) -> int:
        """Of the mapped file, 0 if there is none or it cannot be had."""
        if not code.inode:
            return VDSO if code.name == "[vdso]" else 0
        link = map_file(self._host, pid, code.start, code.end)
        try:
            size = link.stat().st_size
        except OSError:
            return 0
        key = (code.device, code.inode, size)
        number = self._numbers.get(key)
        if number is None:
            self._last += 1
            number = self._numbers[key] = self._last
            self._binaries.add(number, Mapped(pid, code.start, code.end, *key))
            while (unused := self._binaries.evict()) is not None:
                self._numbers.pop((unused.device, unused.inode, unused.size), None)
        return number
