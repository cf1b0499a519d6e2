"""Temperatures and what the processors do against heat, from /sys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from huatuo.kernel import procfs
from huatuo.kernel.host import Host
from huatuo.probes.reader import Reader, Reading, counter, gauge

__all__ = ["Thermal"]

_TEMPERATURE = gauge("temperature_celsius", "temperature", "sensor")
_LIMIT = gauge("limit_celsius", "temperature from which that happens", "sensor", "limit")
_COOLING = gauge("cooling_ratio", "how much of a cooling device is in use, 0 to 1", "cooler")
_THROTTLED = counter("throttled_events", "times that heat slowed the processor down", "scope")
_THROTTLED_TIME = counter("throttled_seconds", "time in which it was slowed down, summed", "scope")
_CHIPS = {"coretemp", "k10temp", "zenpower", "acpitz", "cpu_thermal", "scpi_sensors"}
_MOST = 256  # sensors


class Thermal(Reader):
    """Temperatures with their limits, cooling, and how often and long heat throttled the CPUs.

    Throttling is counted by the processor per core and per package; cores of one package share
    its count, which stands here once per package. Disks are in hardware.disks.
    Reads: /sys/class/thermal, /sys/class/hwmon of processors, thermal_throttle in
    /sys/devices/system/cpu (drivers/thermal/intel/therm_throt.c, Intel only).
    Cost: one small file per sensor and CPU.
    """

    priority = 60
    files = ("sys/class/thermal",)

    @classmethod
    def unavailable(cls, host: Host) -> str:
        found = any(_zones(host.sys)) or any(_chips(host.sys)) or any(_throttles(host.sys))
        return "" if found else f"{host.sys}: no thermal zone and no sensor of a processor"

    def parts(self) -> Iterator[Iterator[Reading]]:
        for zone in list(_zones(self.host.sys))[:_MOST]:
            yield self._zone(zone)
        for chip in list(_chips(self.host.sys))[:_MOST]:
            yield self._chip(chip)
        for cooler in (self.host.sys / "class/thermal").glob("cooling_device*"):
            yield self._cooler(cooler)
        yield self._throttled()

    def _zone(self, zone: Path) -> Iterator[Reading]:
        sensor = f"{self.text(f'{zone}/type').strip()} {zone.name.removeprefix('thermal_')}"
        if (celsius := self._celsius(zone / "temp")) is not None:
            yield _TEMPERATURE, (sensor,), celsius
        lowest: dict[str, float] = {}  # of several of one kind
        for kind in zone.glob("trip_point_*_type"):
            if limit := self._celsius(Path(str(kind).replace("_type", "_temp"))):
                name = self.text(str(kind)).strip()
                lowest[name] = min(limit, lowest.get(name, limit))
        for name, limit in lowest.items():
            yield _LIMIT, (sensor, name), limit

    def _chip(self, chip: Path) -> Iterator[Reading]:
        name = f"{self.text(f'{chip}/name').strip()} {chip.name}"
        for file in chip.glob("temp*_input"):
            stem = str(file).removesuffix("_input")
            label = self.optional(f"{stem}_label").strip() or Path(stem).name
            sensor = f"{name} {label}"
            if (celsius := self._celsius(file)) is not None:
                yield _TEMPERATURE, (sensor,), celsius
            for limit, suffix in (("hot", "max"), ("critical", "crit")):
                if at := self._celsius(Path(f"{stem}_{suffix}")):
                    yield _LIMIT, (sensor, limit), at

    def _celsius(self, file: Path) -> float | None:
        """None where there is no reading: the sensor is off, or says less than zero."""
        try:
            text = self.optional(str(file)).strip()
        except OSError:  # EAGAIN, EIO, ENODATA: no reading now
            return None
        return int(text) / 1000 if text and not text.startswith("-") else None

    def _cooler(self, cooler: Path) -> Iterator[Reading]:
        most = int(self.text(f"{cooler}/max_state"))
        kind = self.text(f"{cooler}/type").strip()
        if most > 0:
            now = int(self.text(f"{cooler}/cur_state"))
            yield _COOLING, (f"{kind} {cooler.name.removeprefix('cooling_')}",), now / most

    def _throttled(self) -> Iterator[Reading]:
        """Each core's own counts; a package's counts, which all of its cores show, once."""
        found: dict[tuple[str, str], tuple[int, int]] = {}
        for throttle in _throttles(self.host.sys):
            topology = f"{throttle.parent}/topology"
            package = self.optional(f"{topology}/physical_package_id").strip()
            core = f"{package}.{self.optional(f'{topology}/core_id').strip()}"
            for scope, owner in (("core", core), ("package", package)):
                counts = (
                    self.optional(f"{throttle}/{scope}_throttle_{what}").strip()
                    for what in ("count", "total_time_ms")
                )
                count, spent = (int(text or 0) for text in counts)
                found[scope, owner] = (count, spent)
        for wanted in {scope for scope, _ in found}:
            mine = [counts for (scope, _), counts in found.items() if scope == wanted]
            yield _THROTTLED, (wanted,), sum(count for count, _ in mine)
            yield _THROTTLED_TIME, (wanted,), sum(spent for _, spent in mine) / 1e3


def _zones(sys: Path) -> Iterator[Path]:
    return (sys / "class/thermal").glob("thermal_zone*")


def _chips(sys: Path) -> Iterator[Path]:
    for chip in (sys / "class/hwmon").glob("hwmon*"):
        try:
            name = procfs.read(f"{chip}/name").strip()
        except OSError:
            continue
        if name in _CHIPS:
            yield chip


def _throttles(sys: Path) -> Iterator[Path]:
    return (sys / "devices/system/cpu").glob("cpu*/thermal_throttle")
