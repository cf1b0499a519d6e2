"""Disks for live tests: a loop device over tmpfs, null_blk; and what the kernel counts on them."""

from __future__ import annotations

import mmap
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["Disk", "DiskStat", "loop", "null_blk"]


@dataclass(frozen=True, slots=True)
class DiskStat:
    """Counters of /sys/block/NAME/stat, by operation (Documentation/admin-guide/iostats.rst)."""

    requests: dict[str, int]
    bytes: dict[str, int]
    seconds: dict[str, float]  # of all requests together, queue and device

    def __sub__(self, before: DiskStat) -> DiskStat:
        return DiskStat(
            {k: v - before.requests[k] for k, v in self.requests.items()},
            {k: v - before.bytes[k] for k, v in self.bytes.items()},
            {k: v - before.seconds[k] for k, v in self.seconds.items()},
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
        return DiskStat(requests | {"flush": fields[15]}, sectors, ms | {"flush": fields[16] / 1e3})

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
    words = [f"{name}={value}" for name, value in parameters.items()]
    made = subprocess.run(
        ["modprobe", "null_blk", "nr_devices=1", *words],
        check=False,
        capture_output=True,
        text=True,
    )
    if made.returncode:
        pytest.skip(f"no null_blk module: {made.stderr.strip()}")
    disk = Disk(Path("/dev/nullb0"))
    try:
        disk.settle()
        yield disk
    finally:
        subprocess.run(["modprobe", "-r", "null_blk"], check=True)
