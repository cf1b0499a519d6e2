"""How long system calls on files take, by kind of file system; seen in windows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from huatuo.model.units import show_duration
from huatuo.probes.windows import Windowed

__all__ = ["Latency"]

_LONGEST_TAIL_NS = 30_000_000_000  # how long the end of a call is waited for


class Latency(Windowed):
    """How long reads, writes, opens and fsyncs of files take, by file system and container.

    Seen in windows, half a second of every ten: the distribution is the true one, and the true
    rate is the rate of the count divided by that of huatuo_fs_latency_observed_seconds_total. What
    begins in a window is followed to its end. Regular files and disks only; memory-mapped access,
    io_uring and asynchronous I/O make no such system calls.
    Hooks: raw_syscalls:sys_enter and sys_exit, attached in windows. The same on all kernels: hooks
    on vfs_read() would cost every read of every pipe, and are refused by some kernels.
    Cost: in a window about 0.2 µs per system call of anybody and 0.5 µs per call on a file; opening
    and closing one takes 0.6 ms of CPU time. At 100,000 system calls per second, all of them on
    files, about 0.3 % of a CPU.
    """

    priority = 50
    held: ClassVar[Collection[str]] = ("sys_enter", "sys_exit")  # by `open_window`, in order
    stays: ClassVar[Collection[str]] = ("sys_exit",)  # until the calls of a window have ended
    titles: ClassVar[Mapping[str, str]] = {
        "slow_calls": "{comm}[{tid}]: {operation} of {path} took {duration_ns}"
    }
    subjects: ClassVar[Mapping[str, str]] = {"slow_calls": "cgroup"}

    @property
    def hooks(self) -> list[str]:
        """Those of the moment."""
        return super(Windowed, self).hooks

    def start(self) -> None:
        super().start()
        self.open_window()

    def _turn(self) -> None:
        """Between windows, let sys_exit go when nothing needs it."""
        super()._turn()
        if self._opened_ns or not self._running().is_attached("sys_exit"):
            return
        calls, _ = self._running().maps["calls"].read()
        if not len(calls) or self.host.now_ns() - self._closed_ns > _LONGEST_TAIL_NS:
            self._running().detach("sys_exit")

    def open_window(self) -> None:
        """Ends first: what begins is followed."""
        self._running().attach_held("sys_exit")
        self._running().attach_held("sys_enter")

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        took = show_duration(fields["duration_ns"] / 1e9)
        where = f"{fields['path']} ({fields['filesystem']} on {fields['disk']})"
        return f"{fields['comm']}[{fields['tid']}]: {fields['operation']} of {where} took {took}"
