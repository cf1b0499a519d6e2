"""What the memory management did, from /proc/vmstat."""

from __future__ import annotations

from collections.abc import Iterator

from huatuo.kernel.procfs import parse_pairs
from huatuo.probes.reader import Family, Key, Reader, Reading, counter, gauge

__all__ = ["Vmstat"]

_FAULTS = counter("faults", "page faults; major ones waited for a disk", "severity")
_PAGED = counter("paged_bytes", "bytes read from and written to block devices", "direction")
_SWAPPED = counter("swapped_pages", "pages read from and written to swap", "direction")
_SCANNED = counter("scanned_pages", "pages looked at by reclaim", "reclaimer")
_RECLAIMED = counter("reclaimed_pages", "pages freed by reclaim", "reclaimer")
_STALLS = counter("allocation_stalls", "allocations that had to reclaim memory first", "zone")
_COMPACTIONS = counter("compaction_stalls", "allocations that had to compact memory", "result")
_THP = counter("huge_page_faults", "faults that wanted a transparent huge page", "result")
_REFAULTS = counter("refaulted_pages", "pages read again soon after their reclaim", "type")
_OOM = counter("oom_kills", "processes killed for want of memory")
_DIRTY_LIMIT = gauge("dirty_limit_bytes", "dirty page cache at which writers are slowed down")
_BACKGROUND = gauge("dirty_background_bytes", "dirty page cache at which writing back begins")
_EVENTS = counter(
    "events", "further events that happened since boot, as /proc/vmstat names them", "event"
)

_NAMED: dict[str, tuple[Family, Key]] = {
    "pgmajfault": (_FAULTS, ("major",)),
    "pswpin": (_SWAPPED, ("in",)),
    "pswpout": (_SWAPPED, ("out",)),
    "compact_success": (_COMPACTIONS, ("success",)),
    "compact_fail": (_COMPACTIONS, ("fail",)),
    "thp_fault_alloc": (_THP, ("success",)),
    "thp_fault_fallback": (_THP, ("fallback",)),
    "workingset_refault_anon": (_REFAULTS, ("anon",)),
    "workingset_refault_file": (_REFAULTS, ("file",)),
    "oom_kill": (_OOM, ()),
    **{
        f"{prefix}_{reclaimer}": (family, (reclaimer,))
        for prefix, family in (("pgscan", _SCANNED), ("pgsteal", _RECLAIMED))
        for reclaimer in ("kswapd", "direct", "khugepaged", "proactive")
    },
    **{
        f"allocstall_{zone}": (_STALLS, (zone,))
        for zone in ("dma", "dma32", "normal", "movable", "device")
    },
}
# counters that are called like the gauges
_COUNTERS = {
    "nr_vmscan_write",
    "nr_vmscan_immediate_reclaim",
    "nr_dirtied",
    "nr_written",
    "nr_throttled_written",
    "nr_foll_pin_acquired",
    "nr_foll_pin_released",
    "nr_tlb_remote_flush",
    "nr_tlb_remote_flush_received",
    "nr_tlb_local_flush_all",
    "nr_tlb_local_flush_one",
}
_ELSEWHERE = {"pgfault", "pgpgin", "pgpgout", "compact_stall", "workingset_nodes"}


class Vmstat(Reader):
    """Faults, swapping, reclaim, compaction and stalls of the memory management.

    Allocation stalls and direct reclaim are time that programs lose; refaults say that the page
    cache is too small. Gauges are in memory.info.
    Reads: /proc/vmstat (mm/vmstat.c).
    Cost: one read. Events that never happened since boot have no series.
    """

    priority = 70
    files = ("proc/vmstat",)

    def parts(self) -> Iterator[Iterator[Reading]]:
        yield self._vmstat()

    def _vmstat(self) -> Iterator[Reading]:
        stat = parse_pairs(self.text(self.paths["proc/vmstat"]))
        yield _FAULTS, ("minor",), max(stat["pgfault"] - stat["pgmajfault"], 0)
        yield _PAGED, ("in",), stat["pgpgin"] * 1024
        yield _PAGED, ("out",), stat["pgpgout"] * 1024
        for name, family in (
            ("nr_dirty_threshold", _DIRTY_LIMIT),
            ("nr_dirty_background_threshold", _BACKGROUND),
        ):
            if name in stat:
                yield family, (), stat[name] * self.host.page_size
        for name, count in stat.items():
            if named := _NAMED.get(name):
                yield *named, count
            elif count and is_event(name):
                yield _EVENTS, (name,), count


def is_event(name: str) -> bool:
    """Whether a line without a family of its own counts something since boot."""
    if name in _COUNTERS:
        return True
    return not name.startswith("nr_") and name not in _ELSEWHERE
