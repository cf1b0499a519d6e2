"""Trouble that the drivers of network cards count by themselves: ethtool -S."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from functools import lru_cache

from huatuo.kernel import ethtool
from huatuo.kernel.host import Host
from huatuo.kernel.netns import in_host_netns
from huatuo.probes.base import Setting
from huatuo.probes.reader import Reader, Reading, counter

__all__ = ["DriverStatistics"]

_STATISTICS = counter("statistics", "what the driver counts, by its own name", "device", "name")
_TROUBLE = re.compile(
    "abort|bad|busy|carrier|cnp|coll|corrected|crc|defer|discard|drop|ecn|err|fail|fault|fifo|full"
    "|invalid|jabber|late|link_down|lost|miss|no_?(buf|desc|dma|mem)|out_of|over|pause|pfc|reset"
    "|restart|retr|stall|stop|symbol|timeout|trunc|under|wake"
)
_QUEUE = re.compile(r"(?<![a-z])((?:rx|tx)?_?(?:queue|ring|rxq|txq|ch|rx|tx|q)s?)[-_. ]?\d+")
_INDEX = re.compile(r"^\[\d+\]:? *")


class DriverStatistics(Reader):
    """Errors, drops, pauses and overruns as the driver counts them, under its own names.

    What it counts per queue is added up. Traffic is left out unless `all` is set; what never
    happened has no series. Only devices of hardware.
    Reads: the ioctl SIOCETHTOOL (net/ethtool/ioctl.c), as `ethtool -S` does.
    Cost: depends on the driver, which may have to ask the card: 20 µs for virtio, up to some
    milliseconds, during which the kernel's network configuration is locked.
    """

    priority = 60

    @classmethod
    def unavailable(cls, host: Host) -> str:
        if not _hardware(host):
            return "no network device of hardware"
        return ""

    @property
    def hooks(self) -> list[str]:
        return ["SIOCETHTOOL"]

    @classmethod
    def settings_schema(cls) -> list[Setting]:
        return [
            Setting("all", "bool", False, "report all that drivers count, traffic too"),
            Setting("max_devices", "count_t", 16, "devices reported at most"),
            Setting("max_statistics", "count_t", 200, "statistics reported of a device at most"),
        ]

    def parts(self) -> Iterator[Iterator[Reading]]:
        for device in _hardware(self.host)[: self.settings["max_devices"]]:
            yield self._device(device)

    def _device(self, device: str) -> Iterator[Reading]:
        sums: dict[str, int] = {}
        found = in_host_netns(self.host, lambda: _statistics(device))
        names = {name for name, _ in found}
        for name, value in found:
            shared, is_trouble = _kind_of(name)
            if shared != name and shared in names:
                continue  # the driver adds up itself
            if value and (is_trouble or self.settings["all"]):
                sums[shared] = sums.get(shared, 0) + value
        for name in sorted(sums)[: self.settings["max_statistics"]]:
            yield _STATISTICS, (device, name), sums[name]


def _hardware(host: Host) -> list[str]:
    try:
        devices = sorted((host.sys / "class/net").iterdir())
    except OSError:
        return []
    return [device.name for device in devices if (device / "device").exists()]


def _statistics(device: str) -> list[tuple[str, int]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        return ethtool.statistics(asking, device)


@lru_cache(maxsize=8192)
def _kind_of(name: str) -> tuple[str, bool]:
    """The name without the queue's number, and whether it is trouble."""
    shared = _QUEUE.sub(r"\1", _INDEX.sub("", name.strip()))
    return shared, bool(_TROUBLE.search(shared.lower()))
