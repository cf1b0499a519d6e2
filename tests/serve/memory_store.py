"""A store in plain lists: enough of the protocol to test the API without files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from huatuo.model.event import Event
from huatuo.model.metric import Metric
from huatuo.serve.params import parse_time
from huatuo.serve.stream import matches
from huatuo.store.base import EventQuery, Facet, MetricQuery, Series, Usage
from huatuo.store.block import flatten
from tests.serve.memory_incidents import MemoryIncidents
from tests.serve.memory_profiles import MemoryProfiles


class MemoryStore:
    def __init__(self) -> None:
        self.profiles = MemoryProfiles()
        self.incidents = MemoryIncidents()
        self._events: list[tuple[int, Event]] = []
        self._times: list[int] = []
        self._families: dict[str, tuple[str, str, list[str]]] = {}
        self._series: dict[str, dict[tuple[str, ...], dict[int, tuple]]] = {}

    def append_events(self, events: Sequence[Event]) -> list[Event]:
        stored = []
        for event in events:
            numbered = msgspec.structs.replace(event, id=len(self._events) + 1)
            self._events.append((parse_time("time", event.time, 0), numbered))
            stored.append(numbered)
        return stored

    def append_metrics(self, time_ns: int, metrics: Iterable[Metric]) -> None:
        index = len(self._times)
        self._times.append(time_ns)
        for metric in metrics:
            self._families[metric.name] = (str(metric.kind), metric.help, list(metric.labels))
            family = self._series.setdefault(metric.name, {})
            columns = [column.values for column in metric.labels.values()]
            for i in range(len(metric)):
                key = tuple(str(column[i]) for column in columns)
                total = None if metric.sums is None else float(metric.sums[i])
                family.setdefault(key, {})[index] = (metric.values[i], total)

    def _matching(self, query: EventQuery) -> list[tuple[int, Event]]:
        return [
            (time, event)
            for time, event in reversed(self._events)
            if query.start_ns <= time <= query.end_ns
            and (not query.before_id or event.id < query.before_id)
            and matches(query, event)
        ]

    def events(self, query: EventQuery) -> list[Event]:
        return [event for _, event in self._matching(query)[: query.limit]]

    def event(self, event_id: int) -> Event | None:
        return next((event for _, event in self._events if event.id == event_id), None)

    def event_histogram(self, query: EventQuery, buckets: int) -> list[tuple[int, dict[str, int]]]:
        step = max(1, (query.end_ns - query.start_ns) // buckets)
        counts: list[Counter[str]] = [Counter() for _ in range(buckets)]
        for time, event in self._matching(query):
            counts[min((time - query.start_ns) // step, buckets - 1)][event.probe] += 1
        return [(query.start_ns + i * step, dict(count)) for i, count in enumerate(counts)]

    def facets(self, query: EventQuery, fields: Sequence[str]) -> list[Facet]:
        counts: Counter[tuple[str, str]] = Counter()
        for _, event in self._matching(query):
            known = flatten(msgspec.to_builtins(event))
            for field in fields:
                if value := known.get(field):
                    counts[field, value] += 1
        return [Facet(field, value, n) for (field, value), n in counts.items()]

    def metric_names(self) -> list[tuple[str, str, str, list[str]]]:
        return [(name, *family) for name, family in self._families.items()]

    def metrics(self, query: MetricQuery) -> list[Series]:
        if query.name not in self._families:
            return []
        kind, _, names = self._families[query.name]
        inside = [i for i, t in enumerate(self._times) if query.start_ns <= t <= query.end_ns]
        step = max(1, -(-len(inside) // query.points))
        kept = inside[::-1][::step][::-1]
        times = np.array([self._times[i] for i in kept], np.int64)
        answer = []
        for key, samples in self._series[query.name].items():
            labels = dict(zip(names, key, strict=True))
            if any(labels.get(k) != v for k, v in query.labels.items()):
                continue
            if not any(i in samples for i in kept):
                continue
            width = np.size(next(iter(samples.values()))[0])
            values = np.full((len(kept), width), np.nan)
            sums = np.full(len(kept), np.nan)
            for row, i in enumerate(kept):
                if i in samples:
                    values[row], total = samples[i]
                    sums[row] = np.nan if total is None else total
            histogram = kind == "histogram"
            flat = values if histogram else values[:, 0]
            answer.append(
                Series(query.name, kind, labels, times, flat, sums if histogram else None)
            )
        return answer

    def expire(self, now_ns: int) -> int:  # noqa: ARG002
        return 0

    def usage(self) -> Usage:
        oldest = self._times[0] if self._times else 0
        series = sum(map(len, self._series.values()))
        samples = len(self.profiles.samples)
        return Usage(12_345_678, len(self._events), oldest, series, samples=samples)

    def close(self) -> None:
        pass
