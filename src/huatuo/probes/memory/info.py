"""Memory of the host by use, from /proc/meminfo."""

from __future__ import annotations

from collections.abc import Iterator

from huatuo.kernel.procfs import parse_pairs
from huatuo.probes.reader import Family, Key, Reader, Reading, gauge

__all__ = ["Info"]

_LRU = gauge("lru_bytes", "memory on the reclaim lists", "list")
_SLAB = gauge("slab_bytes", "memory of the kernel's object caches", "state")
_HUGE = gauge("transparent_huge_bytes", "memory in transparent huge pages", "type")
_FIELDS: dict[str, tuple[Family, Key]] = {
    "Active(anon)": (_LRU, ("active_anon",)),
    "Inactive(anon)": (_LRU, ("inactive_anon",)),
    "Active(file)": (_LRU, ("active_file",)),
    "Inactive(file)": (_LRU, ("inactive_file",)),
    "Unevictable": (_LRU, ("unevictable",)),
    "SReclaimable": (_SLAB, ("reclaimable",)),
    "SUnreclaim": (_SLAB, ("unreclaimable",)),
    "AnonHugePages": (_HUGE, ("anon",)),
    "ShmemHugePages": (_HUGE, ("shmem",)),
    "FileHugePages": (_HUGE, ("file",)),
} | {
    field: (gauge(f"{name}_bytes", help), ())
    for field, name, help in (
        ("MemTotal", "total", "memory that the kernel manages"),
        ("MemFree", "free", "memory that is not used at all"),
        ("MemAvailable", "available", "memory that can be had without swapping"),
        ("Buffers", "buffers", "page cache of block devices"),
        ("Cached", "cached", "page cache of files, with shared memory"),
        ("SwapTotal", "swap_total", "swap space"),
        ("SwapFree", "swap_free", "swap space that is not used"),
        ("SwapCached", "swap_cached", "memory that is also in swap"),
        ("Zswap", "zswap", "memory used by compressed pages in zswap"),
        ("Zswapped", "zswapped", "size of the pages in zswap before compression"),
        ("Mlocked", "mlocked", "memory locked by mlock"),
        ("Dirty", "dirty", "page cache that waits to be written"),
        ("Writeback", "writeback", "page cache that is being written"),
        ("AnonPages", "anon", "anonymous memory mapped by processes"),
        ("Mapped", "mapped", "page cache mapped by processes"),
        ("Shmem", "shmem", "shared memory and tmpfs"),
        ("KernelStack", "kernel_stack", "stacks of tasks in the kernel"),
        ("PageTables", "page_tables", "page tables of processes"),
        ("Percpu", "percpu", "per-CPU memory of the kernel"),
        ("VmallocUsed", "vmalloc", "memory mapped by vmalloc"),
        ("CommitLimit", "commit_limit", "most that may be committed in strict overcommit mode"),
        ("Committed_AS", "committed", "memory promised to processes"),
        ("HardwareCorrupted", "corrupted", "memory taken out of use because it is faulty"),
        ("Hugetlb", "hugetlb", "memory reserved for huge pages of all sizes"),
    )
}
_HUGETLB_FREE = gauge("hugetlb_free_bytes", "unused huge pages of the default size")


class Info(Reader):
    """How the host's memory is used, and how much can still be had.

    `available` is the number to watch; `dirty`, `slab` and `committed` explain where it went.
    Reads: /proc/meminfo (fs/proc/meminfo.c).
    Cost: one read.
    """

    priority = 80
    files = ("proc/meminfo",)

    def parts(self) -> Iterator[Iterator[Reading]]:
        yield self._meminfo()

    def _meminfo(self) -> Iterator[Reading]:
        text = self.text(self.paths["proc/meminfo"])
        kilobytes = parse_pairs(text.replace(" kB\n", "\n").replace(":", ""))
        for field, (family, key) in _FIELDS.items():
            if field in kilobytes:
                yield family, key, kilobytes[field] * 1024
        if "HugePages_Free" in kilobytes:
            free = kilobytes["HugePages_Free"] * kilobytes["Hugepagesize"]
            yield _HUGETLB_FREE, (), free * 1024
