"""System calls: how many, how long they take, and which errors they end with; seen in windows."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from huatuo.kernel.cgroupfs import identities
from huatuo.kernel.maps import Map
from huatuo.model.record import Schema
from huatuo.probes.bpf import Rows
from huatuo.probes.windows import Timed

__all__ = ["Syscalls"]

_FULL = 0.75  # of a table, from which on the rows of containers that are gone are given back


class Syscalls(Timed):
    """How many system calls of each name, how long they take, how they fail; by container, too.

    Seen in windows, a tenth of a second of every ten, all calls in them: true rates are those of
    the counters divided by that of huatuo_task_syscalls_observed_seconds_total. The histograms hold
    calls that began and ended in the same window, so of long ones too few, and none that is longer
    than a window: those, and calls that a seccomp filter refused, count as untimed. Containers have
    a histogram per kind of call; `wait` are those made to wait, though reads of a pipe or a socket
    wait just as well. Calls of 32-bit programs count as `other`.
    Hooks: raw_syscalls:sys_enter and sys_exit (kernel/entry/common.c), attached in windows.
    Kernels: before 5.11 at most 1,024 threads are timed at once.
    Cost: in a window 0.8 us per system call of anybody, of which the programs take 0.2; the rest is
    entering them and the kernel's slower path. Opening and closing one takes 1 ms of CPU time. At
    1,000,000 calls per second that makes 0.8 % of a CPU. 120 KiB of memory per CPU.
    """

    priority = 45
    usual_window_ns = 100_000_000
    held: ClassVar[Collection[str]] = ("sys_enter", "sys_exit")

    def open_window(self) -> None:
        """It begins when both are attached."""
        super().open_window()
        self._tell(self.host.now_ns())

    def close_window(self) -> None:
        """It ends for all CPUs at once, before the programs are taken away one after the other."""
        self._tell(0)
        super().close_window()

    def _tell(self, began_ns: int) -> None:
        began = began_ns.to_bytes(8, "little")
        self._running().maps["window_began"].update(bytes(4), began)

    def tables(self) -> Iterator[tuple[Schema, Rows, Schema, Rows]]:
        """Only calls that were made; of containers that are gone only as long as there is room."""
        maps = self._running().maps
        for name in ("by_call", "by_container", "by_error"):
            table = maps[name]
            keys, values = table.read()
            words = values.view(np.uint64).reshape(len(values), values.dtype.itemsize // 8)
            shown = words.any(axis=1)
            if name != "by_call" and len(keys) > table.max_entries * _FULL:
                shown &= self._forget_gone(table, keys)
            assert table.key and table.value
            yield table.key, keys[shown], table.value, values[shown]

    def _forget_gone(self, table: Map, keys: Rows) -> npt.NDArray[np.bool_]:
        """Make room in a table; which of its rows are left."""
        alive = np.array([0, *(cgroup.id for cgroup in identities(self.host))], np.uint64)
        left = np.isin(keys["cgroup"], alive)
        for key in keys[~left]:
            table.delete(key.tobytes())
        return left
