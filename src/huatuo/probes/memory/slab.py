"""The kernel's object caches, the largest by name."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter

from huatuo.probes.reader import Reader, Reading, gauge

__all__ = ["Slab"]

_BYTES = gauge("cache_bytes", "memory of the kernel's object caches; other: all but these", "cache")
_USED = gauge("cache_used_bytes", "of it in objects that are in use", "cache")
_OBJECTS = gauge("cache_objects", "objects in use", "cache")
_LARGEST = 20


class Slab(Reader):
    """The largest object caches of the kernel: what its memory is used for.

    dentry and inode caches follow the files that are looked at and are given back under pressure;
    growth of another one that never ends is a leak. What is not used of a cache is fragmentation.
    Caches of the same layout are merged by the kernel under the name of the first. Totals by
    whether they can be given back are in memory.info.
    Reads: /proc/slabinfo (mm/slab_common.c), readable by root.
    Cost: 0.6 ms for 236 caches, most of it the kernel's; nothing between collections.
    """

    priority = 40
    files = ("proc/slabinfo",)
    without = "only root may read it, and a kernel built without CONFIG_SLUB_DEBUG has none"

    def parts(self) -> Iterator[Iterator[Reading]]:
        yield self._slabinfo()

    def _slabinfo(self) -> Iterator[Reading]:
        """Per line: name, objects in use, all, size, … pages of a slab, … : slabdata, …, slabs."""
        version, _, *lines = self.text(self.paths["proc/slabinfo"]).splitlines()
        if not version.startswith("slabinfo - version: 2."):
            raise ValueError("not the known form of slabinfo")
        caches = []
        for line in lines:
            name, active, _, size, _, pages, *rest = line.split()
            slabs = rest[rest.index("slabdata") + 2]
            bytes_ = int(pages) * int(slabs) * self.host.page_size
            caches.append((bytes_, int(active) * int(size), int(active), name))
        caches.sort(key=itemgetter(0), reverse=True)
        for bytes_, used, objects, name in caches[:_LARGEST]:
            yield _BYTES, (name,), bytes_
            yield _USED, (name,), used
            yield _OBJECTS, (name,), objects
        others = caches[_LARGEST:]
        yield _BYTES, ("other",), sum(bytes_ for bytes_, *_ in others)
        yield _USED, ("other",), sum(used for _, used, _, _ in others)
        yield _OBJECTS, ("other",), sum(objects for _, _, objects, _ in others)
