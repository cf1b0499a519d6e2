"""Huge pages: what became of transparent ones, and the pools of those that are reserved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from huatuo.kernel.host import Host
from huatuo.probes.reader import Reader, Reading, counter, gauge

__all__ = ["Huge"]

_POLICY = gauge(
    "policy_info", "who gets transparent huge pages, and how hard faults try", "enabled", "defrag"
)
_COLLAPSED = counter("collapsed_pages", "huge pages that khugepaged made of small ones")
_SCANS = counter("scans", "times that khugepaged has looked at all memory")
_EVENTS = counter("events", "what happened to transparent huge pages of that size", "size", "event")
_TRANSPARENT = gauge(
    "transparent_pages", "transparent huge pages of anonymous memory of that size", "size", "state"
)
_POOL = gauge("pool_bytes", "reserved huge pages (hugetlb) of that size", "size", "state")
_PROMISED = gauge("promised_bytes", "free ones of a pool that are promised to mappings", "size")
_SURPLUS = gauge("surplus_bytes", "ones of a pool beyond its size", "size")
_STATES = {"nr_anon": "all", "nr_anon_partially_mapped": "partially_mapped"}


class Huge(Reader):
    """Transparent huge pages by size, khugepaged, and the pools of hugetlb.

    Faults that fell back found no free block of that size: see memory.zones and memory.compaction.
    Events of the host before 6.9, and those of all sizes together, are in memory.vmstat as thp_….
    Reads: enabled, defrag, khugepaged/ and hugepages-*/stats/ (since 6.9) in
    /sys/kernel/mm/transparent_hugepage, hugepages-* in /sys/kernel/mm/hugepages.
    Cost: 4 small files, 17 per size that is switched on, 4 per pool. What never happened has no
    series.
    """

    priority = 40
    files = ("sys/kernel/mm/transparent_hugepage", "sys/kernel/mm/hugepages")

    @classmethod
    def unavailable(cls, host: Host) -> str:
        folders = [cls.locate(host, file) for file in cls.files]
        if any(Path(folder).exists() for folder in folders):
            return ""
        return f"{folders[0]}: the kernel was built without huge pages"

    def parts(self) -> Iterator[Iterator[Reading]]:
        transparent, pools = (Path(self.paths[file]) for file in self.files)
        yield self._policy(transparent)
        yield self._khugepaged(transparent / "khugepaged")
        for directory in transparent.glob("hugepages-*kB"):
            if _chosen(self.optional(f"{directory}/enabled")) not in ("", "never"):
                yield self._size(directory)
        for directory in pools.glob("hugepages-*kB"):
            yield self._pool(directory)

    def _policy(self, directory: Path) -> Iterator[Reading]:
        enabled, defrag = (
            _chosen(self.optional(f"{directory}/{file}")) for file in ("enabled", "defrag")
        )
        if enabled:
            yield _POLICY, (enabled, defrag), 1

    def _khugepaged(self, directory: Path) -> Iterator[Reading]:
        for family, file in ((_COLLAPSED, "pages_collapsed"), (_SCANS, "full_scans")):
            if text := self.optional(f"{directory}/{file}"):
                yield family, (), int(text)

    def _size(self, directory: Path) -> Iterator[Reading]:
        size = _size_of(directory)
        for file in (directory / "stats").glob("*"):
            count = int(self.optional(str(file)) or 0)
            if state := _STATES.get(file.name):
                yield _TRANSPARENT, (size, state), count
            elif count:
                yield _EVENTS, (size, file.name), count

    def _pool(self, directory: Path) -> Iterator[Reading]:
        size = _size_of(directory)
        each = int(size.removesuffix("kB")) * 1024
        files = ("nr", "free", "resv", "surplus")
        total, free, promised, surplus = (
            int(self.text(f"{directory}/{file}_hugepages")) * each for file in files
        )
        yield _POOL, (size, "used"), total - free
        yield _POOL, (size, "free"), free
        yield _PROMISED, (size,), promised
        yield _SURPLUS, (size,), surplus


def _size_of(directory: Path) -> str:
    return directory.name.removeprefix("hugepages-")


def _chosen(text: str) -> str:
    """always [madvise] never → madvise."""
    return text.partition("[")[2].partition("]")[0]
