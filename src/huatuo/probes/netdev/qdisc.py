"""What queueing disciplines sent, dropped and hold, from rtnetlink."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from huatuo.kernel.host import Host
from huatuo.kernel.netlink import ROUTE, Netlink
from huatuo.kernel.netns import in_host_netns
from huatuo.kernel.qdiscs import Qdisc, qdiscs
from huatuo.probes.base import Setting
from huatuo.probes.links import rtnetlink_unavailable
from huatuo.probes.reader import Family, Key, Reader, Reading, counter, gauge

__all__ = ["QdiscCounters"]

_LABELS = ("device", "kind", "level")
_SUMMED = {
    "bytes": counter("sent_bytes", "bytes sent", *_LABELS),
    "packets": counter("sent_packets", "packets sent", *_LABELS),
    "drops": counter("dropped_packets", "packets dropped", *_LABELS),
    "requeues": counter(
        "requeued_packets", "packets put back because the device was full", *_LABELS
    ),
    "overlimits": counter("overlimits", "times that a packet had to wait for a limit", *_LABELS),
    "queued": gauge("queued_packets", "packets that wait", *_LABELS),
    "backlog": gauge("queued_bytes", "bytes that wait", *_LABELS),
}


class QdiscCounters(Reader):
    """Bytes, packets, drops, requeues and queue lengths of queueing disciplines, by device.

    Children of one kind below one device, such as one per transmit queue, are added up. How long
    packets wait is in net.transmit.
    Reads: rtnetlink of the host's namespace (net/sched/sch_api.c).
    Cost: one dump per interval, about 10 µs per queueing discipline.
    """

    priority = 70

    @classmethod
    def unavailable(cls, host: Host) -> str:
        return rtnetlink_unavailable(host)

    @property
    def hooks(self) -> list[str]:
        return ["rtnetlink"]

    @classmethod
    def settings_schema(cls) -> list[Setting]:
        help = "devices reported at most; those that sent nothing yet are left out first"
        return [Setting("max_devices", "count_t", 100, help)]

    def parts(self) -> Iterator[Iterator[Reading]]:
        yield iter(self._readings())

    def _readings(self) -> list[Reading]:
        names, found = in_host_netns(self.host, _read)
        sent = dict.fromkeys(names.values(), 0)
        sums: dict[tuple[Family, Key], float] = {}
        for each in found:
            device = names.get(each.device)
            if device is not None:
                sent[device] += each.packets
                key = (device, each.kind, each.level)
                for member, family in _SUMMED.items():
                    sums[family, key] = sums.get((family, key), 0) + getattr(each, member)
        kept = set(sorted(sent, key=lambda name: -sent[name])[: self.settings["max_devices"]])
        return [(family, key, sum_) for (family, key), sum_ in sums.items() if key[0] in kept]


def _read() -> tuple[dict[int, str], list[Qdisc]]:
    """Names of devices and queueing disciplines of this thread's namespace; none without any."""
    with Netlink(ROUTE) as netlink:
        return dict(socket.if_nameindex()), [q for q in qdiscs(netlink) if q.kind != "noqueue"]
