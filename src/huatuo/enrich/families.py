"""Metric families from kernel identities to names, rows of one owner summed.

Counters never go backwards: an owner's total is a sum over its cgroups, and when one of them
vanishes (its row is deleted or evicted, or a probe starts anew) what it had counted is kept and
added to the owner's total from then on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.joined import Hashes, Joined, join
from huatuo.enrich.names import DeviceNames
from huatuo.model.meaning import Role
from huatuo.model.metric import Column, Metric

__all__ = ["Families"]

_KEPT_NS = 600 * 1_000_000_000
Matrix = npt.NDArray[np.float64]


@dataclass(slots=True)
class _Past:
    """A family as it was at the last collection: rows (n,) ascending, their groups and values."""

    rows: Hashes
    groups: Hashes
    values: Matrix  # (n, columns)
    kept: dict[int, Matrix] = field(default_factory=dict)  # group → what vanished rows had counted
    seen_ns: dict[int, int] = field(default_factory=dict)  # group in `kept` → last time it had rows


class Families:
    """Remembers each family, by name, for as long as the agent runs."""

    def __init__(self, inventory: Inventory, devices: DeviceNames) -> None:
        self._inventory = inventory
        self._devices = devices
        self._past: dict[str, _Past] = {}

    def joined(self, metrics: Iterable[Metric], now_ns: int) -> list[Metric]:
        tables: dict[int, tuple[Mapping[str, Column], Joined]] = {}
        found = []
        for metric in metrics:
            if not metric.labels:
                found.append(metric)
                continue
            known = tables.get(id(metric.labels))
            if known is None or known[0] is not metric.labels:
                table = join(metric.labels, len(metric), self._inventory, self._devices)
                known = tables[id(metric.labels)] = (metric.labels, table)
            found.append(self._summed(metric, known[1], now_ns))
        return found

    def _summed(self, metric: Metric, table: Joined, now_ns: int) -> Metric:
        if not len(metric):
            return replace(metric, labels=table.labels)
        values = _matrix(metric)
        values[table.dropped] = 0
        if table.has_cgroups and metric.kind is not Role.GAUGE:
            sums = self._monotonic(metric.name, table, values, now_ns)
        else:
            sums = np.add.reduceat(values[table.order], table.starts, axis=0)
        living = _living(table)
        labels = table.labels
        if not living.all():
            sums = sums[living]
            kept = np.flatnonzero(living).tolist()
            labels = {
                name: Column([column.values[at] for at in kept]) for name, column in labels.items()
            }
        if metric.kind is Role.HISTOGRAM:
            slots = np.rint(sums[:, :-1]).astype(np.uint64)
            return replace(metric, values=slots, sums=sums[:, -1], labels=labels)
        return replace(metric, values=sums[:, 0], labels=labels)

    def _monotonic(self, name: str, table: Joined, values: Matrix, now_ns: int) -> Matrix:
        """Sums by group, (g, columns), with what vanished rows had counted."""
        sums = np.add.reduceat(values[table.order], table.starts, axis=0)
        sizes = np.diff(table.starts, append=len(table.order))
        groups = np.empty(len(table.order), np.uint64)
        groups[table.order] = np.repeat(table.groups, sizes)
        rows, first = np.unique(table.rows[~table.dropped], return_index=True)
        first = np.flatnonzero(~table.dropped)[first]
        now = _Past(rows, groups[first], values[first])
        past = self._past.get(name)
        if past is not None and past.values.shape[1] == values.shape[1]:
            now.kept, now.seen_ns = past.kept, past.seen_ns
            for at in _vanished(past, now).tolist():
                group = int(past.groups[at])
                now.kept[group] = now.kept.get(group, 0) + past.values[at]
                now.seen_ns[group] = now_ns
        self._past[name] = now
        if now.kept:
            self._add_kept(now, table, sums, now_ns)
        return sums

    @staticmethod
    def _add_kept(past: _Past, table: Joined, sums: Matrix, now_ns: int) -> None:
        place = {group: at for at, group in enumerate(table.groups.tolist())}
        for group in list(past.kept):
            if group in place:
                sums[place[group]] += past.kept[group]
                past.seen_ns[group] = now_ns
            elif now_ns - past.seen_ns[group] > _KEPT_NS:
                del past.kept[group], past.seen_ns[group]


def _matrix(metric: Metric) -> Matrix:
    """Values as a fresh float64 (n, columns): one column, or a histogram's slots and its sum."""
    if metric.kind is Role.HISTOGRAM:
        assert metric.sums is not None
        return np.column_stack([metric.values.astype(np.float64), metric.sums])
    return np.array(metric.values, np.float64).reshape(len(metric), 1)


def _vanished(past: _Past, now: _Past) -> npt.NDArray[np.int64]:
    """Rows of the past that are gone, count for another group, or have started anew."""
    if not len(now.rows):
        return np.arange(len(past.rows))
    at = np.minimum(np.searchsorted(now.rows, past.rows), len(now.rows) - 1)
    same = (now.rows[at] == past.rows) & (now.groups[at] == past.groups)
    same &= (now.values[at] >= past.values).all(axis=1)
    return np.flatnonzero(~same)


def _living(table: Joined) -> npt.NDArray[np.bool_]:
    """Groups that have rows besides those of forgotten owners."""
    if not table.dropped.any():
        return np.ones(len(table.starts), np.bool_)
    return np.logical_or.reduceat(~table.dropped[table.order], table.starts)
