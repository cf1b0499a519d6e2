"""Compare variants fairly on a noisy machine: alternate them, pair each run with its neighbour.

A variant is a context manager that is active during a run ("probe on"); the baseline is none.
Reported are medians over the rounds and the quartiles of the paired differences.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

__all__ = ["Comparison", "alternate", "table"]

Measure = Callable[[], float]
Variant = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Medians in the measure's unit; `low` and `high` are quartiles of variant - baseline."""

    name: str
    median: float
    difference: float
    low: float
    high: float
    ratio: float  # difference / baseline
    rounds: int


def alternate(
    measure: Measure, variants: Mapping[str, Variant], rounds: int = 9
) -> list[Comparison]:
    """Each round runs the baseline and every variant in random order."""
    everything: dict[str, Variant] = {"baseline": nullcontext, **variants}
    values: dict[str, list[float]] = {name: [] for name in everything}
    measure()  # warm up
    for _ in range(rounds):
        for name in random.sample(list(everything), len(everything)):
            with everything[name]():
                values[name].append(measure())
    return [_compare(name, values[name], values["baseline"]) for name in everything]


def _compare(name: str, values: list[float], baseline: list[float]) -> Comparison:
    differences = [value - base for value, base in zip(values, baseline, strict=True)]
    low, middle, high = (
        statistics.quantiles(differences, n=4) if len(differences) > 1 else (0, 0, 0)
    )
    base = statistics.median(baseline)
    return Comparison(
        name, statistics.median(values), middle, low, high, middle / base, len(values)
    )


def table(title: str, unit: str, rows: list[Comparison]) -> str:
    """Markdown, as it stands in bench/README.md."""
    lines = [
        f"### {title}",
        "",
        f"| variant | median {unit} | difference [quartiles] | % | rounds |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r.name} | {r.median:.4g} | {r.difference:+.4g} [{r.low:+.4g} … {r.high:+.4g}] "
        f"| {r.ratio:+.2%} | {r.rounds} |"
        for r in rows
    ]
    return "\n".join(lines)
