"""The scheduler, from one program on sched_switch."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from huatuo.kernel.object import BpfObject
from huatuo.model.meaning import MEANINGS
from huatuo.model.record import Field, Schema
from huatuo.probes.bpf import BpfProbe

__all__ = ["Sched"]

Rows = npt.NDArray[np.void]


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

    def tables(self) -> Iterator[tuple[Schema, Rows, Schema, Rows]]:
        maps = self._running().maps
        numbers, blame, rows = maps["row_of_cgroup"], maps["blame"], maps["rows"]
        assert numbers.key and blame.key and blame.value and rows.value
        cgroups, row_numbers = numbers.read()
        used = row_numbers["value"]
        _, values = rows.read(int(used.max(initial=0)) + 1)
        keys = np.zeros(len(used) + 1, [("cgroup", np.uint64)])  # the last: row 0, cgroup 0
        keys["cgroup"][:-1] = cgroups["value"]
        key = Schema("", keys.dtype, (Field("cgroup", MEANINGS["cgroup_id_t"]),))
        yield key, keys, rows.value, values[np.append(used, 0)]
        pairs, delays = blame.read()
        yield blame.key, pairs, blame.value, delays
