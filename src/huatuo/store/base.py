"""What a store can do. Every implementation passes tests/contracts/store.py.

The agent is the only writer. It appends events as they come and one snapshot of all metrics per
interval; readers ask by time, from any thread. Times are UTC nanoseconds since 1970 (int) or
RFC 3339 in events.

A metric is kept as series: family name + label values. Counters and histograms are kept as the
raw cumulative values; rates and quantiles are computed on reading.

Appending never raises for what the disk does: data that cannot be kept is dropped and counted in
`Usage.lost_*`. Reading raises StoreError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from huatuo.model.event import Event
from huatuo.model.metric import Metric
from huatuo.store.incidents import IncidentStore
from huatuo.store.profiles import ProfileStore

__all__ = ["EventQuery", "Facet", "MetricQuery", "Series", "Store", "Usage"]


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Newest first, by id. `probe`, `kind`, `container` are equalities; `text` is searched in the
    JSON, without regard to case of ASCII letters. `before_id` pages on.

    `fields`: equalities, values as text (strings as they are, anything else as JSON has it). A
    name is a key of Event.fields, with dots for what is nested (`packet.source`), or one of
    `process.comm`, `process.pid`, `container.namespace`, `container.pod`, …
    """

    start_ns: int = 0
    end_ns: int = 2**63 - 1  # inclusive
    probe: str = ""
    kind: str = ""
    container: str = ""
    text: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    before_id: int = 0
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Facet:
    """How many events of a query have this value of this field."""

    field: str
    value: str
    count: int


@dataclass(frozen=True, slots=True)
class MetricQuery:
    """`labels`: equalities. `points`: at most that many times, thinned to the last of each step."""

    name: str
    start_ns: int = 0
    end_ns: int = 2**63 - 1  # inclusive
    labels: Mapping[str, str] = field(default_factory=dict)
    points: int = 600


@dataclass(frozen=True, slots=True)
class Series:
    """One labelled series on the query's common time axis.

    `times` int64 (t,) UTC ns, the same array for all series of an answer; `values` float64 (t,)
    or, for histograms, float64 (t, slots) with `sums` (t,). NaN where the series has no sample.
    """

    name: str
    kind: str
    labels: Mapping[str, str]
    times: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    sums: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What the store holds, and what it could not keep since it was opened."""

    bytes: int
    events: int
    oldest_ns: int  # 0 while it is empty
    series: int
    lost_events: int = 0
    lost_snapshots: int = 0
    notices: tuple[str, ...] = ()  # sentences for an operator: moved aside, disk full
    samples: int = 0  # of profiles
    lost_samples: int = 0


class Store(Protocol):
    @property
    def profiles(self) -> ProfileStore: ...

    @property
    def incidents(self) -> IncidentStore: ...

    def append_events(self, events: Sequence[Event]) -> list[Event]:
        """Durable against kill -9 when it returns; gives back the events with their ids.

        An event that could not be kept comes back with id 0 and is counted as lost.
        """

    def append_metrics(self, time_ns: int, metrics: Iterable[Metric]) -> None:
        """One snapshot, kept to the millisecond; after a crash all of it is there or nothing."""

    def events(self, query: EventQuery) -> list[Event]: ...

    def event(self, event_id: int) -> Event | None: ...

    def event_histogram(self, query: EventQuery, buckets: int) -> list[tuple[int, dict[str, int]]]:
        """(start of bucket in ns, probe → count) over the query's range; an open end of the range
        is taken from the data. `before_id` and `limit` do not count."""

    def facets(self, query: EventQuery, fields: Sequence[str]) -> list[Facet]:
        """Values of `probe`, `kind`, `container` or names as in EventQuery.fields, in the order
        asked for, most frequent first. `before_id` and `limit` do not count."""

    def metric_names(self) -> list[tuple[str, str, str, list[str]]]:
        """(name, kind, help, label names) of every family stored."""

    def metrics(self, query: MetricQuery) -> list[Series]:
        """The family's series with a sample in the range, ordered by their labels."""

    def expire(self, now_ns: int) -> int:
        """Apply retention by age and size; returns how many bytes went."""

    def usage(self) -> Usage: ...

    def close(self) -> None: ...
