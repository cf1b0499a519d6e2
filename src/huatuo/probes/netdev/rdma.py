"""RDMA ports: traffic, state, and what the hardware counts, from /sys/class/infiniband."""

from __future__ import annotations

import os
from collections.abc import Iterator

from huatuo.kernel.host import Host
from huatuo.probes.base import Setting
from huatuo.probes.reader import Reader, Reading, counter, gauge

__all__ = ["Rdma"]

_PORT = ("device", "port")
_BYTES = counter("bytes", "bytes received and transmitted", *_PORT, "direction")
_PACKETS = counter("packets", "packets received and transmitted", *_PORT, "direction")
_EVENTS = counter("events", "what the port counts, by its own name", *_PORT, "event")
_ACTIVE = gauge("port_active", "1 if the port's state is ACTIVE", *_PORT)
_WORD = 4  # bytes; port_*_data count these (Documentation/ABI/stable/sysfs-class-infiniband)
_NAMED = {
    "port_rcv_data": (_BYTES, "receive", _WORD),
    "port_xmit_data": (_BYTES, "transmit", _WORD),
    "port_rcv_packets": (_PACKETS, "receive", 1),
    "port_xmit_packets": (_PACKETS, "transmit", 1),
}
_SETTINGS = {"lifespan"}  # of hw_counters: how long the driver caches


class Rdma(Reader):
    """Traffic, state and error counters of RDMA ports: InfiniBand, RoCE, iWARP, and soft ones.

    Devices are found anew each time, so they may come and go. Counters that never moved have no
    series.
    Reads: counters and hw_counters in /sys/class/infiniband (drivers/infiniband/core/sysfs.c).
    Cost: one small read per counter, 20 to 60 per port; some drivers ask the hardware.
    """

    priority = 60
    files = ("sys/class/infiniband",)

    @classmethod
    def unavailable(cls, host: Host) -> str:
        path = cls.locate(host, cls.files[0])
        return "" if os.path.isdir(path) else f"{path} is not there: RDMA is not loaded"  # noqa: PTH112

    @classmethod
    def settings_schema(cls) -> list[Setting]:
        return [Setting("max_ports", "count_t", 64, "ports reported at most")]

    def parts(self) -> Iterator[Iterator[Reading]]:
        root = self.host.sys / "class/infiniband"
        ports = [path for device in sorted(root.iterdir()) for path in _ports(str(device))]
        for path in ports[: self.settings["max_ports"]]:
            yield self._port(path)

    def _port(self, path: str) -> Iterator[Reading]:
        device, _, port = path.split("/")[-3:]
        yield _ACTIVE, (device, port), "ACTIVE" in self.text(f"{path}/state")
        for group in ("counters", "hw_counters"):
            for name in _listed(f"{path}/{group}"):
                value = self.optional(f"{path}/{group}/{name}").strip()
                if name in _SETTINGS or not value.isdecimal():
                    continue  # some counters cannot be read on some hardware
                if name in _NAMED:
                    family, direction, scale = _NAMED[name]
                    yield family, (device, port, direction), int(value) * scale
                elif int(value):
                    yield _EVENTS, (device, port, name), int(value)


def _ports(device: str) -> list[str]:
    return [f"{device}/ports/{port}" for port in _listed(f"{device}/ports")]


def _listed(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))  # noqa: PTH208
    except OSError:
        return []  # gone meanwhile, or this driver has none
