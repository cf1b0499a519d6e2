"""Softirqs, from their raise, entry and exit tracepoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from huatuo.probes.bpf import BpfProbe

__all__ = ["Softirq"]


class Softirq(BpfProbe):
    """How long each softirq vector waits to be run and how long it runs; runs that take too long.

    A long delay means that something kept softirqs off a CPU (interrupts or bottom halves disabled,
    an earlier vector, a busy ksoftirqd); a long run holds up whoever was interrupted, and every
    vector behind it.
    Hooks: irq:softirq_raise, irq:softirq_entry, irq:softirq_exit (kernel/softirq.c).
    Of a vector that runs more often than `timed_per_second` on a CPU, a share is timed and counts
    for the rest; that a run is slow is seen of each.
    Cost: about 130 ns per softirq in three programs where each is timed, 40 ns at 100,000 a second,
    and entering them.
    """

    priority = 40
    titles: ClassVar[Mapping[str, str]] = {
        "slow_runs": "softirq {vector} ran for {run_ns} on CPU {cpu}, in front of {comm}",
    }
    subjects: ClassVar[Mapping[str, str]] = {"slow_runs": "cgroup"}
