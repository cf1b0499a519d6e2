"""Processes, threads and programs that are started."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from huatuo.model.units import percent, show_duration
from huatuo.probes.bpf import BpfProbe

__all__ = ["Fork"]

_RING = "fork_surges"


class Fork(BpfProbe):
    """How many processes, threads and programs each container starts, and surges of them.

    A container that starts more than surge_threshold within a second is an event, with the process
    that starts most: a loop in a shell, a pool that is made anew for each request, a fork bomb.
    Hooks: sched:sched_process_fork (kernel/fork.c), sched:sched_process_exec (fs/exec.c).
    Cost: about 0.3 to 0.5 µs per process or thread that is started, 0.2 µs per program.
    """

    priority = 70
    titles: ClassVar[Mapping[str, str]] = {_RING: "{container} started {started} tasks"}
    subjects: ClassVar[Mapping[str, str]] = {_RING: "cgroup"}

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        """One sentence: how many, how fast, who most."""
        started, share = fields["started"], fields["by_forker"] / max(fields["started"], 1)
        kinds = "threads" if fields["threads"] * 2 > started else "processes"
        within = show_duration(fields["within_ns"] / 1e9)
        who = f"{fields['comm']}[{fields['pid']}]"
        return f"{started} {kinds} started within {within}, {percent(share)} of them by {who}"
