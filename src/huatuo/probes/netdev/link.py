"""Network devices that go up and down, appear and vanish; what their hardware could not take."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, ClassVar

from huatuo.kernel import ethtool
from huatuo.kernel.host import Host
from huatuo.kernel.links import Link
from huatuo.kernel.netns import in_host_netns
from huatuo.probes.base import Setting
from huatuo.probes.links import LinkWatcher
from huatuo.probes.reader import Reading, counter
from huatuo.probes.watcher import named, notice

__all__ = ["DeviceLink"]

_SAID = {
    "appeared": "appeared",
    "vanished": "vanished",
    "admin_up": "was switched on",
    "admin_down": "was switched off",
    "carrier_up": "has its link",
    "carrier_down": "lost its link",
}
_CHANGES = counter("changes", "changes noticed since the start", "change")
_LOSSES = counter("carrier_losses", "times that the device lost its link", "device")
_COUNTERS = {
    "rx_missed_errors": counter(
        "missed_packets", "packets dropped because the device had no room for them", "device"
    ),
    "rx_crc_errors": counter("crc_errors", "received packets with a wrong checksum", "device"),
    "rx_length_errors": counter("length_errors", "received packets of a wrong length", "device"),
    "rx_over_errors": counter("overruns", "received packets that overran the device", "device"),
    "rx_nohandler": counter(
        "unwanted_packets", "packets dropped on an inactive device, as of a backup", "device"
    ),
    "tx_aborted_errors": counter("aborted_transmissions", "transmissions given up", "device"),
    "tx_window_errors": counter("late_collisions", "collisions after the time for them", "device"),
}


class DeviceLink(LinkWatcher):
    """Devices that go up or down, lose their link, appear or vanish, with driver and firmware.

    The kernel tells of each change as it happens. Metrics are what drivers count and netdev.stats
    does not show by itself, above all packets that the hardware had no room for; what never
    happened has no series. The veth devices of containers come and go: see `veth`.

    Reads: rtnetlink of the host's namespace, group RTNLGRP_LINK (net/core/rtnetlink.c).
    Cost: one dump per interval, about 20 µs per device; one message per change.
    """

    priority = 80
    ring: ClassVar[str] = "link_changes"
    titles: ClassVar[Mapping[str, str]] = {"link_changes": "{interface}: {change}"}
    schema = notice(
        "link_change",
        ("ifindex", "ifindex_t", "the device"),
        named("change", list(_SAID), "what happened to it"),
        ("device", "comm_t", "its name"),
        ("kind", "comm_t", "kind of virtual device; empty for hardware"),
        ("driver", "text_t", "its driver"),
        ("driver_version", "text_t", "version of the driver; often that of the kernel"),
        ("firmware", "text_t", "version of its firmware"),
        ("bus", "text_t", "where it is plugged in"),
        ("state", "comm_t", "operational state afterwards (RFC 2863)"),
        ("carrier_losses", "count_t", "times that it lost its link so far"),
    )

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self._changes = dict.fromkeys(_SAID, 0)

    @classmethod
    def settings_schema(cls) -> list[Setting]:
        return [
            *super().settings_schema(),
            Setting("max_devices", "count_t", 100, "devices with metrics at most"),
            Setting("veth", "bool", False, "tell of veth devices, too, and have metrics of them"),
        ]

    def _wants(self, link: Link) -> bool:
        return bool(self.settings["veth"]) or link.kind != "veth"

    def compare(self, before: Link | None, after: Link | None) -> None:
        link = after or before
        if link is not None and self._wants(link):
            for change in _changes(before, after):
                self._changes[change] += 1
                self._tell(link, change)

    def _tell(self, link: Link, change: str) -> None:
        driver = ethtool.Driver("", "", "", "")
        with suppress(OSError):
            driver = in_host_netns(self.host, lambda: _driver(link.name))
        self.notices.add(
            ifindex=link.index,
            change=change,
            device=link.name,
            kind=link.kind,
            driver=driver.name,
            driver_version=driver.version,
            firmware=driver.firmware,
            bus=driver.bus,
            state=link.state,
            carrier_losses=max(link.carrier_downs, 0),
        )

    def parts(self) -> Iterator[Iterator[Reading]]:
        yield self._devices()
        yield ((_CHANGES, (change,), count) for change, count in self._changes.items())

    def _devices(self) -> Iterator[Reading]:
        wanted = [link for link in self.devices() if self._wants(link)]
        for link in wanted[: self.settings["max_devices"]]:
            if link.carrier_downs >= 0:
                yield _LOSSES, (link.name,), link.carrier_downs
            for name, family in _COUNTERS.items():
                if link.statistics.get(name):
                    yield family, (link.name,), link.statistics[name]

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        fields["interface"] = fields.pop("device")  # as it was called then
        driver = f" ({fields['driver']})" if fields["driver"] else ""
        return f"{fields['interface']}{driver} {_SAID[str(fields['change'])]}"


def _driver(device: str) -> ethtool.Driver:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        return ethtool.driver(asking, device)


def _changes(before: Link | None, after: Link | None) -> Iterator[str]:
    """What happened to a device between two states."""
    if before is None or after is None:
        yield "vanished" if after is None else "appeared"
        return
    if before.is_up != after.is_up:
        yield "admin_up" if after.is_up else "admin_down"
    if before.carrier != after.carrier:
        yield "carrier_up" if after.carrier else "carrier_down"
