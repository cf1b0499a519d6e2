"""Stored history as the snapshots it was made of, so that triggers can be tried on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from huatuo.model.meaning import Role
from huatuo.model.metric import Column, Metric
from huatuo.store.base import MetricQuery, Series, Store
from huatuo.triggers.rules import Engine, Firing

__all__ = ["replay", "snapshots"]

_HOUR_NS = 3600 * 1_000_000_000
_ALL = 1_000_000  # points: more than an hour can have


def replay(
    store: Store, engine: Engine, start_ns: int, end_ns: int,
    each_hour: Callable[[int], object] = lambda _now_ns: None,
) -> Iterator[Firing]:  # fmt: skip
    """What would have fired. History older than some hours is coarser, and so are its answers."""
    hour = -1
    for now_ns, metrics in snapshots(store, engine.families, start_ns, end_ns):
        if now_ns // _HOUR_NS != hour:
            hour = now_ns // _HOUR_NS
            each_hour(now_ns)
        yield from engine.observe(now_ns, metrics)


def snapshots(
    store: Store, families: Iterable[str], start_ns: int, end_ns: int
) -> Iterator[tuple[int, list[Metric]]]:
    """(time, these families then) of all snapshots in the range, an hour in memory at a time."""
    wanted = sorted(families)
    start_ns = max(start_ns, store.usage().oldest_ns)
    for begin in range(start_ns, end_ns, _HOUR_NS):
        end = min(begin + _HOUR_NS, end_ns) - 1
        tables = []
        for name in wanted:
            found = store.metrics(MetricQuery(name, begin, end, points=_ALL))
            tables += [_Table(part) for part in _alike(found)]
        axes = [table.times for table in tables] or [np.empty(0, np.int64)]
        times = np.unique(np.concatenate(axes))
        for now_ns in times.tolist():
            yield now_ns, [metric for table in tables if (metric := table.at(now_ns)) is not None]


def _alike(series: Sequence[Series]) -> Iterator[list[Series]]:
    """Series of one family that can stand in one table: of one probe and one form."""
    groups: dict[tuple[object, ...], list[Series]] = {}
    for one in series:
        key = (one.kind, one.values.shape[1:], id(one.times), tuple(sorted(one.labels)))
        groups.setdefault(key, []).append(one)
    yield from groups.values()


class _Table:
    """A family over time; the labels of all its snapshots are the same object."""

    def __init__(self, series: Sequence[Series]) -> None:
        first = series[0]
        self.name, self.kind, self.times = first.name, Role(first.kind), first.times
        self._values = np.stack([one.values for one in series], axis=1)
        sums = [one.sums for one in series if one.sums is not None]
        self._sums = np.stack(sums, axis=1) if sums else None
        self._labels = {
            label: Column([one.labels[label] for one in series]) for label in first.labels
        }

    def at(self, now_ns: int) -> Metric | None:
        """None where no snapshot was taken then."""
        row = int(np.searchsorted(self.times, now_ns))
        if row == len(self.times) or self.times[row] != now_ns:
            return None
        sums = None if self._sums is None else self._sums[row]
        return Metric(self.name, self.kind, "", self._values[row], self._labels, sums)
