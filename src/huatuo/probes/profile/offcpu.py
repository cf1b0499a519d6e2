"""Time off the CPU by stack, exactly, from the scheduler."""

from __future__ import annotations

from huatuo.probes.profiler import Profiler

__all__ = ["Offcpu"]


class Offcpu(Profiler):
    """Where threads leave the CPU and for how long they stay away, every time.

    Hooks: sched:sched_switch (kernel/sched/core.c).
    Kernels: 6.1 or later.
    Cost: 10 us per context switch of the threads that are looked at: on demand only.
    """

    profile = "offcpu"
    on_tracepoint = True
    automatic = False
