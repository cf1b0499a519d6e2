"""The scheduler, from one program on sched_switch."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from huatuo.kernel.cgroupfs import identities
from huatuo.kernel.object import BpfObject
from huatuo.model.meaning import MEANINGS
from huatuo.model.record import Field, Schema
from huatuo.probes.bpf import BpfProbe

__all__ = ["Sched"]

Rows = npt.NDArray[np.void]
_FULL = 0.75  # share of the rows in use from which those of dead cgroups are reclaimed


class Sched(BpfProbe):
    """How long runnable tasks wait for a CPU, who runs meanwhile, and who is preempted.

    Hooks: sched:sched_switch (kernel/sched/core.c) with sched_info; sched:sched_process_fork.
    Kernels: before 5.11 (no task storage) a migration restarts the wait, so long waits count less.
    Cost: about 100 ns per context switch; nothing per wake-up.
    """

    priority = 90

    def prepare(self, opened: BpfObject) -> None:
        free = opened.maps["free_rows"]
        for row in range(1, opened.maps["rows"].max_entries):
            free.update(None, struct.pack("<I", row))
        opened.run_iterator("once_per_task")

    def reclaim(self) -> int:
        """Give back the rows of cgroups that are gone; returns how many. Called when rows run out,
        so that a container's last numbers stay readable as long as there is room."""
        maps = self._running().maps
        numbers, blame, rows, free = (
            maps[name] for name in ("row_of_cgroup", "blame", "rows", "free_rows")
        )
        assert rows.value
        alive = np.array([0, *(cgroup.id for cgroup in identities(self.host))], np.uint64)
        cgroups, row_numbers = numbers.read()
        gone = ~np.isin(cgroups["value"], alive)
        empty = bytes(rows.value.dtype.itemsize)
        for key, row in zip(cgroups[gone], row_numbers[gone], strict=True):
            numbers.delete(key.tobytes())
            rows.update(row.tobytes(), empty)
            free.update(None, row.tobytes())
        pairs, _ = blame.read()
        for pair in pairs[~(np.isin(pairs["victim"], alive) & np.isin(pairs["culprit"], alive))]:
            blame.delete(pair.tobytes())
        return int(gone.sum())

    def tables(self) -> Iterator[tuple[Schema, Rows, Schema, Rows]]:
        maps = self._running().maps
        numbers, blame, rows = maps["row_of_cgroup"], maps["blame"], maps["rows"]
        assert numbers.key and blame.key and blame.value and rows.value
        cgroups, row_numbers = numbers.read()
        if len(cgroups) > _FULL * numbers.max_entries and self.reclaim():
            cgroups, row_numbers = numbers.read()
        used = row_numbers["value"]
        _, values = rows.read(int(used.max(initial=0)) + 1)
        keys = np.zeros(len(used) + 1, [("cgroup", np.uint64)])  # the last: row 0, cgroup 0
        keys["cgroup"][:-1] = cgroups["value"]
        key = Schema("", keys.dtype, (Field("cgroup", MEANINGS["cgroup_id_t"]),))
        yield key, keys, rows.value, values[np.append(used, 0)]
        pairs, delays = blame.read()
        yield blame.key, pairs, blame.value, delays
