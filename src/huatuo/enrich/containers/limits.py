"""What a container may use, from the files of its cgroup: they are what the kernel goes by."""

from __future__ import annotations

from huatuo.kernel.cgroupfs import hierarchies
from huatuo.kernel.host import Host
from huatuo.kernel.procfs import read

__all__ = ["limits"]

_NONE = 1 << 60  # v1 writes the largest number of pages for no limit


def limits(host: Host, path: str) -> tuple[float, int]:
    """(cores, bytes of memory) of a cgroup, by its path; 0 is no limit, or not known."""
    found = hierarchies(host)
    cpu, memory = found.controller("cpu"), found.controller("memory")
    if "cpu" in found.v1:
        quota = _number(f"{cpu}{path}/cpu.cfs_quota_us")
        period = _number(f"{cpu}{path}/cpu.cfs_period_us")
    else:
        quota, period = _pair(f"{cpu}{path}/cpu.max")
    name = "memory.limit_in_bytes" if "memory" in found.v1 else "memory.max"
    most = _number(f"{memory}{path}/{name}")
    return (
        round(quota / period, 3) if quota > 0 and period > 0 else 0.0,
        most if most < _NONE else 0,
    )


def _number(path: str) -> int:
    return _pair(path)[0]


def _pair(path: str) -> tuple[int, int]:
    """Up to two numbers; "max" and what is not there are 0."""
    try:
        words = read(path).split()
    except OSError:
        return 0, 0
    first, second, *_ = [int(word) if word.isdecimal() else 0 for word in (*words, "", "")]
    return first, second
