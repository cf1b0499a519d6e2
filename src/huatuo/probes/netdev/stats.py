"""Traffic, errors and link state of network devices, from /proc/net/dev and /sys/class/net."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

from huatuo.kernel.host import Host
from huatuo.kernel.procfs import parse_netdev
from huatuo.probes.base import Setting
from huatuo.probes.reader import Reader, Reading, counter, gauge

__all__ = ["Stats"]

_BYTES = counter("bytes", "bytes received and transmitted", "device", "direction")
_PACKETS = counter("packets", "packets received and transmitted", "device", "direction")
_ERRORS = counter("errors", "packets with errors", "device", "direction")
_DROPPED = counter(
    "dropped_packets",
    "packets dropped by hardware, driver or for want of a receiver",
    "device",
    "direction",
)
_FIFO = counter("fifo_errors", "overruns of the device's rings", "device", "direction")
_FRAME = counter("frame_errors", "received frames with wrong length, checksum or form", "device")
_MULTICAST = counter("multicast_packets", "multicast packets received", "device")
_COLLISIONS = counter("collisions", "collisions while transmitting", "device")
_CARRIER_ERRORS = counter("carrier_errors", "transmissions that lost the carrier", "device")
# columns of /proc/net/dev; "compressed" is of PPP and SLIP only
_COLUMNS = (
    (_BYTES, "receive"),
    (_PACKETS, "receive"),
    (_ERRORS, "receive"),
    (_DROPPED, "receive"),
    (_FIFO, "receive"),
    (_FRAME, ""),
    None,
    (_MULTICAST, ""),
    (_BYTES, "transmit"),
    (_PACKETS, "transmit"),
    (_ERRORS, "transmit"),
    (_DROPPED, "transmit"),
    (_FIFO, "transmit"),
    (_COLLISIONS, ""),
    (_CARRIER_ERRORS, ""),
    None,
)
_UP = gauge("up", "1 if the device can carry traffic (operstate up or unknown)", "device")
_CARRIER = gauge("carrier", "1 if the link is there", "device")
_CHANGES = counter("carrier_changes", "times the link went up or down", "device")
_MTU = gauge("mtu_bytes", "largest packet", "device")
_SPEED = gauge("speed_bytes_per_second", "link speed; absent if unknown", "device")


class Stats(Reader):
    """Traffic, drops and errors of each network device, and whether its link is up.

    dropped and fifo are packets lost before the network stack saw them: not in net.drop.
    Reads: /proc/net/dev of the host's namespace; operstate, carrier, carrier_changes, mtu and
    speed in /sys/class/net (net/core/net-procfs.c, net/core/net-sysfs.c).
    Cost: one read, and four small ones per device; speed only after the link changed, because
    some drivers ask the hardware for it.
    """

    priority = 80
    files = ("proc/net/dev", "sys/class/net")

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self._left_out = 0
        self._speeds: dict[str, tuple[str, str, str]] = {}  # device → state, changes, speed

    @classmethod
    def settings_schema(cls) -> list[Setting]:
        help = "devices reported at most; those that carried no packet yet are left out first"
        return [Setting("max_devices", "count_t", 100, help)]

    @property
    def notes(self) -> list[str]:
        if self._left_out:
            return [f"{self._left_out} more devices are left out: see max_devices"]
        return []

    def parts(self) -> Iterator[Iterator[Reading]]:
        devices = self._devices()
        yield _traffic(devices)
        for device in devices:
            yield self._link(device)

    def _devices(self) -> dict[str, list[int]]:
        """Those to report, in the kernel's order, with their columns."""
        devices = parse_netdev(self.text(self.paths["proc/net/dev"]))
        limit = self.settings["max_devices"]
        self._left_out = max(len(devices) - limit, 0)
        if not self._left_out:
            return devices
        names = sorted(devices, key=lambda name: not any(devices[name]))  # stable: oldest first
        return {name: devices[name] for name in names[:limit]}

    def _link(self, device: str) -> Iterator[Reading]:
        directory = f"{self.paths['sys/class/net']}/{device}/"
        state = self.text(directory + "operstate").strip()
        changes = self.optional(directory + "carrier_changes").strip()
        yield _UP, (device,), state in ("up", "unknown")
        yield _MTU, (device,), int(self.text(directory + "mtu"))
        yield _CARRIER, (device,), self._unless_down(directory + "carrier") == "1"
        if changes:
            yield _CHANGES, (device,), int(changes)
        known = self._speeds.get(device)
        if known is None or known[:2] != (state, changes):
            known = self._speeds[device] = state, changes, self._unless_down(directory + "speed")
        megabits = int(known[2] or -1)
        if megabits > 0:
            yield _SPEED, (device,), megabits * 1e6 / 8

    def _unless_down(self, path: str) -> str:
        """A file that cannot be read while the device is down, or that it does not have."""
        with suppress(OSError):
            return self.text(path).strip()
        return ""


def _traffic(devices: Mapping[str, list[int]]) -> Iterator[Reading]:
    for device, row in devices.items():
        for column, value in zip(_COLUMNS, row, strict=True):
            if column is not None:
                family, direction = column
                yield family, (device, direction) if direction else (device,), value
