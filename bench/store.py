"""What the embedded store costs: CPU per snapshot and event, queries, disk, memory.

    python bench/store.py [--events 1000000] [--hours 26]

Times are CPU time of this process (queries: also wall time), medians of at least 7 runs. The data
imitates an agent: counters that move at different speeds or not at all, gauges with noise,
histograms with a few filled slots.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from huatuo.model.event import Container, Event, Process
from huatuo.model.meaning import Role
from huatuo.model.metric import Column, Metric
from huatuo.store.base import EventQuery, MetricQuery
from huatuo.store.embedded import EmbeddedStore

SECOND = 1_000_000_000
START = 1_790_000_000 * SECOND
STEP = 10 * SECOND
RUNS = 7


def line(name: str, value: str) -> None:
    print(f"  {name:<58} {value:>22}", flush=True)


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)


class Node:
    """Metrics of an imagined node: 60 % counters, 30 % gauges, 10 % histograms."""

    def __init__(self, series: int, per_family: int = 10) -> None:
        self.rng = np.random.default_rng(1)
        self.per_family = per_family
        families = series // per_family
        self.speed = self.rng.choice([0.0, 0.3, 50.0, 1e6], (families, per_family))
        self.counts = np.zeros((families, per_family))
        self.slots = np.zeros((families, per_family, 27), np.uint64)
        names = [f"service-{i}" for i in range(per_family)]
        self.labels = {"container": Column(names), "device": Column(["eth0"] * per_family)}

    def snapshot(self) -> list[Metric]:
        self.counts += self.rng.poisson(self.speed)
        found = []
        for i, counts in enumerate(self.counts):
            name = f"huatuo_group_metric_{i}"
            if i % 10 == 9:
                self.slots[i, :, 6:14] += self.rng.poisson(20, (self.per_family, 8)).astype("u8")
                sums = self.slots[i].sum(axis=1) * 1.3e-3
                metric = Metric(
                    name, Role.HISTOGRAM, "help", self.slots[i].copy(), self.labels, sums
                )
            elif i % 10 >= 6:
                values = np.round(self.rng.normal(1e8, 1e6, self.per_family))
                metric = Metric(name, Role.GAUGE, "help", values, self.labels)
            else:
                scale = 1e-9 if i % 2 else 1.0
                metric = Metric(name, Role.COUNTER, "help", counts * scale, self.labels)
            found.append(metric)
        return found


def bench_metrics(series: int, hours: float) -> None:
    print(f"\nmetrics: {series} series (a tenth histograms of 27 slots), every 10 s, {hours:g} h")
    node = Node(series)
    with tempfile.TemporaryDirectory() as directory:
        store = EmbeddedStore(Path(directory), max_bytes=1 << 30, max_age_seconds=7 * 86400)
        costs = []
        before = resident_mib()
        for i in range(int(hours * 360)):
            snapshot = node.snapshot()
            begin = time.process_time()
            store.append_metrics(START + i * STEP, snapshot)
            costs.append(time.process_time() - begin)
        costs_ms = np.array(costs[1:]) * 1e3
        line("first snapshot (names are new), CPU", f"{costs[0] * 1e3:.1f} ms")
        median, worst = np.median(costs_ms), np.percentile(costs_ms, 99)
        line(
            "snapshot, CPU median / p99 / max",
            f"{median:.2f} / {worst:.1f} / {costs_ms.max():.0f} ms",
        )
        line("mean, with all upkeep", f"{costs_ms.mean():.2f} ms")
        line("of one core, at one snapshot per 10 s", f"{costs_ms.mean() / 100:.3f} %")
        line("memory: before → after", f"{before:.0f} → {resident_mib():.0f} MiB")
        end = START + int(hours * 3600) * SECOND
        report_disk(store, hours)
        for title, name, span, labels in (
            ("counters, 6 h, whole family", "huatuo_group_metric_0", 6, {}),
            ("counters, 6 h, one series", "huatuo_group_metric_0", 6, {"container": "service-3"}),
            ("histograms, 6 h, whole family", "huatuo_group_metric_9", 6, {}),
            ("histograms, 15 min, whole family", "huatuo_group_metric_9", 0.25, {}),
            ("histograms, everything, whole family", "huatuo_group_metric_9", hours, {}),
        ):
            query = MetricQuery(name, end - int(span * 3600) * SECOND, end, labels)
            timed(f"query: {title}", lambda q=query: store.metrics(q))
        store.close()


def report_disk(store: EmbeddedStore, hours: float) -> None:
    with store._database.read() as db:
        for level, what in ((0, "every 10 s"), (1, "thinned to 1 min")):
            size, first, last = db.execute(
                "SELECT total(length(data)), min(start_ns), max(end_ns) FROM chunks"
                " WHERE level = ?",
                (level,),
            ).fetchone()
            if first is not None:
                days = (last - first) / 86400 / SECOND
                line(f"chunks {what}, per day", f"{size / days / (1 << 20):.2f} MiB")
    used = store.usage().bytes
    line(f"file, all included, after {hours:g} h", f"{used / (1 << 20):.2f} MiB")


def timed(name: str, call: Callable[[], object]) -> None:
    wall, cpu = [], []
    for _ in range(RUNS):
        begin, cpu_begin = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - begin)
        cpu.append(time.process_time() - cpu_begin)
    text = f"{statistics.median(wall) * 1e3:.1f} / {statistics.median(cpu) * 1e3:.1f} ms"
    line(f"{name}, wall / CPU", text)


def events(count: int) -> Iterator[list[Event]]:
    """Batches of 100, 25 events per second, of five probes and fifty containers."""
    rng = np.random.default_rng(1)
    reasons = ["NO_SOCKET", "SOCKET_RCVBUFF", "TCP_CSUM", "NETFILTER_DROP", "QDISC_DROP"]
    containers = [
        Container(f"service-{i}", "container", f"/kubepods/pod{i}", namespace=f"team-{i % 7}")
        for i in range(50)
    ]
    stack = ["kfree_skb_reason+0x1", "tcp_v4_rcv+0x8e1", "ip_local_deliver_finish+0x86"]
    for first in range(0, count, 100):
        draws = rng.integers(0, 1 << 30, (100, 4)).tolist()
        batch = []
        for i, (a, b, c, d) in enumerate(draws, first):
            when = datetime.fromtimestamp(START // SECOND + i // 25, UTC)
            batch.append(
                Event(
                    time=when.strftime("%Y-%m-%dT%H:%M:%S") + f".{d % 10**9:09d}Z",
                    probe=("net.drop", "block.latency", "cpu.sched", "memory.oom")[a % 4],
                    kind=("drops", "slow", "delays", "kills")[a % 4],
                    title=f"packet of service-{b % 50} dropped: {reasons[c % 5]}",
                    container=containers[b % 50],
                    process=Process(a % 30000, f"worker-{b % 40}"),
                    fields={"reason": reasons[c % 5], "wait_ns": c, "device": "eth0", "serial": i},
                    stack=stack,
                )
            )
        yield batch


def bench_events(count: int) -> None:
    print(f"\nevents: {count}")
    with tempfile.TemporaryDirectory() as directory:
        store = EmbeddedStore(Path(directory), max_bytes=1 << 30, max_age_seconds=7 * 86400)
        cost = 0.0
        costs = []
        for batch in events(count):
            begin = time.process_time()
            store.append_events(batch)
            costs.append(time.process_time() - begin)
            cost += costs[-1]
        line("append, CPU per event, compaction included", f"{cost / count * 1e6:.1f} µs")
        spread = np.array(costs) * 1e3
        text = f"{np.median(spread):.2f} / {np.percentile(spread, 99):.1f} ms"
        line("append of 100, CPU median / p99", text)
        used = store.usage().bytes
        line("file", f"{used / (1 << 20):.1f} MiB, {used / count:.0f} B each")
        line("memory after", f"{resident_mib():.0f} MiB")
        end = START + count // 25 * SECOND
        hour = (end - 3600 * SECOND, end)
        old = START + (end - START) // 3
        for title, call in (
            ("newest 100", lambda: store.events(EventQuery())),
            ("newest 100 of a container", lambda: store.events(EventQuery(container="service-7"))),
            (
                "60 s range in the past + kind",
                lambda: store.events(EventQuery(old, old + 60 * SECOND, kind="drops")),
            ),
            ("one by id", lambda: store.event(count // 2)),
            (
                "field equality, one match in all",
                lambda: store.events(EventQuery(fields={"serial": str(count // 3)})),
            ),
            (
                "field equality, newest 100",
                lambda: store.events(EventQuery(fields={"reason": "TCP_CSUM"})),
            ),
            ("text, no match in all", lambda: store.events(EventQuery(text="no such thing"))),
            ("text, newest 100", lambda: store.events(EventQuery(text="qdisc_drop"))),
            ("histogram of the last hour", lambda: store.event_histogram(EventQuery(*hour), 60)),
            ("histogram of all", lambda: store.event_histogram(EventQuery(), 100)),
            (
                "facets of the last hour, four fields",
                lambda: store.facets(
                    EventQuery(*hour), ["probe", "container", "reason", "process.comm"]
                ),
            ),
            (
                "facets of all, four fields",
                lambda: store.facets(
                    EventQuery(), ["probe", "container", "reason", "process.comm"]
                ),
            ),
        ):
            timed(f"query: {title}", call)
        line("memory after queries", f"{resident_mib():.0f} MiB")
        store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--hours", type=float, default=26)
    parser.add_argument("--wide-hours", type=float, default=2, help="of the run with 10,000 series")
    options = parser.parse_args()
    bench_metrics(1000, options.hours)
    bench_metrics(10_000, options.wide_hours)
    bench_events(options.events)


if __name__ == "__main__":
    main()
