"""Sent packets: how long they wait in queueing disciplines, and take from TCP to there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from huatuo.model.units import show_duration
from huatuo.probes.net.flow import flow
from huatuo.probes.windows import Windowed

__all__ = ["Transmit"]


class Transmit(Windowed):
    """How long sent packets wait in queueing disciplines, and TCP's take to get there.

    A packet belongs to the container of its socket as long as it has one: until it leaves its
    network namespace. What TCP holds back itself to pace a connection does not count. Packets that
    find an empty queue pass it by, and are not counted; what waits in the device below shows up as
    a queue above it. Of packets that leave together, as a driver may ask for, all are counted and
    the first may be an event.

    Hooks: qdisc:qdisc_enqueue (net/core/dev.c), before 5.15 net:net_dev_queue instead;
    qdisc:qdisc_dequeue (net/sched/sch_generic.c).
    Kernels: before 5.15 in windows, half a second of every ten, since there every packet has to be
    looked at; container on cgroup v1, and process, of TCP since 5.11.
    Cost: about 250 ns per packet that is queued, nothing for the others (before 5.15: 100 ns).
    """

    priority = 60
    titles: ClassVar[Mapping[str, str]] = {"late_transmissions": "a packet was sent late"}
    subjects: ClassVar[Mapping[str, str]] = {"late_transmissions": "cgroup"}
    shares = ("socket_owners",)

    def duty(self) -> float:
        """Always, where nothing runs for packets that are not queued."""
        every_packet = any("(given to device)" in hook for hook in self.hooks)
        return super().duty() if every_packet else 1.0

    def open_window(self) -> None:
        """What was queued before is not known: places in the table hold the last window's."""
        now = self.host.now_ns().to_bytes(8, "little")
        self._running().maps["window_began"].update(bytes(4), now)
        super().open_window()

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
