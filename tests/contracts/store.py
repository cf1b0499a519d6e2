"""What every store must do. A test module of an implementation does

    from tests.contracts.store import *  # noqa: F403

and provides the fixture `store`, an empty one that keeps 64 MiB for 30 days.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest

from huatuo.model.event import Container, Event, Process
from huatuo.model.meaning import Role
from huatuo.model.metric import Column, Metric
from huatuo.store.base import EventQuery, MetricQuery, Series, Store

__all__ = [
    "SECOND",
    "START",
    "TestEvents",
    "TestMetrics",
    "TestStore",
    "counter",
    "event",
    "histogram",
    "rfc3339",
]

SECOND = 1_000_000_000
START = 1_790_000_000 * SECOND  # 2026-09-21T14:13:20Z, at a full 10 s
SLOTS = 27
MANY = 5000  # events, enough for an implementation that keeps old ones in another form


def rfc3339(time_ns: int) -> str:
    whole = datetime.fromtimestamp(time_ns // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{time_ns % SECOND:09d}Z"


def event(number: int, **changes: object) -> Event:
    """One per second, of two probes and three containers in turn."""
    base = Event(
        time=rfc3339(START + number * SECOND),
        probe=("memory.oom", "net.drop")[number % 2],
        kind=("kills", "drops")[number % 2],
        title=f"Event number {number}",
        container=Container(
            name=("web", "db", "cache")[number % 3],
            kind="container",
            cgroup=f"/pods/{number % 3}",
            namespace=("shop", "data", "data")[number % 3],
        ),
        process=Process(pid=1000 + number % 7, comm=f"worker-{number % 7}"),
        fields={
            "serial": number,
            "reason": ("no_memory", "NO_SOCKET")[number % 2],
            "fatal": number % 2 == 0,
            "packet": {"source": f"10.0.0.{number % 5}", "port": 80},
        },
        stack=["tcp_v4_rcv+0x12", "ip_rcv+0x8"],
    )
    return msgspec.structs.replace(base, **changes)


def counter(values: Sequence[float], name: str = "huatuo_test_total") -> Metric:
    samples = {(f"c{i}", "sda"): value for i, value in enumerate(values)}
    return Metric.of(name, Role.COUNTER, "a counter", samples, ["container", "device"])


def histogram(scale: int, containers: Sequence[str] = ("a", "b")) -> Metric:
    """Grows with `scale`; the second container has twice the first's."""
    slots = np.outer(np.arange(1, len(containers) + 1), np.arange(SLOTS)) * scale
    sums = slots.sum(axis=1) / 8
    return Metric(
        "huatuo_test_seconds",
        Role.HISTOGRAM,
        "a histogram",
        slots.astype(np.uint64),
        {"container": Column(list(containers))},
        sums,
    )


def serials(events: Sequence[Event]) -> list[int]:
    return [found.fields["serial"] for found in events]


class TestEvents:
    @pytest.fixture
    def many(self, store: Store) -> Store:
        for first in range(0, MANY, 500):
            store.append_events([event(number) for number in range(first, first + 500)])
        return store

    def test_empty(self, store: Store) -> None:
        assert store.append_events([]) == []
        assert store.events(EventQuery()) == []
        assert store.event(1) is None
        assert store.event_histogram(EventQuery(), 10) == []
        assert store.facets(EventQuery(), ["probe"]) == []

    def test_come_back_as_they_went_in(self, store: Store) -> None:
        plain = Event(time=rfc3339(START), probe="a.b", kind="k", title='"quoted" ünicode\n')
        stored = store.append_events([event(1), plain])
        assert [msgspec.structs.replace(e, id=0) for e in stored] == [event(1), plain]
        assert store.events(EventQuery()) == stored[::-1]
        assert store.event(stored[0].id) == stored[0]

    def test_ids_ascend(self, many: Store) -> None:
        (more,) = many.append_events([event(0)])
        found = many.events(EventQuery(limit=2 * MANY))
        ids = [e.id for e in found]
        assert ids == sorted(set(ids), reverse=True)
        assert ids[0] == more.id
        assert len(ids) == MANY + 1

    def test_newest_first_in_pages(self, many: Store) -> None:
        seen: list[int] = []
        before = 0
        while page := many.events(EventQuery(before_id=before, limit=700)):
            seen += serials(page)
            before = page[-1].id
        assert seen == list(range(MANY))[::-1]

    def test_by_id(self, many: Store) -> None:
        found = many.events(EventQuery(limit=MANY))
        for wanted in (found[0], found[MANY // 2], found[-1]):
            assert many.event(wanted.id) == wanted
        assert many.event(found[0].id + 1) is None

    @pytest.mark.parametrize("first", [0, 100, MANY - 300])
    def test_time_range_is_inclusive(self, many: Store, first: int) -> None:
        last = first + 199
        query = EventQuery(START + first * SECOND, START + last * SECOND, limit=MANY)
        assert serials(many.events(query)) == list(range(first, last + 1))[::-1]

    @pytest.mark.parametrize(
        ("filters", "keep"),
        [
            ({"probe": "net.drop"}, lambda n: n % 2 == 1),
            ({"kind": "kills"}, lambda n: n % 2 == 0),
            ({"container": "db"}, lambda n: n % 3 == 1),
            ({"probe": "net.drop", "container": "db"}, lambda n: n % 6 == 1),
            ({"probe": "nothing"}, lambda _: False),
            ({"fields": {"serial": "1234"}}, lambda n: n == 1234),
            ({"fields": {"serial": "4990"}}, lambda n: n == 4990),
            ({"fields": {"reason": "NO_SOCKET"}}, lambda n: n % 2 == 1),
            ({"fields": {"fatal": "true"}}, lambda n: n % 2 == 0),
            ({"fields": {"packet.source": "10.0.0.3", "packet.port": "80"}}, lambda n: n % 5 == 3),
            ({"fields": {"process.comm": "worker-3"}}, lambda n: n % 7 == 3),
            ({"fields": {"container.namespace": "shop"}}, lambda n: n % 3 == 0),
            ({"fields": {"absent": "1"}}, lambda _: False),
            ({"text": "event NUMBER 77"}, lambda n: str(n).startswith("77")),
            ({"text": "no_socket"}, lambda n: n % 2 == 1),
            ({"text": "worker-2", "container": "web"}, lambda n: n % 7 == 2 and n % 3 == 0),
            ({"text": "nowhere"}, lambda _: False),
        ],
    )
    def test_filters(self, many: Store, filters: dict[str, object], keep: object) -> None:
        query = EventQuery(limit=MANY, **filters)  # type: ignore[arg-type]
        expected = [n for n in range(MANY) if keep(n)]  # type: ignore[operator]
        assert serials(many.events(query)) == expected[::-1]
        counted = sum(facet.count for facet in many.facets(query, ["probe"]))
        assert counted == len(expected)
        buckets = many.event_histogram(query, 7)
        assert sum(sum(counts.values()) for _, counts in buckets) == len(expected)

    def test_text_of_any_language(self, store: Store) -> None:
        store.append_events([event(0, title="内存不足"), event(1, title="Straße")])
        assert serials(store.events(EventQuery(text="存不"))) == [0]
        assert serials(store.events(EventQuery(text="Straße"))) == [1]

    def test_histogram_of_times(self, many: Store) -> None:
        query = EventQuery(START, START + 1000 * SECOND - 1)
        buckets = many.event_histogram(query, 10)
        assert [start for start, _ in buckets] == [START + i * 100 * SECOND for i in range(10)]
        assert all(counts == {"memory.oom": 50, "net.drop": 50} for _, counts in buckets)

    def test_histogram_without_range_covers_everything(self, many: Store) -> None:
        buckets = many.event_histogram(EventQuery(), 20)
        assert buckets[0][0] == START
        assert len(buckets) <= 20
        assert sum(sum(counts.values()) for _, counts in buckets) == MANY

    def test_facets(self, many: Store) -> None:
        names = ["container", "reason", "process.comm", "packet.source", "absent"]
        facets = many.facets(EventQuery(probe="net.drop"), names)
        found = {(f.field, f.value): f.count for f in facets}
        odd = range(1, MANY, 2)
        assert found["reason", "NO_SOCKET"] == len(odd)
        assert ("reason", "no_memory") not in found
        assert found["container", "db"] == sum(n % 3 == 1 for n in odd)
        assert found["process.comm", "worker-4"] == sum(n % 7 == 4 for n in odd)
        assert found["packet.source", "10.0.0.2"] == sum(n % 5 == 2 for n in odd)
        order = [names.index(f.field) for f in facets]
        assert order == sorted(order)
        counts = [f.count for f in facets if f.field == "container"]
        assert counts == sorted(counts, reverse=True)

    def test_events_without_container(self, store: Store) -> None:
        store.append_events([event(0, container=None, process=None, fields={}), event(1)])
        assert len(store.events(EventQuery())) == 2
        assert len(store.events(EventQuery(container="db"))) == 1
        assert [f.value for f in store.facets(EventQuery(), ["container"])] == ["db"]


class TestMetrics:
    def test_empty(self, store: Store) -> None:
        store.append_metrics(START, [])
        assert store.metric_names() == []
        assert store.metrics(MetricQuery("nothing")) == []

    def test_counters_come_back(self, store: Store) -> None:
        for i in range(300):
            store.append_metrics(START + i * 10 * SECOND, [counter([i, i * 1e-9, i / 3])])
        series = store.metrics(MetricQuery("huatuo_test_total"))
        assert [s.labels for s in series] == [
            {"container": f"c{i}", "device": "sda"} for i in range(3)
        ]
        assert {s.kind for s in series} == {"counter"}
        steps = np.arange(300)
        for found, expected in zip(series, (steps, steps * 1e-9, steps / 3), strict=True):
            assert found.times.tolist() == (START + steps * 10 * SECOND).tolist()
            assert found.values.tolist() == expected.tolist()  # exactly
            assert found.sums is None

    def test_histograms_come_back(self, store: Store) -> None:
        for i in range(100):
            store.append_metrics(START + i * 10 * SECOND, [histogram(i)])
        first, second = store.metrics(MetricQuery("huatuo_test_seconds"))
        assert first.labels == {"container": "a"}
        assert first.values.shape == (100, SLOTS)
        assert first.values.tolist() == np.outer(np.arange(100), np.arange(SLOTS)).tolist()
        assert second.values.tolist() == (first.values * 2).tolist()
        assert first.sums is not None
        assert first.sums.tolist() == (first.values.sum(axis=1) / 8).tolist()

    def test_names(self, store: Store) -> None:
        store.append_metrics(START, [counter([1.0]), histogram(1)])
        assert sorted(store.metric_names()) == [
            ("huatuo_test_seconds", "histogram", "a histogram", ["container"]),
            ("huatuo_test_total", "counter", "a counter", ["container", "device"]),
        ]

    @pytest.mark.parametrize(("first", "last"), [(0, 9), (100, 250), (295, 299), (7, 7)])
    def test_time_range_is_inclusive(self, store: Store, first: int, last: int) -> None:
        for i in range(300):
            store.append_metrics(START + i * 10 * SECOND, [counter([i])])
        query = MetricQuery(
            "huatuo_test_total", START + first * 10 * SECOND, START + last * 10 * SECOND
        )
        (series,) = store.metrics(query)
        assert series.values.tolist() == list(range(first, last + 1))

    def test_outside_the_data(self, store: Store) -> None:
        store.append_metrics(START, [counter([1.0])])
        assert store.metrics(MetricQuery("huatuo_test_total", 0, START - SECOND)) == []
        assert store.metrics(MetricQuery("huatuo_test_total", START + SECOND)) == []

    def test_labels(self, store: Store) -> None:
        for i in range(100):
            store.append_metrics(START + i * 10 * SECOND, [counter([0, i, 0]), histogram(i)])
        (series,) = store.metrics(MetricQuery("huatuo_test_total", labels={"container": "c1"}))
        assert series.values[-1] == 99
        assert len(store.metrics(MetricQuery("huatuo_test_total", labels={"device": "sda"}))) == 3
        assert store.metrics(MetricQuery("huatuo_test_total", labels={"device": "sdb"})) == []
        assert store.metrics(MetricQuery("huatuo_test_total", labels={"color": "red"})) == []
        (found,) = store.metrics(MetricQuery("huatuo_test_seconds", labels={"container": "b"}))
        assert found.values[-1, 1] == 2 * 99

    @pytest.mark.parametrize("points", [1, 2, 10, 99, 299, 300])
    def test_thinned_to_points(self, store: Store, points: int) -> None:
        for i in range(300):
            store.append_metrics(START + i * 10 * SECOND, [counter([i]), histogram(i)])
        (series,) = store.metrics(MetricQuery("huatuo_test_total", points=points))
        assert points / 2 <= len(series.times) <= points
        assert series.values[-1] == 299  # the newest is always there
        assert ((series.times - START) // (10 * SECOND)).tolist() == series.values.tolist()
        assert (
            len(store.metrics(MetricQuery("huatuo_test_seconds", points=points))[0].times) <= points
        )

    def test_series_come_and_go(self, store: Store) -> None:
        for i in range(200):
            present = [f"c{c}" for c in range(4) if (i // 50) != c]
            samples = {(name,): float(i) for name in present}
            metric = Metric.of("huatuo_live", Role.GAUGE, "", samples, ["container"])
            store.append_metrics(START + i * 10 * SECOND, [metric, histogram(i, present)])
        for name in ("huatuo_live", "huatuo_test_seconds"):
            found = {s.labels["container"]: s for s in store.metrics(MetricQuery(name))}
            assert sorted(found) == ["c0", "c1", "c2", "c3"]
            for c in range(4):
                values = found[f"c{c}"].values.reshape(200, -1)
                gone = np.isnan(values).any(axis=1)
                assert gone.tolist() == [i // 50 == c for i in range(200)]
        only = store.metrics(MetricQuery("huatuo_live", START, START + 40 * 10 * SECOND))
        assert [s.labels["container"] for s in only] == ["c1", "c2", "c3"]

    def test_not_a_number_is_no_sample(self, store: Store) -> None:
        for i in range(3):
            store.append_metrics(START + i * SECOND, [counter([math.nan if i == 1 else 1.0, 2.0])])
        first, second = store.metrics(MetricQuery("huatuo_test_total"))
        assert np.isnan(first.values).tolist() == [False, True, False]
        assert second.values.tolist() == [2, 2, 2]

    def test_one_family_from_two_probes(self, store: Store) -> None:
        for i in range(100):
            parts = [
                Metric.of("huatuo_x", Role.GAUGE, "", {("web",): float(i)}, ["container"]),
                Metric.of("huatuo_x", Role.GAUGE, "", {("sda",): -float(i)}, ["device"]),
                Metric.of("huatuo_x", Role.GAUGE, "", {(): 5.0}),
            ]
            store.append_metrics(START + i * 10 * SECOND, parts)
        found = {str(s.labels): s for s in store.metrics(MetricQuery("huatuo_x"))}
        assert len(found) == 3
        assert found["{'device': 'sda'}"].values[-1] == -99
        assert found["{'container': 'web'}"].values[-1] == 99
        assert store.metric_names() == [("huatuo_x", "gauge", "", ["container", "device"])]

    def test_times_to_the_millisecond(self, store: Store) -> None:
        store.append_metrics(START + 1_234_567, [counter([1.0])])
        (series,) = store.metrics(MetricQuery("huatuo_test_total"))
        assert series.times.tolist() == [START + 1_000_000]

    def test_clock_set_back(self, store: Store) -> None:
        for offset in (0, -7200):
            for i in range(120):
                now = START + (offset + i * 10) * SECOND
                store.append_metrics(now, [counter([i])])
        (series,) = store.metrics(MetricQuery("huatuo_test_total"))
        assert len(series.times) == 240
        assert (np.diff(series.times) > 0).all()

    def test_extreme_values(self, store: Store) -> None:
        values = [0.0, -1.5, 1e300, 5e-324, 2.0**63, math.inf, -math.inf, 0.1 + 0.2]
        for i in range(100):
            store.append_metrics(START + i * 10 * SECOND, [counter(values)])
        series = store.metrics(MetricQuery("huatuo_test_total"))
        assert [s.values[-1] for s in series] == values
        assert [s.values[0] for s in series] == values


class TestStore:
    def test_usage(self, store: Store) -> None:
        assert store.usage().oldest_ns == 0
        store.append_events([event(5), event(6)])
        store.append_metrics(START + SECOND, [counter([1.0, 2.0])])
        usage = store.usage()
        assert (usage.events, usage.series) == (2, 2)
        assert usage.oldest_ns == START + SECOND
        assert usage.bytes > 0
        assert (usage.lost_events, usage.lost_snapshots, usage.notices) == (0, 0, ())

    def test_expiry_by_age(self, store: Store) -> None:
        day = 86400 * SECOND
        times = [START, START + 10 * day, START + 400 * day]
        for time_ns in times:
            store.append_events([event(0, time=rfc3339(time_ns))])
            store.append_metrics(time_ns, [counter([1.0])])
        store.expire(times[1] + SECOND)  # nothing is old enough
        assert len(store.events(EventQuery())) == 3
        assert store.expire(times[2] + SECOND) >= 0
        assert [e.time for e in store.events(EventQuery())] == [rfc3339(times[2])]
        (series,) = store.metrics(MetricQuery("huatuo_test_total"))
        assert series.times.tolist() == times[2:]
        assert store.usage().oldest_ns == times[2]
        (more,) = store.append_events([event(1)])
        assert more.id == 4  # ids are not given twice

    def test_readers_beside_the_writer(self, store: Store) -> None:
        """Whatever a reader sees is a prefix: every snapshot whole, no event twice or missing."""

        def read() -> tuple[list[int], list[Series]]:
            return (
                serials(store.events(EventQuery(limit=MANY))),
                store.metrics(MetricQuery("huatuo_test_total")),
            )

        with ThreadPoolExecutor(4) as pool:
            answers = []
            for i in range(60):
                store.append_events([event(n) for n in range(i * 80, i * 80 + 80)])
                store.append_metrics(START + i * 100 * SECOND, [counter([i, i])])
                answers += [pool.submit(read) for _ in range(2)]
            for answer in answers:
                found, series = answer.result()
                assert found == list(range(len(found)))[::-1]
                assert len(found) % 80 == 0
                if series:
                    assert series[0].values.tolist() == list(range(len(series[0].values)))
                    assert series[0].values.tolist() == series[1].values.tolist()
