"""The health of disks: state, temperature, wear and errors, by what they and their drivers say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from huatuo.kernel.host import Host
from huatuo.kernel.nvme import Smart, read_smart
from huatuo.kernel.questions import Questions
from huatuo.probes.reader import Reader, Reading, counter, gauge

__all__ = ["Disks"]

_D = "device"
_UP = gauge("up", "1 if its driver can use the disk", _D)
_TEMPERATURE = gauge("temperature_celsius", "temperature of the disk", _D, "sensor")
_LIMIT = gauge("limit_celsius", "temperature that the disk should not reach", _D, "limit")
_WARNINGS = gauge("warning", "1 while the disk warns of that (NVMe)", _D, "of")
_WEAR = gauge("wear_ratio", "endurance that is used up, by the maker's estimate (NVMe)", _D)
_SPARE = gauge("spare_ratio", "spare blocks that are left (NVMe)", _D)
_SPARE_LIMIT = gauge("spare_threshold_ratio", "below which the disk warns (NVMe)", _D)
_MEDIA = counter("media_errors", "blocks that could not be read or were wrong (NVMe)", _D)
_BYTES = counter("life_bytes", "bytes read and written in the disk's life (NVMe)", _D, "operation")
_SECONDS = counter("power_on_seconds", "time that the disk was switched on (NVMe)", _D)
_UNSAFE = counter("unsafe_shutdowns", "times that power went away while it wrote (NVMe)", _D)
_HOT = counter("hot_seconds", "time above the temperature of warning (NVMe)", _D, "level")
_COMMANDS = counter("commands", "commands that ended so, with or without data (SCSI, SATA)", _D,
                    "result")  # fmt: skip
_MISSING = gauge("missing_members", "disks that are missing in the array (md)", _D)
_MISMATCHES = gauge("mismatched_sectors", "found different by the last check (md)", _D)
_BITS = ("spare", "temperature", "reliability", "read_only", "backup", "persistent_memory")
_COUNTS = (("done", "iodone_cnt"), ("failed", "ioerr_cnt"), ("timed_out", "iotmo_cnt"))
_ASK_AGAIN_NS = 300 * 1_000_000_000
_WAIT_SECONDS = 0.05


class Disks(Reader):
    """Whether disks work, how warm and worn they are, and errors that they correct or report.

    NVMe disks are asked for their health log every five minutes; by a thread, because a dying
    controller may not answer. SATA and SAS disks have temperatures where drivetemp is loaded, and
    the driver's counts of failed commands. Degraded md arrays count here too.
    Reads: state and hwmon in /sys/class/nvme, log page 2 of /dev/nvme*; state, ioerr_cnt and
    iotmo_cnt in /sys/block/*/device (drivers/scsi/scsi_sysfs.c); /sys/block/md*/md.
    Kernels: temperatures of NVMe and SATA disks in /sys since 5.5 and 5.6, timeouts since 6.1.
    Cost: some small files per disk; one command to each NVMe disk in five minutes.
    """

    priority = 60
    files = ("sys/block",)

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self._smart: Questions[Smart] = Questions(read_smart)
        self._asked_ns = -_ASK_AGAIN_NS

    @classmethod
    def unavailable(cls, host: Host) -> str:
        disks = host.sys / "block"
        if any(host.sys.glob("class/nvme/nvme*")) or any(disks.glob("sd*/device/state")):
            return ""
        if any(disks.glob("md*/md/degraded")):
            return ""
        return f"{disks}: no NVMe, SCSI or SATA disk and no md array"

    def parts(self) -> Iterator[Iterator[Reading]]:
        controllers = sorted(self.host.sys.glob("class/nvme/nvme*"))
        self._ask(controllers)
        for controller in controllers:
            yield self._nvme(controller)
        for state in sorted(self.host.sys.glob("block/sd*/device/state")):
            yield self._scsi(state.parent)
        for array in sorted(self.host.sys.glob("block/md*/md")):
            yield self._array(array)

    def _ask(self, controllers: list[Path]) -> None:
        now = self.host.now_ns()
        if not controllers or now - self._asked_ns < _ASK_AGAIN_NS:
            return
        self._asked_ns = now
        paths = [str(self.host.root / "dev" / controller.name) for controller in controllers]
        self._smart.ask(paths, _WAIT_SECONDS)

    def _nvme(self, controller: Path) -> Iterator[Reading]:
        device = controller.name
        yield _UP, (device,), float(self.text(f"{controller}/state").strip() == "live")
        yield from self._temperatures(device, controller)
        found = self._smart.answers.get(str(self.host.root / "dev" / device))
        if isinstance(found, Smart):
            yield from _smart_readings(device, found)

    def _scsi(self, directory: Path) -> Iterator[Reading]:
        device = directory.parent.name
        yield _UP, (device,), float(self.text(f"{directory}/state").strip() == "running")
        for result, file in _COUNTS:
            if text := self.optional(f"{directory}/{file}").strip():
                yield _COMMANDS, (device, result), int(text, 16)
        yield from self._temperatures(device, directory)

    def _temperatures(self, device: str, directory: Path) -> Iterator[Reading]:
        """hwmon lies below the device; temp1 is the whole disk's, and only its limits count."""
        folder = next(directory.glob("hwmon/hwmon*"), next(directory.glob("hwmon*"), directory))
        for file in folder.glob("temp*_input"):
            label = self.optional(str(file).replace("_input", "_label")).strip() or "disk"
            if (celsius := self._celsius(file)) is not None:
                yield _TEMPERATURE, (device, label), celsius
        for limit, name in (("hot", "temp1_max"), ("critical", "temp1_crit")):
            if (celsius := self._celsius(folder / name)) is not None:
                yield _LIMIT, (device, limit), celsius

    def _celsius(self, file: Path) -> float | None:
        text = self.optional(str(file)).strip()
        return int(text) / 1e3 if text and not text.startswith("-") else None

    def _array(self, directory: Path) -> Iterator[Reading]:
        device = directory.parent.name
        if missing := self.optional(f"{directory}/degraded").strip():  # not of RAID 0
            yield _MISSING, (device,), int(missing)
        if found := self.optional(f"{directory}/mismatch_cnt").strip():
            yield _MISMATCHES, (device,), int(found)


def _smart_readings(device: str, smart: Smart) -> Iterator[Reading]:
    for bit, name in enumerate(_BITS):
        yield _WARNINGS, (device, name), smart.warnings >> bit & 1
    yield _TEMPERATURE, (device, "health log"), smart.celsius
    yield _WEAR, (device,), smart.wear_ratio
    yield _SPARE, (device,), smart.spare_ratio
    yield _SPARE_LIMIT, (device,), smart.spare_threshold_ratio
    yield _MEDIA, (device,), smart.media_errors
    yield _BYTES, (device, "read"), smart.read_bytes
    yield _BYTES, (device, "write"), smart.written_bytes
    yield _SECONDS, (device,), smart.power_on_seconds
    yield _UNSAFE, (device,), smart.unsafe_shutdowns
    yield _HOT, (device, "hot"), smart.hot_seconds
    yield _HOT, (device, "critical"), smart.critical_seconds
