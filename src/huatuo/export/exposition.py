"""The two text formats of a scrape: Prometheus 0.0.4 and OpenMetrics 1.0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from huatuo.export.families import Family, Kept, Labels, Rendering, families
from huatuo.model.meaning import Role
from huatuo.model.metric import Metric, edges

__all__ = ["openmetrics", "text"]

_EXACT = 2.0**53
_TYPES = {Role.COUNTER: "counter", Role.GAUGE: "gauge", Role.HISTOGRAM: "histogram"}
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})


def text(metrics: Sequence[Metric]) -> bytes:
    """The classic text format."""
    lines: list[str] = []
    strings = _STRINGS.rendering()
    for family in families(metrics):
        lines.append(f"# HELP {family.name} {family.help.translate(_HELP_ESCAPES)}")
        lines.append(f"# TYPE {family.name} {_TYPES.get(family.kind, 'untyped')}")
        _samples(family, strings, lines)
    strings.done()
    lines.append("")
    return "\n".join(lines).encode()


def openmetrics(metrics: Sequence[Metric]) -> bytes:
    """Counters are declared without _total, the end is marked."""
    lines: list[str] = []
    strings = _STRINGS.rendering()
    for family in families(metrics):
        name, kind = family.name, _TYPES.get(family.kind, "unknown")
        if kind == "counter":
            kind = "counter" if name.endswith("_total") else "unknown"
            name = name.removesuffix("_total")
        lines.append(f"# HELP {name} {family.help.translate(_ESCAPES)}")
        lines.append(f"# TYPE {name} {kind}")
        _samples(family, strings, lines)
    strings.done()
    lines.append("# EOF\n")
    return "\n".join(lines).encode()


def _samples(family: Family, strings: Rendering[list[str]], lines: list[str]) -> None:
    for number, (metric, labels) in enumerate(family.parts):
        heads = strings.get(family.name, number, labels, metric)
        values = _histograms(metric) if metric.values.ndim == 2 else _numbers(metric.values)
        lines.extend(map(str.__add__, heads, values))


def _histograms(metric: Metric) -> list[str]:
    """Per series: the buckets, which are cumulative, then sum and count."""
    cumulative = np.cumsum(metric.values, axis=1, dtype=np.uint64).tolist()
    sums = metric.sums if metric.sums is not None else np.zeros(len(metric))
    numbers: list[str] = []
    for counts, total in zip(cumulative, _numbers(sums), strict=True):
        numbers.extend(map(str, counts))
        numbers.append(total)
        numbers.append(str(counts[-1]))
    return numbers


def _numbers(values: npt.NDArray[Any]) -> list[str]:
    """Whole numbers without point and exponent, others as short as they read back the same."""
    if values.dtype.kind in "iu":
        return list(map(str, values.tolist()))
    with np.errstate(invalid="ignore"):
        whole = (np.rint(values) == values) & (np.abs(values) < _EXACT)
    if whole.all():
        return list(map(str, values.astype(np.int64).tolist()))
    words = list(map(repr, values.tolist()))
    for at in np.flatnonzero(whole | ~(np.abs(values) < _EXACT)).tolist():
        words[at] = _number(float(values[at]))
    return words


def _number(value: float) -> str:
    """Whole, large or not finite."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value))


def _heads(name: str, labels: Labels, count: int, width: int) -> list[str]:
    """What stands before the value on each line, with the space."""
    columns = [
        [f'{label}="{value.translate(_ESCAPES)}"' for value in values] for label, values in labels
    ]
    pairs = list(map(",".join, zip(*columns, strict=True))) if columns else [""] * count
    if not width:
        return [f"{name}{{{pair}}} " if pair else f"{name} " for pair in pairs]
    bounds = [f'le="{bound}"}} ' for bound in [*map(repr, edges(width)), "+Inf"]]
    lines = []
    for pair in pairs:
        start = f"{name}_bucket{{{pair}," if pair else f"{name}_bucket{{"
        lines.extend([start + bound for bound in bounds])
        tail = f"{{{pair}}} " if pair else " "
        lines.append(f"{name}_sum{tail}")
        lines.append(f"{name}_count{tail}")
    return lines


_STRINGS = Kept(_heads)
