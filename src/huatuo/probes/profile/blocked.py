"""Time off the CPU by stack, from looking at all threads some times a second."""

from __future__ import annotations

import time

import numpy as np

from huatuo.kernel.object import BpfObject, Statistics
from huatuo.probes.periodic import Periodic
from huatuo.probes.profiler import Profiler

__all__ = ["Blocked"]


class Blocked(Profiler):
    """Where threads wait, for what, and who holds the lock they want.

    Hooks: a task iterator (kernel/bpf/task_iter.c), run some times a second; sched_process_exit for
    waits that end with their thread.
    Kernels: 6.1 or later, for reading a sleeping task's stack.
    Cost: about 1 us per thread and pass, 10 us for each that moved since the last; 0.1 us per
    thread that exits.
    """

    profile = "blocked"
    priority = 50

    @property
    def hooks(self) -> list[str]:
        return ["iter/task", *super().hooks] if self.object is not None else []

    def start(self) -> None:
        super().start()
        self._pace = 1.0
        self._last = time.monotonic_ns()
        self._looking = Periodic(self.name, self._look, self._pause)

    def stop(self) -> None:
        if self.object is not None:
            self._looking.stop()
        super().stop()

    def _pause(self) -> float:
        return 1 / max(self.settings["passes_per_second"], 1) / self._pace

    def _look(self) -> None:
        now, last = time.monotonic_ns(), self._last
        self._last = now
        self.look(self._running(), now, now - last)

    def cost(self) -> dict[str, Statistics]:
        """Without the passes: they run in our own thread, whose time says it better."""
        costs = super().cost()
        return {name: cost for name, cost in costs.items() if name != "blocked_threads"}

    def own_seconds(self) -> float:
        return self._looking.seconds

    def set_pace(self, pace: float) -> None:
        self._pace = pace

    def look(self, opened: BpfObject, now_ns: int, interval_ns: int) -> None:
        """One pass over all threads; each that is blocked has been so for the interval."""
        found = np.array([now_ns, interval_ns], np.uint64)
        opened.maps["passes"].update(bytes(4), found.tobytes())
        opened.run_iterator("blocked_threads")
