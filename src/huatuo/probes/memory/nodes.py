"""Memory of NUMA nodes: how it is used, and whether processes get it where they run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from huatuo.kernel.host import Host
from huatuo.kernel.procfs import parse_pairs
from huatuo.probes.reader import Family, Key, Reader, Reading, counter, gauge

__all__ = ["Nodes"]

_WANTED = counter(
    "allocated_pages",
    "pages allocated on the node: hit: it was the one wanted; miss: another was",
    "node",
    "result",
)
_FOREIGN = counter("foreign_pages", "pages wanted on the node and allocated on another", "node")
_PLACED = counter(
    "placed_pages",
    "pages allocated on the node, by processes that ran on it (local) or on others (remote)",
    "node",
    "by",
)
_TOTAL = gauge("total_bytes", "memory of the node", "node")
_FREE = gauge("free_bytes", "memory of the node that is not used at all", "node")
_USED = gauge("used_bytes", "memory of the node, by what it is used for", "node", "type")
_STATS: dict[str, tuple[Family, Key]] = {
    "numa_hit": (_WANTED, ("hit",)),
    "numa_miss": (_WANTED, ("miss",)),
    "numa_foreign": (_FOREIGN, ()),
    "local_node": (_PLACED, ("local",)),
    "other_node": (_PLACED, ("remote",)),
}
_FIELDS: dict[str, tuple[Family, Key]] = {
    "MemTotal": (_TOTAL, ()),
    "MemFree": (_FREE, ()),
    "AnonPages": (_USED, ("anon",)),
    "FilePages": (_USED, ("file",)),
    "Slab": (_USED, ("slab",)),
    "PageTables": (_USED, ("page_tables",)),
    "KernelStack": (_USED, ("kernel_stack",)),
}


class Nodes(Reader):
    """Memory by NUMA node, and allocations that went to another node than they should.

    Misses and remote allocations cost latency at every access from then on. What NUMA balancing
    does about it (faults it makes to see who uses a page, pages it moves) is in memory.vmstat as
    events numa_…; free memory by zone is in memory.zones.
    Reads: numastat and meminfo of /sys/devices/system/node/node* (drivers/base/node.c).
    Cost: two reads per node.
    """

    priority = 50
    files = ("sys/devices/system/node",)

    @classmethod
    def unavailable(cls, host: Host) -> str:
        if any(_nodes(host.sys)):
            return ""
        return f"{host.sys}/devices/system/node: the kernel was built without NUMA"

    def parts(self) -> Iterator[Iterator[Reading]]:
        for directory in _nodes(self.host.sys):
            node = directory.name.removeprefix("node")
            yield self._numastat(node, f"{directory}/numastat")
            yield self._meminfo(node, f"{directory}/meminfo")

    def _numastat(self, node: str, path: str) -> Iterator[Reading]:
        stat = parse_pairs(self.text(path))
        for name, (family, key) in _STATS.items():
            yield family, (node, *key), stat[name]

    def _meminfo(self, node: str, path: str) -> Iterator[Reading]:
        """Node 0 MemTotal: 17000668 kB, and so on."""
        text = self.text(path).replace(f"Node {node} ", "").replace(" kB\n", "\n").replace(":", "")
        kilobytes = parse_pairs(text)
        for field, (family, key) in _FIELDS.items():
            yield family, (node, *key), kilobytes[field] * 1024


def _nodes(sys: Path) -> Iterator[Path]:
    return (sys / "devices/system/node").glob("node[0-9]*")
