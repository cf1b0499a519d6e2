"""The machine as seen by readers: where /proc, /sys and the cgroup tree are, and what time it is.

The one seam for tests and for an agent in a container with the host's trees mounted elsewhere.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from huatuo.errors import Malformed

__all__ = ["Host"]

_COARSE = 6  # CLOCK_MONOTONIC_COARSE (linux/time.h), which goes by the kernel's ticks


@dataclass(frozen=True)
class Host:
    """Paths of the host's trees; all reading of them goes through here."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    run: Path = Path("/run")
    root: Path = Path("/")
    ticks_per_second: int = field(default_factory=lambda: os.sysconf("SC_CLK_TCK"))
    page_size: int = field(default_factory=lambda: os.sysconf("SC_PAGE_SIZE"))
    jiffy_ns: int = field(default_factory=lambda: round(time.clock_getres(_COARSE) * 1e9))

    @cached_property
    def name(self) -> str:
        return os.uname().nodename

    @cached_property
    def kernel_release(self) -> str:
        return os.uname().release

    @cached_property
    def cpus(self) -> int:
        return os.cpu_count() or 1

    def online_cpus(self) -> list[int]:
        """Numbers of the CPUs that are up now."""
        found: list[int] = []
        for part in self.read(self.sys / "devices/system/cpu/online").strip().split(","):
            first, _, last = part.partition("-")
            found.extend(range(int(first), int(last or first) + 1))
        return found

    def now_ns(self) -> int:
        """CLOCK_MONOTONIC, the clock of kernel records."""
        return time.monotonic_ns()

    def utc_offset_ns(self) -> int:
        """Add to a CLOCK_MONOTONIC time to get UTC nanoseconds since 1970."""
        return min(_utc_offset() for _ in range(3))[1]

    def boot_offset_ns(self) -> int:
        """Add to a time since boot (CLOCK_BOOTTIME) to get UTC nanoseconds since 1970."""
        return time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def read(self, path: Path) -> str:
        """A small file of /proc, /sys or a cgroup. OSError if it is not there."""
        with path.open("rb", buffering=0) as stream:
            return (stream.read() or b"").decode(errors="replace")

    def read_int(self, path: Path) -> int:
        """A file of one number; "max" is -1. Malformed if it holds something else."""
        text = self.read(path).strip()
        if text == "max":
            return -1
        try:
            return int(text)
        except ValueError:
            raise Malformed(path, f"expected a number, found {text[:40]!r}") from None

    def read_pairs(self, path: Path) -> dict[str, int]:
        """A file of `key value` lines, as memory.stat or vmstat. Malformed on anything else."""
        pairs = {}
        for line in self.read(path).splitlines():
            key, _, value = line.partition(" ")
            try:
                pairs[key.rstrip(":")] = int(value.split()[0])
            except (ValueError, IndexError):
                raise Malformed(path, f"expected `name number`, found {line[:60]!r}") from None
        return pairs


def _utc_offset() -> tuple[int, int]:
    """(how far apart the two readings of CLOCK_MONOTONIC were, offset between them)."""
    before = time.monotonic_ns()
    utc = time.time_ns()
    after = time.monotonic_ns()
    return after - before, utc - (before + after) // 2
