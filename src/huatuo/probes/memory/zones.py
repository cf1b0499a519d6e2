"""Free memory by zone: in blocks of which size, and how near to the marks where reclaim begins."""

from __future__ import annotations

import re
from collections.abc import Iterator

from huatuo.probes.reader import Reader, Reading, gauge

__all__ = ["Zones"]

_BLOCKS = gauge("free_blocks", "free blocks of 2^order pages", "node", "zone", "order")
_UNUSABLE = gauge(
    "unusable_ratio",
    "share of the free memory that lies in blocks of less than 2^order pages",
    "node",
    "zone",
    "order",
)
_MANAGED = gauge("managed_bytes", "memory of the zone that can be allocated", "node", "zone")
_FREE = gauge("free_bytes", "free memory of the zone", "node", "zone")
_MARKS = gauge(
    "mark_bytes",
    "free memory below which: min: allocations must reclaim; low: kswapd is woken; "
    "high: kswapd goes on",
    "node",
    "zone",
    "mark",
)
_ZONE = re.compile(r"^Node (\d+), zone +(\w+)", re.MULTILINE)
_PAGES = re.compile(r"^ +(?:pages )?(free|min|low|high|managed) +(\d+)$", re.MULTILINE)


class Zones(Reader):
    """Fragmentation of free memory, and how much is left before somebody has to reclaim.

    `unusable_ratio` of an order is 0 if all free memory could serve an allocation of that size and
    1 if none could: order 3 is what the kernel still tries hard for (network, stacks), 9 a huge
    page of 2 MiB. A zone without free memory has none. How often allocations had to reclaim is in
    memory.vmstat, for how long in memory.reclaim and memory.compaction.
    Reads: /proc/buddyinfo, /proc/zoneinfo (mm/vmstat.c).
    Cost: two reads that grow with zones, zoneinfo with zones times CPUs.
    """

    priority = 50
    files = ("proc/buddyinfo", "proc/zoneinfo")

    def parts(self) -> Iterator[Iterator[Reading]]:
        for line in self.text(self.paths["proc/buddyinfo"]).splitlines():
            yield self._blocks(line)
        text = self.optional(self.paths["proc/zoneinfo"])
        heads = list(_ZONE.finditer(text))
        ends = [*(head.start() for head in heads[1:]), len(text)]
        for head, end in zip(heads, ends, strict=True):
            yield self._marks(head[1], head[2], text[head.end() : end])

    def _blocks(self, line: str) -> Iterator[Reading]:
        """Node 0, zone   Normal      5      3 …: free blocks by order."""
        head = _ZONE.match(line)
        if head is None:
            raise ValueError("not a line of buddyinfo")
        zone = head.groups()
        blocks = [int(word) for word in line[head.end() :].split()]
        pages = [count << order for order, count in enumerate(blocks)]
        total, smaller = sum(pages), 0
        for order, count in enumerate(blocks):
            yield _BLOCKS, (*zone, str(order)), count
            if order and total:
                yield _UNUSABLE, (*zone, str(order)), smaller / total
            smaller += pages[order]

    def _marks(self, node: str, zone: str, text: str) -> Iterator[Reading]:
        """The first of each name: what follows is of the CPUs, and of the node."""
        zone_only = text[text.rfind("  pages free") :]
        pages = {name: int(count) for name, count in reversed(_PAGES.findall(zone_only))}
        if not pages.get("managed"):
            return
        size = self.host.page_size
        yield _MANAGED, (node, zone), pages.pop("managed") * size
        yield _FREE, (node, zone), pages.pop("free") * size
        for mark, count in pages.items():
            yield _MARKS, (node, zone, mark), count * size
