"""What all tasks do, from looking at them every few seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from huatuo.kernel.host import Host
from huatuo.kernel.object import Statistics
from huatuo.model.meaning import MEANINGS, Role
from huatuo.model.metric import Column, Metric
from huatuo.model.record import Field, RecordBatch, Schema
from huatuo.model.units import show_duration
from huatuo.probes.base import Account
from huatuo.probes.bpf import BpfProbe
from huatuo.probes.periodic import Periodic

__all__ = ["State"]

Rows = npt.NDArray[np.void]
_STACK_BYTES = 2048
_HOLDER_STACK = "holder_stack"
_DESCRIPTORS = "descriptors_short"
_HELP = "tasks of the container that run, wait for a CPU or sleep uninterruptibly, average over "
_AVERAGES = {
    "load_average_1m": (60.0, f"{_HELP}one minute"),
    "load_average_5m": (300.0, f"{_HELP}five minutes"),
    "load_average_15m": (900.0, f"{_HELP}fifteen minutes"),
}
_BLOCKED_HELP = "tasks of the container that sleep uninterruptibly, average over one minute"
_UNINTERRUPTIBLE = ("disk", "lock", "blocked")
_LOAD = ("running", "runnable", *_UNINTERRUPTIBLE)
_NOTHING = 0.005  # an average below it is shown as zero, and forgotten with the container


@dataclass(slots=True)
class Averages:
    """Load as the kernel averages it, per cgroup: `values` has a column per horizon."""

    horizons: tuple[float, ...]
    values: dict[int, npt.NDArray[np.float64]] = field(default_factory=dict)

    def add(self, counts: Mapping[int, float], seconds: float) -> None:
        """What was counted now stands for the last `seconds`."""
        keep = np.array([math.exp(-seconds / horizon) for horizon in self.horizons])
        for cgroup in self.values.keys() | counts.keys():
            before = self.values.get(cgroup, np.zeros(len(keep)))
            self.values[cgroup] = before * keep + counts.get(cgroup, 0.0) * (1 - keep)

    def forget(self, alive: set[int]) -> None:
        """Drop cgroups that have no tasks and whose load has died away."""
        gone = [c for c, v in self.values.items() if c not in alive and v.max() < _NOTHING]
        for cgroup in gone:
            del self.values[cgroup]


class State(BpfProbe):
    """What tasks do, per container; load averages; who sleeps uninterruptibly for long.

    A task in state D for longer than block_threshold is an event with its stack, the lock of the
    kernel that it waits for and who holds that, and what the holder does. So is what the kernel
    itself reports as hung, and a process that has nearly all files open that it may.
    Load and its uninterruptible part are averaged per container as the kernel averages the host's.
    Hooks: a task iterator (kernel/bpf/task_iter.c), every scan_interval; sched:sched_process_hang.
    Kernels: locks as a reason to sleep are counted where the kernel notes them (6.16 and later);
    events find the lock and its holder on older ones too.
    Cost: about 0.7 us per task and pass, in a thread of its own.
    """

    priority = 75
    titles: ClassVar[Mapping[str, str]] = {
        "blocked_tasks": "{comm} has slept uninterruptibly for {blocked_ns}",
        "hung_tasks": "{comm} hangs: uninterruptible for {blocked_ns}",
        _DESCRIPTORS: "{comm} has {open} of {limit} file descriptors open",
    }
    subjects: ClassVar[Mapping[str, str]] = dict.fromkeys(titles, "cgroup")

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self._pass = 0
        self._seen: dict[str, tuple[Rows, Rows]] = {}  # by map, of the last pass
        self._averages = Averages(tuple(horizon for horizon, _ in _AVERAGES.values()))
        self._blocked = Averages((60.0,))
        self._looked = 0.0
        self._host_short = False
        self._told_host = 0
        self._looking: Periodic | None = None

    @classmethod
    def event_schemas(cls) -> dict[str, Schema]:
        found = super().event_schemas()
        return {
            ring: schema if ring == _DESCRIPTORS else _with_holder(schema)
            for ring, schema in found.items()
        }

    @property
    def hooks(self) -> list[str]:
        return ["iter/task", *super().hooks]

    def start(self) -> None:
        super().start()
        self.look()
        interval = self.settings["scan_interval"] / 1e9
        self._looking = Periodic(self.name, self.look, lambda: interval)

    def stop(self) -> None:
        if self._looking is not None:
            self._looking.stop()
            self._looking = None
        super().stop()

    def cost(self) -> dict[str, Statistics]:
        """The program runs in our own thread, whose time says it better."""
        return {}

    def own_seconds(self) -> float:
        return self._looking.seconds if self._looking else 0.0

    def look(self) -> None:
        """One pass over all tasks."""
        opened = self._running()
        self._pass += 1
        opened.maps["passes"].update(bytes(4), self._pass.to_bytes(8, "little"))
        opened.run_iterator("look_at_task")
        tables: dict[str, tuple[Rows, Rows]] = {}
        for name in ("states", "containers"):
            table = opened.maps[name]
            keys, values = table.read()
            now = values["pass"] == self._pass
            for key in keys[values["pass"] < self._pass - 1]:
                table.delete(key.tobytes())
            tables[name] = keys[now], values[now]
        self._average(*tables["states"])
        self._seen = tables

    def _average(self, keys: Rows, values: Rows) -> None:
        now = time.monotonic()
        seconds = now - self._looked if self._looked else self.settings["scan_interval"] / 1e9
        self._looked = now
        key = self._running().maps["states"].key
        assert key
        labels = key.field("state").labels
        states = [labels.get(int(state), "") for state in keys["state"]]
        for averages, counted in ((self._averages, _LOAD), (self._blocked, _UNINTERRUPTIBLE)):
            found: dict[int, float] = {}
            rows = zip(keys["cgroup"].tolist(), states, values["tasks"].tolist(), strict=True)
            for cgroup, state, tasks in rows:
                if state in counted:
                    found[cgroup] = found.get(cgroup, 0.0) + tasks
            averages.add(found, seconds)
            averages.forget(set(keys["cgroup"].tolist()))

    def tables(self) -> Iterator[tuple[Schema, Rows, Schema, Rows]]:
        maps = self._running().maps
        for name, (keys, values) in self._seen.items():
            key, value = maps[name].key, maps[name].value
            assert key and value
            yield key, keys, value, values

    def collect(self) -> Iterator[Metric]:
        yield from super().collect()
        yield from self._gauges(self._averages, _AVERAGES)
        yield from self._gauges(self._blocked, {"blocked_average_1m": (60.0, _BLOCKED_HELP)})

    def _gauges(
        self, averages: Averages, families: Mapping[str, tuple[float, str]]
    ) -> Iterator[Metric]:
        values = dict(averages.values)  # the thread goes on
        if not values:
            return
        cgroups = np.fromiter(values, np.uint64, len(values))
        labels = {"container": Column(cgroups, MEANINGS["cgroup_id_t"])}
        table = np.array(list(values.values()))
        table[table < _NOTHING] = 0.0
        for column, (name, (_, help_text)) in enumerate(families.items()):
            full = f"huatuo_task_state_{name}"
            yield Metric(full, Role.GAUGE, help_text, table[:, column], labels)

    def drain(self) -> Iterator[RecordBatch]:
        yield from super().drain()
        yield from self._host_descriptors()

    def _host_descriptors(self) -> Iterator[RecordBatch]:
        """An event when the host comes near fs.file-max, once until it is well below again."""
        allocated, free, limit = map(int, self.host.read(self.host.proc / "sys/fs/file-nr").split())
        used, share = allocated - free, self.settings["descriptors_percent"]
        if used * 200 < limit * share:
            self._host_short = False
        if used * 100 < limit * share or self._host_short:
            return
        self._host_short = True
        self._told_host += 1
        schema = self.event_schemas()[_DESCRIPTORS]
        row = np.zeros(1, schema.dtype)
        row["time"], row["open"], row["limit"] = self.host.now_ns(), used, limit
        row["scope"] = next(k for k, v in schema.field("scope").labels.items() if v == "host")
        yield RecordBatch(self.name, _DESCRIPTORS, schema, row)

    def account(self) -> Account:
        found = super().account()
        return replace(
            found,
            produced=found.produced + self._told_host,
            delivered=found.delivered + self._told_host,
        )

    def decode(self, batch: RecordBatch) -> RecordBatch:
        """Add what the holder of the lock does now."""
        if batch.ring == _DESCRIPTORS:
            return batch
        schema = _with_holder(batch.schema)
        rows = np.zeros(len(batch), schema.dtype)
        for name in batch.schema.dtype.names or ():
            rows[name] = batch.rows[name]
        for row in rows:
            if row["holder_tgid"]:
                row[_HOLDER_STACK] = self._stack(int(row["holder_tgid"]), int(row["holder_tid"]))
        return replace(batch, schema=schema, rows=rows)

    def _stack(self, tgid: int, tid: int) -> bytes:
        try:
            text = self.host.read(self.host.proc / f"{tgid}/task/{tid}/stack")
        except OSError:
            return b""  # gone, or this kernel does not show it
        return text.encode()[:_STACK_BYTES]

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        """The holder's stack as a list; a sentence that names lock and holder."""
        if "blocked_ns" not in fields:
            return ""
        frames = str(fields.pop(_HOLDER_STACK, "")).splitlines()
        if frames:
            fields[_HOLDER_STACK] = [line.partition("] ")[2] for line in frames]
        who = f"{fields['comm']}[{fields['pid']}]"
        title = f"{who} has slept uninterruptibly for {show_duration(fields['blocked_ns'] / 1e9)}"
        if not fields["holder_pid"]:
            return title
        lock = "a lock" if fields["lock"] in ("unknown", "none") else fields["lock"].split("_")[0]
        return f"{title}: {fields['holder_comm']}[{fields['holder_pid']}] holds {_a(lock)}"


def _a(noun: str) -> str:
    return noun if " " in noun else f"{'an' if noun[0] == 'r' else 'a'} {noun}"


def _with_holder(schema: Schema) -> Schema:
    """The record's schema with room for the stack of the lock's holder."""
    layout = [(name, schema.dtype[name]) for name in schema.dtype.names or ()]
    dtype = np.dtype([*layout, (_HOLDER_STACK, f"S{_STACK_BYTES}")])
    added = Field(_HOLDER_STACK, MEANINGS["text_t"], "what the holder did shortly after")
    return replace(schema, dtype=dtype, fields=(*schema.fields, added))
