"""What `huatuo top` shows: the probes' numbers twice, and what happened between the two looks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.enricher import Enricher
from huatuo.kernel.host import Host
from huatuo.model.meaning import Role
from huatuo.model.metric import Column, Metric
from huatuo.probes.base import discover
from huatuo.probes.bpf import BpfProbe
from huatuo.probes.running import ProbeSet

__all__ = ["Between", "Key", "Look", "Watch", "of_container"]

Key = tuple[str, ...]
Floats = npt.NDArray[np.float64]
Rows = dict[tuple[tuple[str, str], ...], Floats]  # by labels, each a name and a value

PROBES = (
    *("block.cgroup", "block.devices", "block.latency", "fs.latency", "fs.sync", "fs.writeback"),
    *("cpu.cgroup", "cpu.load", "cpu.sched", "cpu.usage"),
    *("memory.cgroup", "memory.compaction", "memory.info", "memory.reclaim", "memory.vmstat"),
    *("net.cgroup", "net.connection", "net.drop", "net.protocols", "net.receive"),
    *("net.retransmit", "net.sockets", "net.transmit", "netdev.cgroup", "netdev.stats"),
    *("task.cgroup", "task.pressure", "task.state"),
)
_NEVER = (1 << 63) - 1
# only numbers are shown: no event is worth its stack
_SETTINGS: Mapping[str, Mapping[str, int]] = {
    "cpu.sched": dict.fromkeys(
        ("slow_wait_threshold", "block_threshold", "contention_threshold"), _NEVER
    ),
    "block.latency": {"slow_threshold": _NEVER},
    "memory.reclaim": dict.fromkeys(
        ("slow_threshold", "kswapd_threshold", "over_high_threshold"), _NEVER
    ),
    "task.state": {"scan_interval": 1_000_000_000},  # a container just begun is to have its tasks
}


@dataclass(frozen=True, slots=True)
class Look:
    """All families at one moment; `at` in seconds of the monotonic clock."""

    at: float
    metrics: list[Metric]
    from_zero: frozenset[str] = frozenset()  # families of which a row that is new began at zero

    def rows(self, name: str, sums: bool = False) -> Rows:
        """Values of a family, or the sums of a histogram."""
        found: Rows = {}
        for metric in self.metrics:
            if metric.name == name and len(metric):
                columns = [
                    [(label, str(value)) for value in column.values]
                    for label, column in metric.labels.items()
                ]
                values = np.asarray(metric.sums if sums else metric.values, np.float64)
                keys = zip(*columns, strict=True) if columns else [()] * len(metric)
                found.update(zip(keys, values.reshape(len(metric), -1), strict=True))
        return found


class Watch:
    """The probes that `huatuo top` needs, of its own: an agent beside it goes on as it was."""

    def __init__(self, host: Host) -> None:
        self._inventory = Inventory(host)
        self._enricher = Enricher(host, self._inventory)
        unwanted = [f"-{name}" for name in discover() if name not in PROBES]
        self._set = ProbeSet(host, ["auto", *unwanted], _SETTINGS)

    def __enter__(self) -> Watch:
        self._set.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._set.stop()

    @property
    def missing(self) -> dict[str, str]:
        """Probe → why it does not run here."""
        entries = self._set.entries
        return {
            name: entries[name].reason
            for name in PROBES
            if entries[name].cls.automatic and entries[name].status != "running"
        }

    def look(self) -> Look:
        self._inventory.refresh()
        self._set.set_targets(self._inventory.cgroups())
        at = time.monotonic()
        metrics = self._enricher.metrics(self._set.collect())
        running = [
            entry.name for entry, probe in self._set.running() if isinstance(probe, BpfProbe)
        ]
        prefixes = tuple(f"huatuo_{name.replace('.', '_')}_" for name in running)
        return Look(at, metrics, frozenset(m.name for m in metrics if m.name.startswith(prefixes)))


class Between:
    """Rates, distributions and latest values; keys are the values of the labels asked for."""

    def __init__(self, before: Look, after: Look) -> None:
        self.seconds = after.at - before.at
        self.after = after
        self._before = before
        self._grown: dict[tuple[str, bool], Rows] = {}

    def last(self, name: str, by: Key = (), **where: str) -> dict[Key, float]:
        """The sum of a gauge's rows that have these labels."""
        return {key: float(v[0]) for key, v in _summed(self.after.rows(name), by, where).items()}

    def rate(self, name: str, by: Key = (), **where: str) -> dict[Key, float]:
        """Growth of a counter per second."""
        return {
            key: float(v[0]) / self.seconds
            for key, v in _summed(self._growth(name), by, where).items()
        }

    def slots(self, name: str, by: Key = (), **where: str) -> dict[Key, Floats]:
        """What was added to each slot of a histogram."""
        return _summed(self._growth(name), by, where)

    def spent(self, name: str, by: Key = (), **where: str) -> dict[Key, float]:
        """Growth of a histogram's sum per second: how many were in it at a time."""
        grown = _summed(self._growth(name, sums=True), by, where)
        return {key: float(v[0]) / self.seconds for key, v in grown.items()}

    def _growth(self, name: str, sums: bool = False) -> Rows:
        if (name, sums) not in self._grown:
            from_zero = name in self.after.from_zero
            before, now = self._before.rows(name, sums), self.after.rows(name, sums)
            self._grown[name, sums] = _growth(before, now, from_zero)
        return self._grown[name, sums]


def _growth(before: Rows, now: Rows, from_zero: bool) -> Rows:
    """A row that shrank was reset; a new one's growth is known if it began at zero."""
    found = {}
    for labels, values in now.items():
        past = before.get(labels)
        if past is not None:
            growth = values - past
            found[labels] = values if (growth < 0).any() else growth
        elif from_zero:
            found[labels] = values
    return found


def _summed(rows: Rows, by: Key, where: Mapping[str, str]) -> dict[Key, Floats]:
    found: dict[Key, Floats] = {}
    for labels, values in rows.items():
        named = dict(labels)
        if all(label in named for label in by) and where.items() <= named.items():
            key = tuple(named[label] for label in by)
            found[key] = found[key] + values if key in found else values
    return found


def of_container(metrics: Iterable[Metric], container: str) -> Iterator[Metric]:
    """Histograms with the rows of one container only."""
    for metric in metrics:
        if metric.kind is not Role.HISTOGRAM or "container" not in metric.labels:
            continue
        names = metric.labels["container"].values
        at = [row for row, name in enumerate(names) if str(name) == container]
        if at:
            yield _taken(metric, at)


def _taken(metric: Metric, at: list[int]) -> Metric:
    def values(column: Column) -> list[Any]:
        return [column.values[row] for row in at]

    labels = {
        label: Column(values(c)) for label, c in metric.labels.items() if label != "container"
    }
    assert metric.sums is not None
    return replace(metric, values=metric.values[at], sums=metric.sums[at], labels=labels)
