"""Waits for the kernel's locks by stack, from the contention tracepoints."""

from __future__ import annotations

from huatuo.probes.profiler import Profiler

__all__ = ["Lock"]


class Lock(Profiler):
    """Which of the kernel's locks are waited for, by whom and for how long.

    Hooks: lock:contention_begin, lock:contention_end (kernel/locking).
    Kernels: 5.19 or later.
    Cost: 0.2 us per contended lock, 10 us where the wait is long enough to be sampled. Where locks
    are fought over that is felt: on demand only.
    """

    profile = "lock"
    on_tracepoint = True
    kind_label = "type"
    automatic = False
