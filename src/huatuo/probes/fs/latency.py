"""How long system calls on files take, by kind of file system; seen in windows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from huatuo.kernel.host import Host
from huatuo.model.meaning import Role
from huatuo.model.metric import Metric
from huatuo.model.record import RecordBatch
from huatuo.model.units import show_duration
from huatuo.probes.base import Setting
from huatuo.probes.bpf import BpfProbe

__all__ = ["Latency"]

_LONGEST_TAIL_NS = 30_000_000_000  # how long the end of a call is waited for
_OWN = (
    Setting("window", "duration_ns_t", 500_000_000, "how long calls are watched at a time"),
    Setting("every", "duration_ns_t", 10_000_000_000, "how often; as long as `window`: always"),
)


class Latency(BpfProbe):
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
    held: ClassVar[Collection[str]] = ("sys_enter", "sys_exit")
    titles: ClassVar[Mapping[str, str]] = {
        "slow_calls": "{comm}[{tid}]: {operation} of {path} took {duration_ns}"
    }
    subjects: ClassVar[Mapping[str, str]] = {"slow_calls": "cgroup"}

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self._opened_ns = self._closed_ns = 0  # of the present or the last window
        self._observed_ns = 0  # of all windows before it

    @classmethod
    def settings_schema(cls) -> list[Setting]:
        return [*super().settings_schema(), *_OWN]

    def start(self) -> None:
        super().start()
        self._open_window()

    def stop(self) -> None:
        if self._opened_ns:
            self._close_window()
        super().stop()

    def duty(self) -> float:
        return min(self.settings["window"] / max(self.settings["every"], 1), 1.0)

    def watched_seconds(self) -> float:
        return (self._observed_ns + self._present_ns()) / 1e9

    def _present_ns(self) -> int:
        return self.host.now_ns() - self._opened_ns if self._opened_ns else 0

    def drain(self) -> Iterator[RecordBatch]:
        self._turn()
        yield from super().drain()

    def _turn(self) -> None:
        """Open or close the window if it is time; let sys_exit go when nothing needs it."""
        now = self.host.now_ns()
        if self._opened_ns:
            if self.duty() < 1 and self._present_ns() >= self.settings["window"]:
                self._close_window()
        elif now - self._closed_ns >= self.settings["every"] - self.settings["window"]:
            self._open_window()
        elif self._running().is_attached("sys_exit"):
            calls, _ = self._running().maps["calls"].read()
            if not len(calls) or now - self._closed_ns > _LONGEST_TAIL_NS:
                self._running().detach("sys_exit")

    def _open_window(self) -> None:
        self._running().attach_held("sys_exit")
        self._running().attach_held("sys_enter")
        self._opened_ns = self.host.now_ns()

    def _close_window(self) -> None:
        self._running().detach("sys_enter")
        self._observed_ns += self._present_ns()
        self._opened_ns, self._closed_ns = 0, self.host.now_ns()

    def collect(self) -> Iterator[Metric]:
        yield from super().collect()
        yield Metric(
            "huatuo_fs_latency_observed_seconds_total",
            Role.COUNTER,
            "time in which calls were watched",
            np.array([self.watched_seconds()]),
        )

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        took = show_duration(fields["duration_ns"] / 1e9)
        where = f"{fields['path']} ({fields['filesystem']} on {fields['disk']})"
        return f"{fields['comm']}[{fields['tid']}]: {fields['operation']} of {where} took {took}"
