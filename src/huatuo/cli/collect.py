"""Print the metrics of one probe once, histograms as text.

BPF probes count from when they are loaded, so they are watched for --duration first.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator

import numpy as np

from huatuo.cli.common import add_duration, add_probe, open_probe, print_json, seconds
from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.enricher import Enricher
from huatuo.kernel.host import Host
from huatuo.model.meaning import Role
from huatuo.model.metric import Metric, edges
from huatuo.model.units import show_bytes, show_duration

__all__ = ["configure", "histograms", "run", "shown"]

_BAR = 40


def configure(parser: argparse.ArgumentParser) -> None:
    add_probe(parser)
    add_duration(parser, "5s", "how long to watch with BPF before reading (default: 5s)")


def run(arguments: argparse.Namespace) -> int:
    host = Host()
    probe = open_probe(arguments, host)
    enricher = Enricher(host, Inventory(host))
    probe.start()
    try:
        if probe.ring_fds() or probe.cost():
            time.sleep(seconds(arguments) or 0)
        metrics = enricher.metrics(probe.collect())
    finally:
        probe.stop()
    if not metrics:
        print(f"{probe.name}: nothing to report now", file=sys.stderr)
    for metric in metrics:
        if arguments.json:
            print_json(_document(metric))
        elif metric.kind is Role.HISTOGRAM:
            for line in histograms(metric):
                print(line)
        else:
            _print_values(metric)
    return 0


def _rows(metric: Metric) -> list[dict[str, str]]:
    return [
        {label: str(column.values[row]) for label, column in metric.labels.items()}
        for row in range(len(metric))
    ]


def _document(metric: Metric) -> dict[str, object]:
    samples: list[dict[str, object]] = []
    for row, labels in enumerate(_rows(metric)):
        sample: dict[str, object] = {"labels": labels, "value": metric.values[row].tolist()}
        if metric.sums is not None:
            sample["sum"] = float(metric.sums[row])
        samples.append(sample)
    document: dict[str, object] = {"name": metric.name, "kind": metric.kind, "help": metric.help}
    if metric.kind is Role.HISTOGRAM:
        document["upper_edges_seconds"] = edges(metric.values.shape[1])
    return document | {"samples": samples}


def _print_values(metric: Metric) -> None:
    print(f"\n{metric.name}: {metric.help}")
    for labels, value in zip(_rows(metric), metric.values.tolist(), strict=True):
        print(f"  {shown(metric.name, value):>12}  {_labels(labels)}")


def shown(name: str, value: float) -> str:
    if name.removesuffix("_total").endswith("_seconds"):
        return show_duration(value)
    if name.removesuffix("_total").endswith("_bytes"):
        return show_bytes(value)
    return f"{value:g}" if value < 1e6 or value != int(value) else f"{value:.0f}"


def _labels(labels: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in labels.items())


def histograms(metric: Metric) -> Iterator[str]:
    """Each of the family that has values: a title after an empty line, then a bar for each slot."""
    assert metric.sums is not None
    upper = [*edges(metric.values.shape[1]), float("inf")]
    for labels, slots, total in zip(_rows(metric), metric.values, metric.sums, strict=True):
        count = int(slots.sum())
        if not count:
            continue
        mean = show_duration(float(total) / count)
        yield f"\n{metric.name} {_labels(labels)}: {count} values, mean {mean}"
        filled = np.flatnonzero(slots)
        for slot in range(int(filled[0]), int(filled[-1]) + 1):
            below = show_duration(upper[slot]) if slot < len(upper) - 1 else "more"
            bar = "#" * max(int(slots[slot] / slots.max() * _BAR), int(slots[slot] > 0))
            yield f"  < {below:>8} {int(slots[slot]):>10} |{bar}"
