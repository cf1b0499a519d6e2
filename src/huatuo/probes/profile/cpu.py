"""CPU time by stack, from a clock on every CPU."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from huatuo.errors import KernelLacks
from huatuo.kernel.features import unwinding_unavailable
from huatuo.kernel.perf import open_clock
from huatuo.model.metric import Metric
from huatuo.probes.profiler import Profiler

__all__ = ["Cpu"]


class Cpu(Profiler):
    """Where CPU time goes: kernel and user stacks of everything on the host, all the time.

    Hooks: a CPU clock event on every CPU (kernel/events/core.c), silent while the CPU is idle.
    Kernels: all; before 6.1 stacks of user space are followed by frame pointers, and are true only
    where programs keep them.
    Cost: about 10 us per sample, 19 samples per second and busy CPU.
    """

    profile = "cpu"
    priority = 60
    needs_rows = False

    @property
    def notes(self) -> list[str]:
        if not any("(frame pointers)" in hook for hook in self.hooks):
            return []
        why = unwinding_unavailable() or "the kernel refuses the other form"
        return [
            f"stacks of user space by frame pointers, true only where programs keep them: {why}"
        ]

    def start(self) -> None:
        super().start()
        try:
            self._start_clocks(1.0)
        except BaseException:
            self.stop()
            raise

    def _start_clocks(self, pace: float) -> None:
        opened, self._pace = self._running(), pace
        self._cpus = self.host.online_cpus()
        period_ns = round(1e9 / (max(self.settings["samples_per_second"], 1) * pace))
        for cpu in self._cpus:
            try:
                opened.attach_perf_event("cpu_clock", open_clock(cpu, period_ns))
            except OSError as error:
                if error.errno != errno.ENODEV:  # went offline just now
                    raise KernelLacks(f"{self.name}: {error}") from error

    def set_pace(self, pace: float) -> None:
        """New clocks: the period that a sample reports is the one its clock was opened with."""
        self._running().detach("cpu_clock")
        self._start_clocks(pace)

    def collect(self) -> Iterator[Metric]:
        """No metrics; the occasion to notice that CPUs came or went."""
        if self.host.online_cpus() != self._cpus:
            self.set_pace(self._pace)
        return super().collect()
