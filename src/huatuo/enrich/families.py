"""Metric families from kernel identities to names, rows of one owner summed.

Counters never go backwards: an owner's total is a sum over its cgroups, and when one of them
vanishes (its row is deleted or evicted, or a probe starts anew) what it had counted is kept and
added to the owner's total from then on.

Containers that are not watched are summed as "other". What does not add up (limits, ratios, peaks)
is left out for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.joined import CGROUPS, DEVICES, Hashes, Joined, join
from huatuo.enrich.names import DeviceNames
from huatuo.enrich.watched import Watched
from huatuo.model.meaning import Role
from huatuo.model.metric import Column, Metric

__all__ = ["Families"]

_NO_SUM = re.compile(r"_ratio$|_limit|_peak_")
_KEPT_NS = 600 * 1_000_000_000
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Kept:
    """What vanished rows had counted: by group, ascending (k,), and when it last had rows."""

    groups: Hashes
    values: Matrix  # (k, columns)
    seen_ns: npt.NDArray[np.int64]

    def plus(self, groups: Hashes, values: Matrix, now_ns: int) -> _Kept:
        unique, codes = np.unique(np.append(self.groups, groups), return_inverse=True)
        sums = np.zeros((len(unique), values.shape[1]))
        np.add.at(sums, codes, np.concatenate([self.values, values]))
        seen = np.full(len(unique), now_ns)
        seen[codes[: len(self.groups)]] = self.seen_ns
        return _Kept(unique, sums, seen)

    def onto(self, groups: Hashes, sums: Matrix, now_ns: int) -> _Kept:
        """Add to the sums (g, columns) of `groups`; forgets groups that have long had no rows."""
        if not len(self.groups):
            return self
        at = np.minimum(np.searchsorted(self.groups, groups), len(self.groups) - 1)
        found = self.groups[at] == groups
        sums[found] += self.values[at[found]]
        self.seen_ns[at[found]] = now_ns
        fresh = now_ns - self.seen_ns <= _KEPT_NS
        if fresh.all():
            return self
        return _Kept(self.groups[fresh], self.values[fresh], self.seen_ns[fresh])


@dataclass(frozen=True, slots=True)
class _Past:
    """A family as it was at the last collection: rows (n,) ascending, their groups and values."""

    rows: Hashes
    groups: Hashes
    values: Matrix  # (n, columns)
    kept: _Kept


class Families:
    """Remembers each family, by name, for as long as the agent runs."""

    def __init__(
        self, inventory: Inventory, devices: DeviceNames, watched: Watched | None = None
    ) -> None:
        self._inventory = inventory
        self._watched = watched or Watched()
        self._devices = devices
        self._past: dict[str, _Past] = {}
        self._tables: dict[str, tuple[object, Mapping[str, Column], Joined]] = {}

    def joined(self, metrics: Iterable[Metric], now_ns: int) -> list[Metric]:
        tables: dict[int, tuple[Mapping[str, Column], Joined]] = {}
        found = []
        for metric in metrics:
            if not metric.labels:
                found.append(metric)
                continue
            known = tables.get(id(metric.labels))
            if known is None:
                table = self._table(metric.name, metric.labels, len(metric))
                known = tables[id(metric.labels)] = (metric.labels, table)  # keeps the id taken
            found.append(self._summed(metric, known[1], now_ns))
        return found

    def _table(self, name: str, columns: Mapping[str, Column], rows: int) -> Joined:
        """Joined anew only if rows have come or gone, or names may have changed."""
        epoch: tuple[object, ...] = self._inventory.epoch
        if any(column.meaning.name in DEVICES for column in columns.values()):
            epoch = (*epoch, self._devices.epoch)
        known = self._tables.get(name)
        if known is not None and known[0] == epoch and _same(known[1], columns):
            return known[2]
        allows = self._watched.rules_of_family(name)
        table = join(columns, rows, self._inventory, self._devices, allows)
        if self._inventory.epoch == epoch[: len(self._inventory.epoch)]:
            self._tables[name] = (epoch, _copied(columns), table)
        return table

    def _summed(self, metric: Metric, table: Joined, now_ns: int) -> Metric:
        if not len(metric):
            return replace(metric, labels=table.labels)
        values = _matrix(metric)
        values[table.dropped] = 0
        sums = np.add.reduceat(values[table.order], table.starts, axis=0)
        has_cgroups = any(column.meaning.name in CGROUPS for column in metric.labels.values())
        if has_cgroups and metric.kind is not Role.GAUGE:
            self._keep(metric.name, table, values, sums, now_ns)
        labels = table.labels
        shown = table.living
        if metric.kind is Role.GAUGE and _NO_SUM.search(metric.name):
            shown = shown & table.watched
        if not shown.all():
            sums = sums[shown]
            kept = np.flatnonzero(shown).tolist()
            labels = {
                name: Column([column.values[at] for at in kept]) for name, column in labels.items()
            }
        if metric.kind is Role.HISTOGRAM:
            slots = np.rint(sums[:, :-1]).astype(np.uint64)
            return replace(metric, values=slots, sums=sums[:, -1], labels=labels)
        return replace(metric, values=sums[:, 0], labels=labels)

    def _keep(self, name: str, table: Joined, values: Matrix, sums: Matrix, now_ns: int) -> None:
        """Compare a family with its past; add what vanished rows had counted to the sums."""
        values = values[table.at]
        past = self._past.get(name)
        if past is None or past.values.shape[1] != values.shape[1]:
            nothing = np.zeros(0, np.uint64)
            kept = _Kept(nothing, np.zeros((0, values.shape[1])), np.zeros(0, np.int64))
        else:
            kept = past.kept
            gone = _vanished(past, table, values)
            if len(gone):
                kept = kept.plus(past.groups[gone], past.values[gone], now_ns)
        kept = kept.onto(table.groups, sums, now_ns)
        self._past[name] = _Past(table.rows, table.rows_groups, values, kept)


def _matrix(metric: Metric) -> Matrix:
    """Values as a fresh float64 (n, columns): one column, or a histogram's slots and its sum."""
    if metric.kind is Role.HISTOGRAM:
        assert metric.sums is not None
        return np.column_stack([metric.values.astype(np.float64), metric.sums])
    return np.array(metric.values, np.float64).reshape(len(metric), 1)


def _vanished(past: _Past, table: Joined, values: Matrix) -> npt.NDArray[np.int64]:
    """Rows of the past that are gone, count for another group, or have started anew."""
    if past.rows is table.rows:
        return np.flatnonzero((values < past.values).any(axis=1))
    if not len(table.rows):
        return np.arange(len(past.rows))
    at = np.minimum(np.searchsorted(table.rows, past.rows), len(table.rows) - 1)
    same = (table.rows[at] == past.rows) & (table.rows_groups[at] == past.groups)
    same &= (values[at] >= past.values).all(axis=1)
    return np.flatnonzero(~same)


def _same(before: Mapping[str, Column], now: Mapping[str, Column]) -> bool:
    """Whether two tables have the same labels with the same values in the same order."""
    return before.keys() == now.keys() and all(
        len(column.values) == len(now[label].values)
        and isinstance(column.values, np.ndarray) == isinstance(now[label].values, np.ndarray)
        and bool(np.all(column.values == now[label].values))
        for label, column in before.items()
    )


def _copied(columns: Mapping[str, Column]) -> dict[str, Column]:
    """So that a probe may use its arrays again."""
    return {
        label: Column(np.array(c.values) if isinstance(c.values, np.ndarray) else list(c.values))
        for label, c in columns.items()
    }
