"""Memory that is resident now, by the stack that touched it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from huatuo.kernel.host import Host
from huatuo.kernel.pagemap import PageFlags, entries
from huatuo.model.record import RecordBatch
from huatuo.probes.profiler import Profiler

__all__ = ["Resident"]

_PAGE, _REGION = 1, 2  # resident.bpf.c
_PAGE_BITS, _HUGE_BITS = 12, 21


class Resident(Profiler):
    """Whose memory is resident, by the call path that touched it; freed memory is not counted.

    Hooks: exceptions:page_fault_user, page_fault_kernel (arch/x86/mm/fault.c), sampled by a hash of
    the page; then /proc/PID/pagemap and kpageflags tell which sampled pages are still there.
    Cost: 0.15 us per page fault, which is a tenth of one: on demand only. 5 us per sampled page
    and look.
    """

    profile = "resident"
    on_tracepoint = True
    automatic = False

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self._pages: dict[tuple[int, int, int], Any] = {}  # (kind, pid, page) → its last sample
        self._looked = time.monotonic()

    def drain(self) -> Iterator[RecordBatch]:
        """All sampled memory that is resident, every `look_every`; nothing in between."""
        for ring in self._running().rings.values():
            rows = ring.drain()
            self._delivered += len(rows)
            for row in rows:
                for kind, bits in ((_PAGE, _PAGE_BITS), (_REGION, _HUGE_BITS)):
                    if row["kind"] & kind:
                        key = (kind, int(row["tgid"]), int(row["object"]) >> bits)
                        self._pages[key] = row
            now = time.monotonic()
            if now - self._looked >= self.settings["look_every"] / 1e9:
                self._looked = now
                found = self.resident()
                if len(found):
                    yield RecordBatch(self.name, ring.name, ring.schema, found)

    def resident(self) -> npt.NDArray[np.void]:
        """The samples whose memory is there now, each weighted; forgets those that are not."""
        by_process: dict[int, list[tuple[int, int, int]]] = {}
        for key in self._pages:
            by_process.setdefault(key[1], []).append(key)
        (ring,) = self._running().rings.values()
        kept: list[Any] = []
        with PageFlags(self.host) as flags:
            for pid, keys in by_process.items():
                self._look(pid, keys, flags, kept)
        if not kept:
            return np.empty(0, ring.schema.dtype)
        rows: npt.NDArray[np.void] = np.array(kept, ring.schema.dtype)
        rows["time"] = self.host.now_ns()
        return rows

    def _look(
        self, pid: int, keys: list[tuple[int, int, int]], flags: PageFlags, kept: list[Any]
    ) -> None:
        """A page counts for itself, or, as part of a huge page, its region for all of that."""
        try:
            frames = entries(self.host, pid, [int(self._pages[key]["object"]) for key in keys])
        except OSError:
            frames = np.zeros(len(keys), np.uint64)
        for key, frame in zip(keys, frames.tolist(), strict=True):
            is_region = key[0] == _REGION
            is_huge = bool(frame) and flags.is_huge(frame)
            if not frame or (is_region and not is_huge):
                del self._pages[key]
                if is_region:
                    self._ask_again(pid, key[2])
            elif is_region == is_huge:
                row = self._pages[key].copy()
                row["value"] = (
                    self.settings["one_region_in"] << _HUGE_BITS
                    if is_region
                    else self.settings["one_page_in"] * self.host.page_size
                )
                kept.append(row)

    def _ask_again(self, pid: int, region: int) -> None:
        """The next first fault of a region is news again."""
        key = region | pid << 32
        self._running().maps["regions"].delete((key & (1 << 64) - 1).to_bytes(8, "little"))
