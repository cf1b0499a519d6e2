"""What expressions are worth at one moment: a number for each target, in numpy.

The targets of a trigger (containers, devices, CPUs, or the host alone) have numbers that stay; a
value is float64 (targets,), NaN where nothing is known, or () if it is one for all. Labels are
looked at only when the series of a family have changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from huatuo.model.arithmetic import quantiles
from huatuo.model.expression import compiled
from huatuo.model.metric import Column, Metric
from huatuo.triggers.grammar import Binary, Literal, Matcher, Node, Past, Select

__all__ = ["HOST", "Baseline", "Floats", "Moment", "Targets", "Usual", "Values", "fit", "moment_of"]

Floats = npt.NDArray[np.float64]
HOST = "host"
_KEPT = 120  # values of the time before
_SIGMA = 1.4826  # a standard deviation, in median absolute deviations of a normal distribution
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


class Targets:
    """Names by number, for all triggers about the same kind of target."""

    def __init__(self, per: str) -> None:
        self.per = per
        self.names: list[str] = []
        self._number: dict[str, int] = {}
        if per == HOST:
            self.codes([""])

    def __len__(self) -> int:
        return len(self.names)

    def codes(self, names: Sequence[str]) -> npt.NDArray[np.int64]:
        known = self._number
        for name in names:
            if name not in known:
                known[name] = len(self.names)
                self.names.append(name)
        return np.array([known[name] for name in names], np.int64)

    def number(self, name: str) -> int:
        """-1 if it is not known."""
        return self._number.get(name, -1)


@dataclass(frozen=True, slots=True)
class Usual:
    """Of one value at one hour of the week: median and median absolute deviation."""

    median: float
    deviation: float
    samples: int


class Baseline(Protocol):
    """What is usual. See tracing/baseline.py for the one that learns from the store."""

    def usual(self, value: str, per: str, now_ns: int) -> Mapping[str, Usual]:
        """Target → what is usual at this hour of the week, of the value with that text; only those
        with enough history. Cheap: it is asked at every interval."""


@dataclass(frozen=True, slots=True)
class Moment:
    now_ns: int
    families: Mapping[str, Sequence[Metric]]


def moment_of(now_ns: int, metrics: Iterable[Metric]) -> Moment:
    """Several metrics may be of one family."""
    families: dict[str, list[Metric]] = {}
    for metric in metrics:
        families.setdefault(metric.name, []).append(metric)
    return Moment(now_ns, families)


@dataclass(slots=True)
class _Part:
    """One probe's share of a family: its labels when last seen, and which rows count for whom."""

    labels: Mapping[str, Column]
    rows: npt.NDArray[np.int64]
    codes: npt.NDArray[np.int64] | None  # None: for every target


@dataclass(slots=True)
class _Source:
    """A selection's last total, and its growth since the one before: (targets, columns), or
    (columns,) if it is one for all."""

    select: Select
    targets: Targets
    parts: list[_Part] = field(default_factory=list)
    total: Floats | None = None
    growth: Floats | None = None
    seconds: float = 0.0
    time_ns: int = 0

    def observe(self, moment: Moment) -> None:
        before, then = self.total, self.time_ns
        self.total = self._sum(moment.families.get(self.select.family, ()))
        self.growth, self.time_ns = None, moment.now_ns
        if before is not None and self.total is not None and moment.now_ns > then:
            self.seconds = (moment.now_ns - then) / 1e9
            if before.shape[-1] == self.total.shape[-1] and before.ndim == self.total.ndim:
                grown = self.total - (before if before.ndim == 1 else fit(before, len(self.total)))
                with np.errstate(invalid="ignore"):
                    went_back = (grown < 0).any(axis=-1, keepdims=True)
                self.growth = np.where(went_back, np.nan, grown)

    def _sum(self, metrics: Sequence[Metric]) -> Floats | None:
        found: Floats | None = None
        for place, metric in enumerate(metrics):
            part = self._part(place, metric)
            if not len(part.rows):
                continue
            values = _columns(metric)[part.rows]
            known = ~np.isnan(values[:, 0])
            codes = np.zeros(len(values), np.int64) if part.codes is None else part.codes
            size = 1 if part.codes is None else len(self.targets)
            sums = np.zeros((size, values.shape[1]))
            if values.shape[1] == 1:
                sums[:, 0] = np.bincount(codes[known], values[known, 0], size)
            else:
                np.add.at(sums, codes[known], values[known])
            sums[np.bincount(codes[known], minlength=size) == 0] = np.nan
            sums = sums[0] if part.codes is None else sums
            found = sums if found is None else _plus(found, sums)
        return found

    def _part(self, place: int, metric: Metric) -> _Part:
        if place < len(self.parts) and _same(self.parts[place].labels, metric):
            return self.parts[place]
        keep = np.ones(len(metric), bool)
        for matcher in self.select.matchers:
            keep &= _matches(matcher, metric)
        rows, per = np.flatnonzero(keep), self.targets.per
        codes = None
        if per == HOST:
            codes = np.zeros(len(rows), np.int64)
        elif per in metric.labels:
            column = metric.labels[per].values
            codes = self.targets.codes([str(column[row]) for row in rows.tolist()])
        part = _Part(metric.labels, rows, codes)
        self.parts[place : place + 1] = [part]
        return part

    def value(self) -> Floats:
        form = self.select.form
        if self.total is None or (form and self.growth is None):
            return np.array(np.nan)
        if not form:
            return self.total[..., -1]
        assert self.growth is not None
        slots = self.growth[..., :-1]
        if form == "rate":
            grown = slots.sum(axis=-1) if slots.shape[-1] else self.growth[..., 0]
            return np.asarray(grown / self.seconds)
        if not slots.shape[-1]:
            return np.full(self.growth.shape[:-1], np.nan)  # not a histogram
        if form == "mean":
            return _ratio(self.growth[..., -1], slots.sum(axis=-1))
        found = quantiles(np.atleast_2d(slots), _QUANTILES[form]).reshape(slots.shape[:-1])
        return np.where(np.isnan(slots[..., 0]), np.nan, found)


@dataclass(slots=True)
class _Before:
    times: deque[int] = field(default_factory=deque)
    values: deque[Floats] = field(default_factory=deque)

    def push(self, now_ns: int, value: Floats, length_ns: int) -> None:
        while self.times and self.times[0] < now_ns - length_ns:
            self.times.popleft()
            self.values.popleft()
        if not self.times or now_ns - self.times[-1] >= length_ns // _KEPT:
            self.times.append(now_ns)
            self.values.append(value)

    def median(self, now_ns: int, length_ns: int, size: int) -> Floats:
        """Over what was pushed before now; NaN until that is half of the time."""
        times = [time for time in self.times if now_ns - length_ns <= time < now_ns]
        if not times or now_ns - times[0] < length_ns / 2:
            return np.array(np.nan)
        first = len(self.times) - len(times) - (self.times[-1] == now_ns)
        rows = [fit(v, size) for v in list(self.values)[first : first + len(times)]]
        ordered = np.sort(np.stack(rows), axis=0)  # NaN last
        count = (~np.isnan(ordered)).sum(axis=0)
        at = np.arange(size)
        low = ordered[np.maximum(count - 1, 0) // 2, at]
        high = ordered[np.minimum(count // 2, len(ordered) - 1), at]
        found = (low + high) / 2
        return np.where(count * 2 >= len(ordered), found, np.nan)


class Values:
    """Nodes of one kind of target. `observe` at each moment, then `of` as often as wanted."""

    def __init__(self, targets: Targets, baseline: Baseline | None = None) -> None:
        self.targets = targets
        self.baseline = baseline
        self.now_ns = 0
        self._sources: dict[Select, _Source] = {}
        self._before: dict[Past, _Before] = {}
        self._known: dict[Node, Floats] = {}

    @property
    def families(self) -> set[str]:
        return {select.family for select in self._sources}

    def add(self, node: Node) -> None:
        """From the next moment on it is followed."""
        if isinstance(node, Select) and node not in self._sources:
            self._sources[node] = _Source(node, self.targets)
        elif isinstance(node, Past):
            if node.seconds:
                self._before.setdefault(_key(node), _Before())
            self.add(node.value)
        elif isinstance(node, Binary):
            self.add(node.left)
            self.add(node.right)

    def observe(self, moment: Moment) -> None:
        self._known = {}
        self.now_ns = moment.now_ns
        for source in self._sources.values():
            source.observe(moment)
        for past, kept in self._before.items():
            kept.push(moment.now_ns, self.of(past.value), int(past.seconds * 1e9))

    def of(self, node: Node) -> Floats:
        found = self._known.get(node)
        if found is None:
            found = self._known[node] = self._compute(node)
        return found

    def _compute(self, node: Node) -> Floats:
        if isinstance(node, Literal):
            return np.array(node.value)
        if isinstance(node, Select):
            return self._sources[node].value()
        if isinstance(node, Past):
            return self._past(node)
        left, right = _aligned(self.of(node.left), self.of(node.right))
        if node.op == "+":
            return left + right
        if node.op == "-":
            return left - right
        return left * right if node.op == "*" else _ratio(left, right)

    def _past(self, node: Past) -> Floats:
        size = len(self.targets)
        if node.seconds:
            kept = self._before[_key(node)]
            median = kept.median(self.now_ns, int(node.seconds * 1e9), size)
            if node.kind == "before":
                return median
            left, right = _aligned(self.of(node.value), median)
            return left - (np.nan_to_num(right) if right.ndim else right)
        medians, spreads = np.full(size, np.nan), np.full(size, np.nan)
        if self.baseline is not None:
            known = self.baseline.usual(str(node.value), self.targets.per, self.now_ns)
            for name, usual in known.items():
                if (number := self.targets.number(name)) >= 0:
                    medians[number], spreads[number] = usual.median, usual.deviation
        if node.kind == "usual":
            return medians
        now = fit(self.of(node.value), size)
        # what never varies would make everything a great deviation: at least a twentieth counts
        least = np.abs(medians) * 0.05
        return _ratio(now - medians, np.maximum(spreads * _SIGMA, least))


def _key(node: Past) -> Past:
    """What is remembered for it: the same for `before` and `grown`."""
    return Past("before", node.value, node.seconds)


def fit(value: Floats, size: int) -> Floats:
    """(n, …) → (size, …): what is one for all is repeated, targets that came later are unknown."""
    if value.ndim == 0:
        return np.full(size, value)
    if len(value) == size:
        return value
    found = np.full((size, *value.shape[1:]), np.nan)
    found[: len(value)] = value
    return found


def _aligned(left: Floats, right: Floats) -> tuple[Floats, Floats]:
    if left.ndim == 0 or right.ndim == 0:
        return left, right
    size = max(len(left), len(right))
    return fit(left, size), fit(right, size)


def _plus(left: Floats, right: Floats) -> Floats:
    """Sum in which only two unknowns are unknown."""
    left, right = _aligned(left, right)
    both = np.isnan(left) & np.isnan(right)
    return np.where(both, np.nan, np.nan_to_num(left) + np.nan_to_num(right))


def _ratio(left: Floats, right: Floats) -> Floats:
    """NaN where nothing is divided by nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(right != 0, left / right, np.nan)


def _columns(metric: Metric) -> Floats:
    """(n, 1), or of a histogram its slots and its sum (n, slots + 1)."""
    if metric.sums is None:
        return np.asarray(metric.values, np.float64).reshape(len(metric), 1)
    found = np.column_stack([metric.values.astype(np.float64), metric.sums])
    found[np.isnan(found).any(axis=1)] = np.nan
    return found


def _same(labels: Mapping[str, Column], metric: Metric) -> bool:
    """Whether the series are those of last time."""
    if labels is metric.labels:
        return True
    return labels.keys() == metric.labels.keys() and all(
        column.values is metric.labels[name].values
        or bool(np.array_equal(column.values, metric.labels[name].values))
        if isinstance(column.values, np.ndarray)
        else column.values == metric.labels[name].values
        for name, column in labels.items()
    )


def _matches(matcher: Matcher, metric: Metric) -> npt.NDArray[np.bool_]:
    """A label that the family does not have is the empty text."""
    nothing = Column([""] * len(metric))
    own = [str(value) for value in metric.labels.get(matcher.label, nothing).values]
    if matcher.other:
        others = [str(value) for value in metric.labels.get(matcher.value, nothing).values]
        found = [a == b for a, b in zip(own, others, strict=True)]
    elif matcher.op in ("=~", "!~"):
        expression = compiled(matcher.value)
        found = [expression.fullmatch(value) is not None for value in own]
    else:
        found = [value == matcher.value for value in own]
    return np.array(found, bool) ^ matcher.op.startswith("!")
