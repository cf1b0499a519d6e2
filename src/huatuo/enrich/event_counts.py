"""How many events there were, as a metric: for alerts, and for triggers that events start."""

from __future__ import annotations

from collections.abc import Iterable

from huatuo.model.event import Event
from huatuo.model.meaning import Role
from huatuo.model.metric import Metric

__all__ = ["EventCounts"]

_SERIES = 1000  # of containers; those that had none for longest become "other"


class EventCounts:
    """By probe, kind (the event's ring) and container; what is about no container has none."""

    def __init__(self, series: int = _SERIES) -> None:
        self._series = series
        self._counts: dict[tuple[str, str, str], int] = {}  # the latest last

    def add(self, events: Iterable[Event]) -> None:
        for event in events:
            container = event.container.full_name if event.container else ""
            self._count((event.probe, event.kind, container), 1)
        while len(self._counts) > self._series:
            self._forget(next(key for key in self._counts if key[2] != "other"))

    def _forget(self, key: tuple[str, str, str]) -> None:
        self._count((key[0], key[1], "other"), self._counts.pop(key))

    def _count(self, key: tuple[str, str, str], number: int) -> None:
        self._counts[key] = self._counts.pop(key, 0) + number

    def metric(self) -> Metric:
        return Metric.of(
            "huatuo_events_total",
            Role.COUNTER,
            "events stored, without those that a rule [[known]] muted",
            {key: float(count) for key, count in self._counts.items()},
            ["probe", "kind", "container"],
        )
