"""Sent packets: how long they wait in queueing disciplines, and take from TCP to there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from huatuo.model.units import show_duration
from huatuo.probes.bpf import BpfProbe
from huatuo.probes.net.flow import flow

__all__ = ["Transmit"]


class Transmit(BpfProbe):
    """How long sent packets wait in queueing disciplines, and TCP's take to get there.

    A packet belongs to the container of its socket as long as it has one: until it leaves its
    network namespace. What TCP holds back itself to pace a connection does not count. Packets that
    find an empty queue pass it by, and are not counted; what waits in the device below shows up as
    a queue above it. Of packets that leave together, as a driver may ask for, all are counted and
    the first may be an event.

    Hooks: qdisc:qdisc_enqueue (net/core/dev.c), before 5.15 net:net_dev_queue instead;
    qdisc:qdisc_dequeue (net/sched/sch_generic.c).
    Kernels: container on cgroup v1, and process, of TCP since 5.11.
    Cost: about 250 ns per packet that is queued, nothing for the others (before 5.15: 100 ns).
    """

    priority = 60
    titles: ClassVar[Mapping[str, str]] = {"late_transmissions": "a packet was sent late"}
    subjects: ClassVar[Mapping[str, str]] = {"late_transmissions": "cgroup"}
    shares = ("socket_owners",)

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        protocol = {"tcp": "TCP", "udp": "UDP"}.get(str(fields["protocol"]), "IP")
        waited = show_duration(fields["queue_ns"] / 1e9)
        device = f"{fields['qdisc']} of {fields['interface'] or 'a device'}"
        before = ""
        if fields["stack_ns"] > fields["queue_ns"]:
            before = f", {show_duration(fields['stack_ns'] / 1e9)} after TCP had sent it"
        others = fields["packets"] - 1
        more = f", and {others} more with it" if others > 0 else ""
        return f"{protocol} {flow(fields)}: a packet waited {waited} in {device}{before}{more}"
