"""Samples as the kernel wrote them → samples with names: stacks, containers, processes.

One row of labels stands for all samples of a thread on a CPU. What a sample is about besides its
stack (why the thread waits, which lock, who holds it) is a label as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.stacks import KnownStack, Stacks, functions_of
from huatuo.enrich.waits import is_lock_call, reason_of
from huatuo.kernel.host import Host
from huatuo.model.event import Container
from huatuo.model.profile import Samples, Stack
from huatuo.model.record import RecordBatch
from huatuo.probes.profiler import Profiler

__all__ = ["ProfileEnricher"]

Rows = npt.NDArray[np.void]
_RUNNABLE = "runnable"
_WAITING = ("blocked", "offcpu")
_COLUMNS = {"pid": "tgid", "tid": "tid", "pgid": "group", "cpu": "cpu"}


@dataclass(slots=True)
class _Table:
    """Columns of samples in the making; equal labels and equal stacks stand once."""

    times: list[int] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    stacks: dict[int, int] = field(default_factory=dict)  # kernel's id → place in `stack_list`
    stack_list: list[Stack] = field(default_factory=list)
    stack_of: list[int] = field(default_factory=list)
    labels: dict[tuple[tuple[str, str], ...], int] = field(default_factory=dict)
    labels_of: list[int] = field(default_factory=list)

    def add(
        self, time: int, value: int, number: int, stack: Stack, labels: Mapping[str, str]
    ) -> None:
        if number not in self.stacks:
            self.stacks[number] = len(self.stack_list)
            self.stack_list.append(stack)
        key = tuple(labels.items())
        self.times.append(time)
        self.values.append(value)
        self.stack_of.append(self.stacks[number])
        self.labels_of.append(self.labels.setdefault(key, len(self.labels)))

    def samples(self, profile: str) -> Samples:
        return Samples(
            profile,
            np.array(self.times, np.int64),
            np.array(self.values, np.int64),
            self.stack_list,
            np.array(self.stack_of, np.int32),
            [dict(key) for key in self.labels],
            np.array(self.labels_of, np.int32),
        )


class ProfileEnricher:
    """`take` what profilers drained, as it comes; `samples` is all of it, with names.

    `only`: labels (pid, tid, pgid, cpu, container) that samples must have; others are not looked
    at. `unknown`: profiler → samples whose stack never came, because its ring was full.
    """

    def __init__(
        self,
        host: Host,
        inventory: Inventory,
        stacks: Stacks,
        only: Mapping[str, str] | None = None,
    ) -> None:
        self._host, self._inventory, self._stacks = host, inventory, stacks
        self._only = dict(only or {})
        self._rows: dict[type[Profiler], list[Rows]] = {}
        self.unknown: Counter[str] = Counter()

    def take(self, profiler: type[Profiler], batch: RecordBatch) -> None:
        self._rows.setdefault(profiler, []).append(batch.rows)

    def samples(self) -> list[Samples]:
        """Everything since the last call, a batch for each type."""
        taken, self._rows = self._rows, {}
        tables: dict[str, _Table] = {}
        for profiler, parts in taken.items():
            self._fill(tables, profiler, self._wanted(np.concatenate(parts)))
        return [table.samples(name) for name, table in tables.items()]

    def _wanted(self, rows: Rows) -> Rows:
        kept = np.ones(len(rows), np.bool_)
        for label, value in self._only.items():
            if label in _COLUMNS:
                kept &= rows[_COLUMNS[label]] == int(value)
        if "container" in self._only:
            names = [owner.name if owner else "" for owner in self._owners(rows)]
            kept &= np.array(names, object) == self._only["container"]
        return rows[kept]

    def _fill(self, tables: dict[str, _Table], profiler: type[Profiler], rows: Rows) -> None:
        table = tables.setdefault(profiler.profile, _Table())
        times = rows["time"].astype(np.int64) + self._host.utc_offset_ns()
        owners = self._owners(rows)
        kinds = profiler.kinds()
        known = {number: self._stacks.find(number) for number in np.unique(rows["stack"]).tolist()}
        if profiler.on_tracepoint:
            known = {number: found and found.as_it_was() for number, found in known.items()}
        holders = _Holders(rows)
        for time, row, owner in zip(times.tolist(), rows, owners, strict=True):
            found = known[int(row["stack"])]
            if found is None:
                self.unknown[profiler.name] += 1
                continue
            labels = _who(row, owner) | _what(profiler, kinds.get(int(row["kind"]), ""), found)
            value, number = int(row["value"]), int(row["stack"])
            table.add(time, value, number, found.stack, labels)
            if profiler.profile == "blocked" and row["object"]:
                self._add_lock(tables, holders, row, time, found, labels)

    def _add_lock(
        self,
        tables: dict[str, _Table],
        holders: _Holders,
        row: Any,
        time: int,
        found: KnownStack,
        labels: Mapping[str, str],
    ) -> None:
        """A wait for a lock of user space: for the waiter, and for who makes it wait."""
        holder = holders.of(row)
        if holder is None and not is_lock_call(functions_of(found.stack.locations)):
            return
        value, number = int(row["value"]), int(row["stack"])
        lock = {"lock": f"{int(row['object']):#x}", "type": "futex"}
        named = {name: value for name, value in labels.items() if name != "reason"} | lock
        if holder is None:
            tables.setdefault("lock", _Table()).add(time, value, number, found.stack, named)
            return
        who = _text(holder["thread"])
        named = named | {"holder": f"{who}/{int(holder['tid'])}"}
        tables.setdefault("lock", _Table()).add(time, value, number, found.stack, named)
        held = self._stacks.find(int(holder["stack"]))
        if held is not None:
            by = _who(holder, None) | lock | {"container": labels["container"]}
            waiter = {"waiter": f"{_text(row['thread'])}/{int(row['tid'])}"}
            table = tables.setdefault("holder", _Table())
            table.add(time, value, int(holder["stack"]), held.stack, by | waiter)

    def _owners(self, rows: Rows) -> list[Container | None]:
        unique, codes = np.unique(rows["cgroup"], return_inverse=True)
        owners = self._inventory.owners(unique.tolist())
        return [owners[code] for code in codes.tolist()]


class _Holders:
    """Threads by what their own process calls them, as they were last seen in these rows."""

    def __init__(self, rows: Rows) -> None:
        self._threads: dict[tuple[int, int], Any] = {}
        for row in rows if rows["owner"].any() else ():
            self._threads[int(row["tgid"]), int(row["local_tid"])] = row

    def of(self, row: Any) -> Any:
        """The thread that holds what this one waits for; None if the word named no such thread."""
        holder = self._threads.get((int(row["tgid"]), int(row["owner"])))
        return None if holder is None or holder["tid"] == row["tid"] else holder


def _who(row: Any, owner: Container | None) -> dict[str, str]:
    """The same labels as metrics have, and what is too much for those."""
    labels = {"container": owner.full_name if owner else ""}
    if owner is not None and owner.pod:
        labels |= {"pod": owner.pod, "namespace": owner.namespace}
    return labels | {
        "comm": _text(row["comm"]),
        "thread": _text(row["thread"]),
        "pid": str(int(row["tgid"])),
        "tid": str(int(row["tid"])),
        "pgid": str(int(row["group"])),
        "cpu": str(int(row["cpu"])),
    }


def _what(profiler: type[Profiler], kind: str, known: KnownStack) -> dict[str, str]:
    """What the stack and the profiler say besides the numbers."""
    if profiler.profile in _WAITING:
        return {"reason": "disk" if kind == "io" else reason_of(known.kernel, kind == _RUNNABLE)}
    labels = {profiler.kind_label: kind} if profiler.kind_label and kind else {}
    return labels | ({"subsystem": known.subsystem} if known.subsystem else {})


def _text(value: bytes) -> str:
    return value.split(b"\0", 1)[0].decode(errors="replace")
