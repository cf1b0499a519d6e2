"""Processes that end, and by whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from huatuo.model.units import show_duration
from huatuo.probes.bpf import BpfProbe

__all__ = ["Exit"]

_RING = "abnormal_exits"


class Exit(BpfProbe):
    """How processes end: counted by container; those that a signal ends, with who sent it.

    An event is a process that a signal ended, with or without a core dump, unless it is one that
    asks for an end (SIGTERM, SIGINT …; `requested_ends` reports these too); and process 1 of a PID
    namespace, with which its container ends, whenever it does not end with exit(0). The sender is
    the process that called kill(), the process itself for a fault, or who ran when the kernel
    decided, as in an out-of-memory kill. Only counted are the status of other processes that fail,
    since many programs tell their result by it, and those that go with process 1 of their PID
    namespace.
    Hooks: sched:sched_process_exit (kernel/exit.c), signal:signal_generate (kernel/signal.c).
    Kernels: before 6.16 the last thread is found by the number of those that are left.
    Cost: 1 to 1.5 µs per process that ends, 0.1 to 0.2 µs per signal, 0.7 µs for one that ends a
    process.
    """

    priority = 80
    titles: ClassVar[Mapping[str, str]] = {_RING: "{comm} ended: {kind}"}
    subjects: ClassVar[Mapping[str, str]] = {_RING: "cgroup"}

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        """One sentence: who ended, how, by whom."""
        who = f"{fields['comm']}[{fields['pid']}]"
        if fields["init"]:
            who += ", process 1 of its PID namespace,"
        how = _how(fields) if fields["signal"] != "none" else f"exited with {fields['status']}"
        fields["address"] = f"{fields['address']:#x}" if fields["origin"] == "fault" else ""
        return f"{who} {how} after {show_duration(fields['ran_ns'] / 1e9)}"


def _how(fields: Mapping[str, Any]) -> str:
    sender = f"{fields['sender_comm']}[{fields['sender_pid']}]"
    signal = fields["signal"]
    name = f"signal {signal}" if signal.isdecimal() else f"SIG{signal.upper()}"
    dumped = " and dumped core" if fields["kind"] == "core" else ""
    if fields["kind"] == "oom":
        return f"was killed: out of memory{dumped}"
    if fields["origin"] == "fault":
        return f"died of {name} at {fields['address']:#x}{dumped}"
    if fields["origin"] == "process":
        by = "itself" if fields["sender_pid"] == fields["pid"] else sender
        return f"was killed by {by} with {name}{dumped}"
    if fields["origin"] == "kernel":
        return f"was killed by the kernel with {name} while {sender} ran{dumped}"
    return f"was killed with {name}{dumped}"
