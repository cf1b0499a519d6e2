"""Time off the CPU by stack, from looking at all threads some times a second."""

from __future__ import annotations

import logging
import threading
import time

import numpy as np

from huatuo.errors import HuatuoError
from huatuo.kernel.object import BpfObject, Statistics
from huatuo.probes.profiler import Profiler

__all__ = ["Blocked"]

log = logging.getLogger(__name__)


class Blocked(Profiler):
    """Where threads wait, for what, and who holds the lock they want.

    Hooks: a task iterator (kernel/bpf/task_iter.c), run some times a second.
    Kernels: 6.1 or later, for reading a sleeping task's stack.
    Cost: about 1 us per thread and pass, 10 us for each that moved since the last.
    """

    profile = "blocked"
    priority = 50

    @property
    def hooks(self) -> list[str]:
        return ["iter/task"] if self.object is not None else []

    def start(self) -> None:
        super().start()
        self._pace = 1.0
        self._seconds = 0.0
        self._ending = threading.Event()
        self._thread = threading.Thread(
            target=self._look_forever, args=(self._running(),), name="blocked", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        if self.object is not None:
            self._ending.set()
            self._thread.join()
        super().stop()

    def _look_forever(self, opened: BpfObject) -> None:
        """A thread of its own: reading another process's stack may have to wait for it."""
        last = time.monotonic_ns()
        while not self._ending.wait(1 / max(self.settings["passes_per_second"], 1) / self._pace):
            now = time.monotonic_ns()
            self.look(opened, now, now - last)
            last = now
            self._seconds = time.thread_time()

    def cost(self) -> dict[str, Statistics]:
        """The program runs in our own thread, whose time says it better: it may have to wait."""
        return {}

    def own_seconds(self) -> float:
        return self._seconds

    def set_pace(self, pace: float) -> None:
        self._pace = pace

    def look(self, opened: BpfObject, now_ns: int, interval_ns: int) -> None:
        """One pass over all threads; each that is blocked has been so for the interval."""
        found = np.array([now_ns, interval_ns], np.uint64)
        opened.maps["passes"].update(bytes(4), found.tobytes())
        try:
            opened.run_iterator("blocked_threads")
        except (HuatuoError, OSError) as error:
            log.debug("%s: a pass failed: %s", self.name, error)
