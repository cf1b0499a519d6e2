"""What a scrape costs: rendering 10,000 series, beside prometheus_client where it is installed.

    python bench/exposition.py

A series is a line of the text format: a histogram of 27 slots counts as 29. CPU time, median of 15
after the first, which builds the kept strings. "new labels" renders with nothing kept.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np

from huatuo.export import exposition
from huatuo.export import protobuf as wire
from huatuo.export.prometheus import openmetrics, protobuf, text
from huatuo.model.meaning import Role
from huatuo.model.metric import Column, Metric

RUNS = 15
PER_FAMILY = 50


def page(scalars: int, histograms: int) -> list[Metric]:
    rng = np.random.default_rng(1)
    names = Column([f"service-{i}" for i in range(PER_FAMILY)])
    device = Column(["eth0"] * PER_FAMILY)
    found = []
    for i in range(scalars // PER_FAMILY):
        scale = 1e-9 if i % 2 else 1.0  # times, and counts
        values = rng.integers(0, 1 << 40, PER_FAMILY) * scale
        labels = {"container": names, "device": device}
        found.append(Metric(f"huatuo_group_{i}_total", Role.COUNTER, "help", values, labels))
    for i in range(histograms // 20):
        slots = rng.integers(0, 1000, (20, 27)).astype(np.uint64)
        labels = {"container": Column(list(names.values)[:20])}
        sums = slots.sum(axis=1) * 1.3e-3
        found.append(
            Metric(f"huatuo_wait_{i}_seconds", Role.HISTOGRAM, "help", slots, labels, sums)
        )
    return found


def forget() -> None:
    exposition._STRINGS.held = {}
    wire._LABELS.held = {}


def timed(call: Callable[[], bytes], before: Callable[[], None]) -> tuple[float, int]:
    costs = []
    size = 0
    for _ in range(RUNS + 1):
        before()
        begin = time.process_time()
        size = len(call())
        costs.append(time.process_time() - begin)
    return statistics.median(costs[1:]) * 1e3, size


def client(metrics: list[Metric]) -> Callable[[], bytes] | None:
    """The same scalars through prometheus_client's custom collector."""
    try:
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.core import CounterMetricFamily
    except ImportError:
        return None

    class Collector:
        def collect(self) -> Iterator[CounterMetricFamily]:
            for metric in metrics:
                family = CounterMetricFamily(metric.name, metric.help, labels=list(metric.labels))
                columns = [column.values for column in metric.labels.values()]
                for *labels, value in zip(*columns, metric.values.tolist(), strict=True):
                    family.add_metric(labels, value)
                yield family

    registry = CollectorRegistry()
    registry.register(Collector())  # type: ignore[arg-type]
    return lambda: generate_latest(registry)


def main() -> None:
    print(f"{'10,000 series':<42}{'CPU':>10}{'new labels':>14}{'size':>12}")
    for title, scalars, histograms in (
        ("10,000 scalars", 10_000, 0),
        ("7,100 scalars + 100 histograms", 7_100, 100),
        ("345 histograms", 0, 345),
    ):
        metrics = page(scalars, histograms)
        for render in (text, openmetrics, protobuf):
            kept, size = timed(lambda r=render, m=metrics: r(m), lambda: None)
            fresh, _ = timed(lambda r=render, m=metrics: r(m), forget)
            name = f"{title}, {render.__name__}"
            print(f"{name:<42}{kept:>7.1f} ms{fresh:>11.1f} ms{size / 1024:>8.0f} KiB")
    reference = client(page(10_000, 0))
    if reference:
        cost, size = timed(reference, lambda: None)
        name = "10,000 scalars, prometheus_client"
        print(f"{name:<42}{cost:>7.1f} ms{'':>14}{size / 1024:>8.0f} KiB")


if __name__ == "__main__":
    main()
