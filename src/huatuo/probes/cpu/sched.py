"""The scheduler, from one program on sched_switch."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from huatuo.kernel.cgroupfs import identities
from huatuo.kernel.object import BpfObject
from huatuo.model.meaning import MEANINGS
from huatuo.model.metric import Metric
from huatuo.model.record import Field, RecordBatch, Schema
from huatuo.model.units import show_duration
from huatuo.probes.bpf import BpfProbe

__all__ = ["Sched"]

Rows = npt.NDArray[np.void]
_FULL = 0.75  # share of the rows in use from which those of dead cgroups are reclaimed
_WAITS = "slow_waits"
_CULPRITS = 16  # processes that a slow wait names, those that ran longest
_NEEDS_STORAGE = ("migrations", "blocked")  # families that the form without task storage lacks


class Sched(BpfProbe):
    """How long runnable tasks wait for a CPU, who runs meanwhile, and who sleeps uninterruptibly.

    A wait that lasts too long is an event with all who ran on that CPU meanwhile. What its
    container's own CPU limit takes of a wait is told apart from what others take. An
    uninterruptible sleep (state D) that lasts too long is an event when it ends; task.state tells
    of those that go on.
    Hooks: sched:sched_switch (kernel/sched/core.c) with sched_info; sched:sched_process_fork.
    Kernels: before 5.11 (no task storage) a migration restarts the wait, so long waits count less,
    and there are neither migrations nor uninterruptible sleeps. Locks are told from other reasons
    to sleep where the kernel notes them (6.16 and later).
    Cost: about 100 ns per context switch; nothing per wake-up; 0.1 us more per uninterruptible
    sleep, 2 us where it is an event.
    """

    priority = 90
    titles: ClassVar[Mapping[str, str]] = {
        _WAITS: "{comm} waited {wait_ns} for CPU {cpu}",
        "long_blocks": "{comm} slept uninterruptibly for {blocked_ns}: {reason}",
        "contentions": "{culprit} delayed {container} by {delay_ns} within {window_ns}",
    }
    subjects: ClassVar[Mapping[str, str]] = dict.fromkeys(titles, "cgroup")

    def prepare(self, opened: BpfObject) -> None:
        free = opened.maps["free_rows"]
        for row in range(1, opened.maps["rows"].max_entries):
            free.update(None, struct.pack("<I", row))
        opened.run_iterator("once_per_task")

    @classmethod
    def event_schemas(cls) -> dict[str, Schema]:
        found = super().event_schemas()
        return found | {_WAITS: _with_culprits(found[_WAITS])}

    @property
    def notes(self) -> list[str]:
        if self._is_exact:
            return []
        return [
            "without task storage: no migrations, no uninterruptible sleeps, long waits too short"
        ]

    @property
    def _is_exact(self) -> bool:
        return any("(exact)" in hook for hook in self.hooks)

    def reclaim(self) -> int:
        """Give back the rows of cgroups that are gone; returns how many. Called when rows run out,
        so that a container's last numbers stay readable as long as there is room."""
        maps = self._running().maps
        numbers, rows, free = maps["row_of_cgroup"], maps["rows"], maps["free_rows"]
        assert rows.value
        alive = np.array([0, *(cgroup.id for cgroup in identities(self.host))], np.uint64)
        cgroups, row_numbers = numbers.read()
        gone = ~np.isin(cgroups["value"], alive)
        empty = bytes(rows.value.dtype.itemsize)
        for key, row in zip(cgroups[gone], row_numbers[gone], strict=True):
            numbers.delete(key.tobytes())
            rows.update(row.tobytes(), empty)
            free.update(None, row.tobytes())
        for table, names in ((maps["blame"], ("victim", "culprit")), (maps["blocks"], ("cgroup",))):
            found, _ = table.read()
            dead = np.any([~np.isin(found[name], alive) for name in names], axis=0)
            for each in found[dead]:
                table.delete(each.tobytes())
        return int(gone.sum())

    def collect(self) -> Iterator[Metric]:
        lacks = () if self._is_exact else tuple(f"huatuo_cpu_sched_{n}" for n in _NEEDS_STORAGE)
        return (metric for metric in super().collect() if not metric.name.startswith(lacks))

    def tables(self) -> Iterator[tuple[Schema, Rows, Schema, Rows]]:
        maps = self._running().maps
        hashes = [maps[name] for name in ("row_of_cgroup", "blame", "blocks")]
        contents = [table.read() for table in hashes]
        fill = [len(at[0]) / table.max_entries for at, table in zip(contents, hashes, strict=True)]
        if max(fill) > _FULL and self.reclaim():
            contents = [table.read() for table in hashes]
        rows = maps["rows"]
        assert rows.value
        cgroups, row_numbers = contents[0]
        used = row_numbers["value"]
        _, values = rows.read(int(used.max(initial=0)) + 1)
        keys = np.zeros(len(used) + 1, [("cgroup", np.uint64)])  # the last: row 0, cgroup 0
        keys["cgroup"][:-1] = cgroups["value"]
        key = Schema("", keys.dtype, (Field("cgroup", MEANINGS["cgroup_id_t"]),))
        yield key, keys, rows.value, values[np.append(used, 0)]
        for table, (found, counts) in zip(hashes[1:], contents[1:], strict=True):
            assert table.key and table.value
            yield table.key, found, table.value, counts

    def decode(self, batch: RecordBatch) -> RecordBatch:
        if batch.ring != _WAITS:
            return batch
        schema = _with_culprits(batch.schema)
        rows = np.zeros(len(batch), schema.dtype)
        for name in batch.schema.dtype.names or ():
            if name in (schema.dtype.names or ()):
                rows[name] = batch.rows[name]
        for row, raw in zip(rows, batch.rows, strict=True):
            turns = _by_process(raw["turns"][: raw["count"]])
            row["culprits"][: len(turns)] = turns
        return replace(batch, schema=schema, rows=rows)

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        """The share of each culprit; a sentence that names the first."""
        culprits = fields.get("culprits")
        if culprits is None:
            return ""
        here = max(fields["here_ns"], 1)
        for culprit in culprits:
            culprit["share"] = round(culprit["ran_ns"] / here, 4)
        who = f"{fields['comm']}[{fields['pid']}]"
        title = f"{who} waited {show_duration(fields['wait_ns'] / 1e9)} for CPU {fields['cpu']}"
        if fields["throttled_ns"] * 2 >= here:
            return f"{title}: its container's CPU limit was used up"
        if not culprits:
            return title
        most = culprits[0]
        return f"{title} while {most['comm']}[{most['pid']}] ran for {most['share']:.0%} of it"


def _with_culprits(schema: Schema) -> Schema:
    """The record's schema with processes instead of turns."""
    turns = schema.field("turns")
    kept = [field for field in schema if field.name not in ("turns", "count")]
    layout = [(field.name, schema.dtype[field.name]) for field in kept]
    element = schema.dtype["turns"].base
    culprits = replace(turns, name="culprits", help="who ran on that CPU meanwhile, longest first")
    return replace(
        schema,
        dtype=np.dtype([*layout, ("culprits", element, (_CULPRITS,))]),
        fields=(*kept, culprits),
    )


def _by_process(turns: Rows) -> Rows:
    """Turns (n,) of the same process and container added up, longest first."""
    _, first, codes = np.unique(turns[["cgroup", "tgid"]], return_index=True, return_inverse=True)
    found = turns[first]
    for name in ("ran", "mixed"):
        found[name] = np.bincount(codes, turns[name], len(first))
    return found[np.argsort(found["ran"])[::-1]][:_CULPRITS]
