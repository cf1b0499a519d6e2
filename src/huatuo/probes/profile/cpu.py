"""CPU time by stack, from a clock on every CPU."""

from __future__ import annotations

import errno

from huatuo.errors import KernelLacks
from huatuo.kernel.object import BpfObject
from huatuo.kernel.perf import open_clock
from huatuo.probes.profiler import Profiler

__all__ = ["Cpu"]


class Cpu(Profiler):
    """Where CPU time goes: kernel and user stacks of everything on the host, all the time.

    Hooks: a CPU clock event on every CPU (kernel/events/core.c), silent while the CPU is idle.
    Cost: about 10 us per sample, 19 samples per second and busy CPU.
    """

    profile = "cpu"
    priority = 60

    def start(self) -> None:
        super().start()
        try:
            self._start_clocks(self._running())
        except BaseException:
            self.stop()
            raise

    def _start_clocks(self, opened: BpfObject) -> None:
        period_ns = 1_000_000_000 // max(self.settings["samples_per_second"], 1)
        for cpu in self.host.online_cpus():
            try:
                opened.attach_perf_event("cpu_clock", open_clock(cpu, period_ns))
            except OSError as error:
                if error.errno != errno.ENODEV:  # went offline just now
                    raise KernelLacks(f"{self.name}: {error}") from error
