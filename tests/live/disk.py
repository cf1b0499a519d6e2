"""Disks and file systems for live tests; and what the kernel counts on them.

Disks: a loop device over tmpfs, null_blk, scsi_debug, and device mapper's delay and flakey on top.
"""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from huatuo.enrich.enricher import Enricher
from huatuo.model.event import Event
from huatuo.probes.base import Probe
from tests.live.conftest import HOST

__all__ = [
    *("Disk", "DiskStat", "delayed", "flakey", "loop", "mounted", "null_blk", "scsi_debug"),
    *("small_tmpfs", "told"),
]


@dataclass(frozen=True, slots=True)
class DiskStat:
    """Counters of /sys/block/NAME/stat, by operation (Documentation/admin-guide/iostats.rst)."""

    requests: dict[str, int]
    bytes: dict[str, int]
    seconds: dict[str, float]  # of all requests together, queue and device
    merges: dict[str, int]

    def __sub__(self, before: DiskStat) -> DiskStat:
        return DiskStat(
            {k: v - before.requests[k] for k, v in self.requests.items()},
            {k: v - before.bytes[k] for k, v in self.bytes.items()},
            {k: v - before.seconds[k] for k, v in self.seconds.items()},
            {k: v - before.merges[k] for k, v in self.merges.items()},
        )


@dataclass(frozen=True, slots=True)
class Disk:
    path: Path

    @property
    def sys(self) -> Path:
        return Path("/sys/block") / self.path.name

    @property
    def number(self) -> int:
        """As the kernel's dev_t: disk_t of records."""
        device = self.path.stat().st_rdev
        return os.major(device) << 20 | os.minor(device)

    def stat(self) -> DiskStat:
        fields = [int(word) for word in (self.sys / "stat").read_text().split()]
        places = {"read": 0, "write": 4, "discard": 11}
        requests = {name: fields[at] for name, at in places.items()}
        sectors = {name: fields[at + 2] * 512 for name, at in places.items()}
        ms = {name: fields[at + 3] / 1e3 for name, at in places.items()}
        merges = {name: fields[at + 1] for name, at in places.items()}
        requests["flush"], ms["flush"] = fields[15], fields[16] / 1e3
        return DiskStat(requests, sectors, ms, merges)

    def queue(self, name: str, value: object) -> None:
        """Set a file below /sys/block/NAME/queue."""
        (self.sys / "queue" / name).write_text(str(value))

    @contextmanager
    def direct(self) -> Iterator[DirectFile]:
        """The disk without page cache: one call is one request."""
        fd = os.open(self.path, os.O_RDWR | os.O_DIRECT)
        try:
            yield DirectFile(fd)
        finally:
            os.close(fd)

    def settle(self) -> None:
        """Wait until whoever looks at new disks (udev) has looked."""
        for _ in range(50):
            before = self.stat()
            time.sleep(0.1)
            if self.stat() == before:
                return


class DirectFile:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, offset: int, size: int) -> None:
        with mmap.mmap(-1, size) as buffer:
            assert os.preadv(self._fd, [buffer], offset) == size

    def write(self, offset: int, size: int) -> None:
        with mmap.mmap(-1, size) as buffer:
            assert os.pwritev(self._fd, [buffer], offset) == size

    def flush(self) -> None:
        os.fsync(self._fd)


def output(*argv: str | Path) -> str:
    """What a command prints; AssertionError with what it says if it fails."""
    done = subprocess.run([str(word) for word in argv], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{argv}: {done.stdout} {done.stderr}"
    return done.stdout


def load(module: str, *parameters: str) -> None:
    """Load a kernel module; skips the test where there is none."""
    done = subprocess.run(
        ["modprobe", module, *parameters], check=False, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no module {module}: {done.stderr.strip()}")


@contextmanager
def loop(mebibytes: int = 64, backing: Path | None = None) -> Iterator[Disk]:
    """A loop device over a sparse file, on tmpfs if no folder is given."""
    subprocess.run(["modprobe", "-q", "loop"], check=False)
    with tempfile.NamedTemporaryFile(dir=backing or "/dev/shm") as file:
        file.truncate(mebibytes << 20)
        made = subprocess.run(
            ["losetup", "-f", "--show", file.name], check=False, capture_output=True, text=True
        )
        if made.returncode:
            pytest.skip(f"no loop device: {made.stderr.strip()}")
        disk = Disk(Path(made.stdout.strip()))
        try:
            disk.settle()
            yield disk
        finally:
            subprocess.run(["losetup", "-d", disk.path], check=True)


@contextmanager
def null_blk(**parameters: int) -> Iterator[Disk]:
    """The kernel's null_blk disk with these module parameters."""
    load("null_blk", "nr_devices=1", *(f"{name}={value}" for name, value in parameters.items()))
    disk = Disk(Path("/dev/nullb0"))
    try:
        disk.settle()
        yield disk
    finally:
        output("modprobe", "-r", "null_blk")


@contextmanager
def scsi_debug(**parameters: int) -> Iterator[Disk]:
    """The kernel's pretended SCSI disk, in memory, with these module parameters."""
    load("sd_mod")
    words = {"dev_size_mb": 64, **parameters}
    load("scsi_debug", *(f"{name}={value}" for name, value in words.items()))
    try:
        driver = Path("/sys/bus/pseudo/drivers/scsi_debug")
        for _ in range(100):
            found = list(driver.glob("adapter*/host*/target*/*/block/*"))
            if found and Path("/dev", found[0].name).exists():
                break
            time.sleep(0.1)
        disk = Disk(Path("/dev") / found[0].name)
        disk.settle()
        yield disk
    finally:
        output("modprobe", "-r", "scsi_debug")


@contextmanager
def _mapped(disk: Disk, kind: str, table: str) -> Iterator[Disk]:
    """A device of the device mapper over all of a disk; `table`: what follows start and size."""
    if not shutil.which("dmsetup"):
        pytest.skip("dmsetup is not installed")
    load(f"dm-{kind}")
    name = f"huatuo-{kind}-{os.getpid()}"
    sectors = (disk.sys / "size").read_text().strip()
    output("dmsetup", "create", name, "--table", f"0 {sectors} {kind} {table}")
    try:
        minor = output("dmsetup", "info", "-c", "--noheadings", "-o", "minor", name).strip()
        yield Disk(Path(f"/dev/dm-{minor}"))  # a link to it would be udev's
    finally:
        output("dmsetup", "remove", "--retry", name)


@contextmanager
def delayed(disk: Disk, read_ms: int = 0, write_ms: int = 0) -> Iterator[Disk]:
    """Bios wait that long before they go to the disk (dm-delay)."""
    reads, writes = f"{disk.path} 0 {read_ms}", f"{disk.path} 0 {write_ms}"
    with _mapped(disk, "delay", f"{reads} {writes}") as mapped:
        yield mapped


@contextmanager
def flakey(disk: Disk) -> Iterator[tuple[Disk, Callable[[], None]]]:
    """A disk that works until the function is called, and fails every write from then on."""
    good, bad = f"{disk.path} 0 3600 0", f"{disk.path} 0 0 3600 1 error_writes"
    with _mapped(disk, "flakey", good) as mapped:

        def fail() -> None:
            name = (mapped.sys / "dm/name").read_text().strip()
            sectors = (disk.sys / "size").read_text().strip()
            output("dmsetup", "suspend", "--nolockfs", name)
            output("dmsetup", "load", name, "--table", f"0 {sectors} flakey {bad}")
            output("dmsetup", "resume", name)

        yield mapped, fail


_MAKE = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
    "btrfs": ("mkfs.btrfs", "-q", "-f"),
}


@contextmanager
def mounted(disk: Disk, kind: str, options: str = "defaults") -> Iterator[Path]:
    """A fresh file system on a disk."""
    program, *arguments = _MAKE[kind]
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    subprocess.run(["modprobe", "-q", kind], check=False)
    if not any(
        line.split()[-1] == kind for line in Path("/proc/filesystems").read_text().splitlines()
    ):
        pytest.skip(f"this kernel has no {kind}")
    output(program, *arguments, disk.path)
    with tempfile.TemporaryDirectory(prefix="huatuo-mount-") as folder:
        output("mount", "-t", kind, "-o", options, disk.path, folder)
        try:
            yield Path(folder)
        finally:
            output("umount", folder)


@contextmanager
def small_tmpfs(mebibytes: int) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        output("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", folder)
        try:
            yield Path(folder)
        finally:
            output("umount", folder)


def told(probe: Probe, disk: Disk, seconds: float = 1.0) -> list[Event]:
    """The probe's events about the disk within this time, as people see them."""
    enricher, end = Enricher(HOST), time.monotonic() + seconds
    found: list[Event] = []
    while time.monotonic() < end:
        for batch in probe.drain():
            if batch.schema.dtype.names and "disk" in batch.schema.dtype.names:
                mine = replace(batch, rows=batch.rows[batch.rows["disk"] == disk.number])
                found += enricher.events(mine, type(probe))
        time.sleep(0.05)
    return found
