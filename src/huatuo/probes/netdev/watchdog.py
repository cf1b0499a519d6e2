"""Transmit queues that stood still for too long: the kernel's NETDEV WATCHDOG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from huatuo.model.units import show_duration
from huatuo.probes.bpf import BpfProbe

__all__ = ["Watchdog"]


class Watchdog(BpfProbe):
    """Transmit queues stopped for longer than their driver promised: it resets the device then.

    Device and driver are named in the event; the kernel's log has its own words about it.

    Hooks: net:net_dev_xmit_timeout (net/sched/sch_generic.c).
    Cost: nothing until it happens.
    """

    priority = 90
    titles: ClassVar[Mapping[str, str]] = {"queue_timeouts": "a transmit queue stood still"}

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        fields["interface"] = fields.pop("device")  # as it was called then
        driver = f" ({fields['driver']})" if fields["driver"] else ""
        limit = show_duration(fields["limit_ns"] / 1e9)
        return (
            f"{fields['interface']}{driver}: transmit queue {fields['queue']} "
            f"stood still for more than {limit}"
        )
