"""Interrupts that are off for too long and tasks that do not let go of their CPU, by the tick."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from huatuo.kernel.host import Host
from huatuo.kernel.maps import possible_cpus
from huatuo.model.meaning import MEANINGS
from huatuo.model.metric import Metric
from huatuo.model.record import Field, RecordBatch, Schema
from huatuo.model.units import show_duration
from huatuo.probes.bpf import BpfProbe, Rows

__all__ = ["Tick"]

_LATE, _STUCK = "late_ticks", "stuck_cpus"
_STEAL = 8  # column of /proc/stat


class Tick(BpfProbe):
    """How long interrupts are off, as late ticks show it, and CPUs that a task does not let go of.

    A tick that comes too late is an event with the stack of who switched interrupts on again. In a
    virtual machine the hypervisor may have taken the CPU instead: the event says how much it did
    take at most. A stretch shorter than a tick is seen only if one is due in it. A task that stays
    in the kernel while others wait for its CPU is an event after stuck_threshold, with what it
    does, long before the kernel's own watchdog speaks (cpu.lockup).
    Hooks: timer:hrtimer_expire_entry (kernel/time/hrtimer.c), for the tick's timer only; where the
    kernel hides its addresses (kptr_restrict, without CAP_SYSLOG) any late timer counts, and tasks
    are not watched.
    Cost: about 0.4 µs per tick (its data is cold by then: 0.01 % of a CPU at 250 Hz), 40 ns per
    other timer, and entering the program.
    """

    priority = 85
    titles: ClassVar[Mapping[str, str]] = {
        _LATE: "the tick of CPU {cpu} came {late_ns} late",
        _STUCK: "{comm} has kept CPU {cpu} for {stuck_ns}, {waiting} others wait",
    }
    subjects: ClassVar[Mapping[str, str]] = dict.fromkeys(titles, "cgroup")

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self._stolen: dict[int, int] = {}

    def start(self) -> None:
        super().start()
        self._stolen = self._read_stolen()

    @classmethod
    def event_schemas(cls) -> dict[str, Schema]:
        found = super().event_schemas()
        return found | {_LATE: _with_stolen(found[_LATE])}

    def tables(self) -> Iterator[tuple[Schema, Rows, Schema, Rows]]:
        for key, keys, value, values in super().tables():
            yield key, keys[: possible_cpus()], value, values[: possible_cpus()]

    def collect(self) -> Iterator[Metric]:
        self._stolen = self._read_stolen()
        return super().collect()

    def decode(self, batch: RecordBatch) -> RecordBatch:
        """Add how much the hypervisor took of the CPU since we last looked."""
        if batch.ring != _LATE:
            return batch
        before, self._stolen = self._stolen, self._read_stolen()
        schema = _with_stolen(batch.schema)
        rows = np.zeros(len(batch), schema.dtype)
        for name in batch.schema.dtype.names or ():
            rows[name] = batch.rows[name]
        rows["stolen"] = [
            self._stolen.get(cpu, 0) - before.get(cpu, 0) for cpu in batch.rows["cpu"].tolist()
        ]
        return replace(batch, schema=schema, rows=rows)

    def _read_stolen(self) -> dict[int, int]:
        """CPU → nanoseconds that the hypervisor took so far."""
        found = {}
        for line in self.host.read(self.host.proc / "stat").splitlines():
            words = line.split()
            if line.startswith("cpu") and words[0] != "cpu" and len(words) > _STEAL:
                ticks = int(words[_STEAL])
                found[int(words[0][3:])] = ticks * 1_000_000_000 // self.host.ticks_per_second
        return found

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        """One sentence; interrupts are blamed if the hypervisor cannot have done it."""
        who = f"{fields['comm']}[{fields['tid']}]"
        if "stuck_ns" in fields:
            stuck = show_duration(fields["stuck_ns"] / 1e9)
            others = f"{fields['waiting']} other{'s' * (fields['waiting'] != 1)}"
            return f"{who} has not let go of CPU {fields['cpu']} for {stuck}; {others} wait for it"
        late = show_duration(fields["late_ns"] / 1e9)
        if fields["stolen_ns"] * 2 < fields["late_ns"]:
            return f"interrupts of CPU {fields['cpu']} were off for {late}, under {who}"
        return (
            f"the tick of CPU {fields['cpu']} came {late} late, under {who}: interrupts were "
            "off, or the hypervisor took the CPU"
        )


def _with_stolen(schema: Schema) -> Schema:
    """The record's schema with the hypervisor's share."""
    layout = [(name, schema.dtype[name]) for name in schema.dtype.names or ()]
    help_text = "what the hypervisor took of the CPU since the last scrape or event: at most so"
    added = Field("stolen", MEANINGS["duration_ns_t"], f"{help_text} much of it")
    return replace(
        schema, dtype=np.dtype([*layout, ("stolen", "u8")]), fields=(*schema.fields, added)
    )
