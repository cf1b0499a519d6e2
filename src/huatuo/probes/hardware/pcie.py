"""Errors that PCI Express devices report, from their AER counters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from huatuo.kernel.host import Host
from huatuo.probes.reader import Reader, Reading, counter, gauge

__all__ = ["Pcie"]

_ERRORS = counter("errors", "errors that the device reported since boot", "device", "severity")
_ALL = counter("all_errors", "errors of all devices together", "severity")
_DEVICES = gauge("devices", "devices that report errors")
_SPEED = gauge("degraded_links", "links below the speed or width that both ends could do")
_FILES = {"corrected": "correctable", "nonfatal": "nonfatal", "fatal": "fatal"}
_BRIDGE = "0x0604"
_SECONDS_BETWEEN_SCANS = 60.0


class Pcie(Reader):
    """Corrected and uncorrected errors of PCI Express devices, and links that came up too slow.

    Devices without any error so far are left out, and stand in the sum. What an error was is in
    hardware.ras, as it happens. Some devices, such as graphics cards, slow their link down when
    idle: it counts as degraded then.
    Reads: aer_dev_correctable, aer_dev_nonfatal and aer_dev_fatal, current_link_* and max_link_* in
    /sys/bus/pci/devices (drivers/pci/pcie/aer.c).
    Kernels: with CONFIG_PCIEAER, 4.19 and later.
    Cost: three small files per device that has them, and seven for its link once a minute.
    """

    priority = 60
    files = ("sys/bus/pci/devices",)

    @classmethod
    def unavailable(cls, host: Host) -> str:
        if any(_reporting(host.sys)):
            return ""
        return f"{host.sys}/bus/pci/devices: none of them reports errors (AER)"

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self._devices: list[Path] = []
        self._degraded = 0
        self._scanned_ns = -1

    def parts(self) -> Iterator[Iterator[Reading]]:
        now = self.host.now_ns()
        if self._scanned_ns < 0 or now - self._scanned_ns > _SECONDS_BETWEEN_SCANS * 1e9:
            self._devices = sorted(_reporting(self.host.sys))
            self._degraded = sum(self._is_degraded(device) for device in self._devices)
            self._scanned_ns = now
        yield self._all()

    def _all(self) -> Iterator[Reading]:
        totals = dict.fromkeys(_FILES, 0)
        for device in self._devices:
            for severity, file in _FILES.items():
                count = _total(self.optional(f"{device}/aer_dev_{file}"))
                totals[severity] += count
                if count:
                    yield _ERRORS, (device.name, severity), count
        for severity, total in totals.items():
            yield _ALL, (severity,), total
        yield _DEVICES, (), len(self._devices)
        yield _SPEED, (), self._degraded

    def _is_degraded(self, device: Path) -> bool:
        """A link counts at the device below it, beside what the port above can do."""
        if self.text(f"{device}/class").startswith(_BRIDGE):
            return False
        port = device.resolve().parent
        for what in ("link_speed", "link_width"):
            now, *most = (
                _number(self.optional(f"{end}_{what}"))
                for end in (f"{device}/current", f"{device}/max", f"{port}/max")
            )
            if 0 < now < min(most):
                return True
        return False


def _reporting(sys: Path) -> Iterator[Path]:
    for file in (sys / "bus/pci/devices").glob("*/aer_dev_correctable"):
        yield file.parent


def _total(text: str) -> int:
    """The line `TOTAL_ERR_COR 3`; 0 if there is none."""
    for line in text.splitlines():
        name, _, count = line.partition(" ")
        if name.startswith("TOTAL_ERR"):
            return int(count)
    return 0


def _number(text: str) -> float:
    """Of "8.0 GT/s PCIe" or "16"; 0 for "Unknown"."""
    word = text.split()[0] if text.split() else ""
    return float(word) if word.replace(".", "", 1).isdecimal() else 0.0
