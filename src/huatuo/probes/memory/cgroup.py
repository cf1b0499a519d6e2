"""Memory of containers: use, limits, reclaim and OOM events, from their cgroups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from huatuo.kernel.cgroupfs import Cgroup
from huatuo.kernel.procfs import parse_pairs
from huatuo.probes.reader import CgroupReader, Family, Key, Reading, counter, gauge

__all__ = ["MemoryCgroup"]

_C = "container"
_USED = gauge("used_bytes", "memory charged to the container, with page cache", _C)
_WORKING_SET = gauge("working_set_bytes", "used memory less inactive page cache", _C)
_PEAK = gauge("peak_bytes", "most memory the container ever used", _C)
_LIMIT = gauge("limit_bytes", "memory limit; no limit if absent", _C)
_HIGH = gauge("throttle_limit_bytes", "use above which it is slowed down; none if absent", _C)
_ANON = gauge("anon_bytes", "anonymous memory", _C)
_FILE = gauge("file_bytes", "page cache, with shared memory", _C)
_SHMEM = gauge("shmem_bytes", "shared memory and tmpfs", _C)
_MAPPED = gauge("file_mapped_bytes", "page cache mapped by processes", _C)
_DIRTY = gauge("dirty_bytes", "page cache that waits to be written", _C)
_WRITEBACK = gauge("writeback_bytes", "page cache that is being written", _C)
_KERNEL = gauge("kernel_bytes", "memory that the kernel uses for the container", _C)
_SOCKETS = gauge("sockets_bytes", "memory of socket buffers", _C)
_SLAB = gauge("slab_bytes", "the kernel's object caches for the container", _C, "state")
_SWAP = gauge("swap_bytes", "swap space used", _C)
_SWAP_LIMIT = gauge("swap_limit_bytes", "swap limit; no limit if absent", _C)
_FAULTS = counter("faults", "page faults; major ones waited for a disk", _C, "severity")
_REFAULTS = counter("refaulted_pages", "pages read again soon after their reclaim", _C, "type")
_SCANNED = counter("scanned_pages", "pages looked at by reclaim", _C)
_RECLAIMED = counter("reclaimed_pages", "pages freed by reclaim", _C)
_EVENTS = counter(
    "events",
    "times that the limit's stages were reached: low, high, max, oom, oom_kill",
    _C,
    "event",
)

# names in memory.stat → family and further labels
_STAT_V2: Mapping[str, tuple[Family, Key]] = {
    "anon": (_ANON, ()),
    "file": (_FILE, ()),
    "shmem": (_SHMEM, ()),
    "file_mapped": (_MAPPED, ()),
    "file_dirty": (_DIRTY, ()),
    "file_writeback": (_WRITEBACK, ()),
    "kernel": (_KERNEL, ()),
    "sock": (_SOCKETS, ()),
    "slab_reclaimable": (_SLAB, ("reclaimable",)),
    "slab_unreclaimable": (_SLAB, ("unreclaimable",)),
    "workingset_refault_anon": (_REFAULTS, ("anon",)),
    "workingset_refault_file": (_REFAULTS, ("file",)),
    "pgscan": (_SCANNED, ()),
    "pgsteal": (_RECLAIMED, ()),
}
_STAT_V1: Mapping[str, tuple[Family, Key]] = {
    "total_rss": (_ANON, ()),
    "total_cache": (_FILE, ()),
    "total_shmem": (_SHMEM, ()),
    "total_mapped_file": (_MAPPED, ()),
    "total_dirty": (_DIRTY, ()),
    "total_writeback": (_WRITEBACK, ()),
    "total_swap": (_SWAP, ()),
    "total_workingset_refault_anon": (_REFAULTS, ("anon",)),
    "total_workingset_refault_file": (_REFAULTS, ("file",)),
}
_UNLIMITED_V1 = 1 << 62


class MemoryCgroup(CgroupReader):
    """Memory per container: how much, of which kind, how near to its limit, and what that caused.

    `working_set` is what cannot be dropped at once; `max` events mean reclaim at the limit, `oom`
    that it failed. Refaults show a container that reads its files again and again.
    Reads: memory.current, .peak, .max, .high, .stat, .events, .swap.*; on v1 memory.*_in_bytes,
    .stat, .failcnt, .oom_control (mm/memcontrol.c).
    Kernels: peak on v2 since 5.19, kernel_bytes on v2 since 5.18; v1 has no low and high events.
    Cost: seven or eight reads per container (files stay open); memory.stat makes the kernel sum
    its per-CPU counts.
    """

    priority = 80
    controller = "memory"

    def read_v2(self, cgroup: Cgroup, directory: str) -> Iterator[Reading]:
        key = (cgroup.id,)
        used = int(self.text(directory + "memory.current"))
        yield _USED, key, used
        for family, file in (
            (_PEAK, "memory.peak"),
            (_LIMIT, "memory.max"),
            (_HIGH, "memory.high"),
            (_SWAP, "memory.swap.current"),
            (_SWAP_LIMIT, "memory.swap.max"),
        ):
            value = self.optional(directory + file).strip()
            if value not in ("", "max"):
                yield family, key, int(value)
        stat = parse_pairs(self.text(directory + "memory.stat"))
        yield _WORKING_SET, key, max(used - stat["inactive_file"], 0)
        yield from _from_stat(cgroup, stat, _STAT_V2)
        yield from _faults(cgroup, stat["pgfault"], stat["pgmajfault"])
        events = parse_pairs(self.optional(directory + "memory.events"))
        for event, count in events.items():
            yield _EVENTS, (cgroup.id, event), count

    def read_v1(self, cgroup: Cgroup, directory: str) -> Iterator[Reading]:
        key = (cgroup.id,)
        used = int(self.text(directory + "memory.usage_in_bytes"))
        yield _USED, key, used
        for family, file in (
            (_PEAK, "memory.max_usage_in_bytes"),
            (_LIMIT, "memory.limit_in_bytes"),
            (_KERNEL, "memory.kmem.usage_in_bytes"),
        ):
            value = self.optional(directory + file)
            if value and int(value) < _UNLIMITED_V1:
                yield family, key, int(value)
        stat = parse_pairs(self.text(directory + "memory.stat"))
        yield _WORKING_SET, key, max(used - stat["total_inactive_file"], 0)
        yield from _from_stat(cgroup, stat, _STAT_V1)
        yield from _faults(cgroup, stat["total_pgfault"], stat["total_pgmajfault"])
        reached = int(self.text(directory + "memory.failcnt"))
        yield _EVENTS, (cgroup.id, "max"), reached
        control = parse_pairs(self.optional(directory + "memory.oom_control"))
        if "oom_kill" in control:
            yield _EVENTS, (cgroup.id, "oom_kill"), control["oom_kill"]


def _from_stat(
    cgroup: Cgroup, stat: Mapping[str, int], names: Mapping[str, tuple[Family, Key]]
) -> Iterator[Reading]:
    for name, (family, labels) in names.items():
        if name in stat:
            yield family, (cgroup.id, *labels), stat[name]


def _faults(cgroup: Cgroup, all_faults: int, major: int) -> Iterator[Reading]:
    yield _FAULTS, (cgroup.id, "major"), major
    yield _FAULTS, (cgroup.id, "minor"), max(all_faults - major, 0)
