"""Stored metrics of one time range, read once per family and summed by labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from huatuo.model.arithmetic import increments, maximum, quantile, quantiles, round_significant
from huatuo.model.meaning import Role
from huatuo.model.metric import edges
from huatuo.serve.answers import MetricAnswer, MetricSeries
from huatuo.serve.refusal import Refusal, bad_parameter
from huatuo.store.base import MetricQuery, Series, Store

__all__ = ["FORMS", "Reader", "answer", "unit_of"]

Floats = npt.NDArray[np.float64]
Key = tuple[str, ...]
FORMS = ("auto", "raw", "rate", "quantiles", "heatmap")
_POINTS = 40  # enough to see counter resets inside the range
_RECENT_NS = 120_000_000_000  # a gauge that was not read for longer is gone
_AT_ONCE = 256  # series


def unit_of(name: str) -> str:
    """The base unit that a family's name ends with, or ""."""
    last = name.removesuffix("_total").removesuffix("_info").rpartition("_")[2]
    return last if last in {"seconds", "bytes", "ratio", "hertz", "celsius", "packets"} else ""


def grown(series: Sequence[Series], values: Sequence[Floats]) -> Iterator[tuple[Floats, Floats]]:
    """(growth, seconds) of each series, computed for many at a time."""
    times = series[0].times
    known = np.zeros(len(times), bool)
    for one in values:
        known |= ~np.isnan(one.reshape(len(times), -1)[:, 0])
    family = np.where(known, 0.0, np.nan).reshape(1, -1, *(1 for _ in values[0].shape[1:]))
    for start in range(0, len(values), _AT_ONCE):
        part = np.stack(values[start : start + _AT_ONCE])
        # one more row says at which times the family is known, also to this part
        growth, seconds = increments(
            np.concatenate([part, family + np.zeros_like(part[:1])]), times
        )
        yield from zip(growth[:-1], seconds[:-1], strict=True)


@dataclass(slots=True)
class Reader:
    """Increases, latest values and distributions of families over one range."""

    store: Store
    start_ns: int
    end_ns: int
    labels: Mapping[str, str] = field(default_factory=dict)
    _cache: dict[str, list[Series]] = field(default_factory=dict)

    def series(self, name: str) -> list[Series]:
        if name not in self._cache:
            query = MetricQuery(name, self.start_ns, self.end_ns, self.labels, _POINTS)
            self._cache[name] = self.store.metrics(query)
        return self._cache[name]

    def has(self, name: str) -> bool:
        return bool(self.series(name))

    def seconds(self, name: str) -> float:
        """Wall time between the first and the last sample."""
        found = self.series(name)
        times = found[0].times if found else np.empty(0, np.int64)
        return float(times[-1] - times[0]) / 1e9 if len(times) > 1 else 0.0

    def increase(self, name: str, by: Sequence[str] = ()) -> dict[Key, float]:
        """Growth of a counter over the range."""
        return {key: float(value) for key, value in self._grown(name, by).items()}

    def rate(self, name: str, by: Sequence[str] = ()) -> dict[Key, float]:
        """Growth per second."""
        seconds = self.seconds(name)
        return {key: value / seconds for key, value in self.increase(name, by).items() if seconds}

    def slots(self, name: str, by: Sequence[str] = ()) -> dict[Key, Floats]:
        """Slot counts of a histogram's observations within the range."""
        return {key: np.atleast_1d(value) for key, value in self._grown(name, by).items()}

    def _grown(self, name: str, by: Sequence[str]) -> dict[Key, Floats]:
        found = self.series(name)
        sums: dict[Key, Floats] = {}
        if not found:
            return sums
        for one, (growth, _) in zip(found, grown(found, [s.values for s in found]), strict=True):
            if len(growth) and not np.isnan(growth).all():
                key = tuple(one.labels.get(label, "") for label in by)
                sums[key] = sums.get(key, np.float64(0)) + np.nansum(growth, axis=0)
        return sums

    def sums(self, name: str, by: Sequence[str] = ()) -> dict[Key, float]:
        """What a histogram's observations add up to, per second: waiting seconds per second."""
        seconds = self.seconds(name)
        found = [one for one in self.series(name) if one.sums is not None]
        totals: dict[Key, float] = {}
        if not found or not seconds:
            return totals
        sums = [one.sums for one in found if one.sums is not None]
        for one, (growth, _) in zip(found, grown(found, sums), strict=True):
            key = tuple(one.labels.get(label, "") for label in by)
            totals[key] = totals.get(key, 0.0) + float(np.nansum(growth)) / seconds
        return totals

    def last(self, name: str, by: Sequence[str] = ()) -> dict[Key, float]:
        """The newest value of a gauge, summed by `by`; series that ended are left out."""
        sums: dict[Key, float] = {}
        start_ns = max(self.start_ns, self.end_ns - _RECENT_NS)
        for one in self.store.metrics(MetricQuery(name, start_ns, self.end_ns, self.labels, 2)):
            tail = one.values[~np.isnan(one.values)]
            if len(tail):
                key = tuple(one.labels.get(label, "") for label in by)
                sums[key] = sums.get(key, 0.0) + float(tail[-1])
        return sums

    def p99(self, name: str, by: Sequence[str] = (), least: int = 1) -> dict[Key, float]:
        """p99 of histograms with at least that many observations, longest first."""
        found = {
            key: quantile(slots, 0.99)
            for key, slots in self.slots(name, by).items()
            if slots.sum() >= least
        }
        return dict(sorted(found.items(), key=lambda item: -item[1]))


@dataclass(slots=True)
class _Group:
    """Interval values of all series with the same labels."""

    labels: dict[str, str]
    values: Floats  # (n,) or (n, slots)
    seconds: Floats


def answer(store: Store, query: MetricQuery, form: str, by: str, top: int) -> MetricAnswer:
    """One family as the caller wants it; `by`: comma-separated labels, `*` all, `` the default."""
    found = store.metrics(query)
    if not found:
        families = {name: (kind, labels) for name, kind, _, labels in store.metric_names()}
        if query.name not in families:
            raise Refusal(
                404, "no_such_metric", f"no metric {query.name!r} is stored", "see /api/v1/metrics"
            )
        kind = families[query.name][0]
    else:
        kind = found[0].kind
    form = _form(form, kind)
    times = found[0].times if found else np.empty(0, np.int64)
    groups = _groups(found, form, by)
    kept = sorted(groups, key=_weight, reverse=True)[:top] if top else groups
    seconds = times / 1e9
    return MetricAnswer(
        name=query.name,
        kind=kind,
        form=form,
        unit=_unit(query.name, form),
        start=query.start_ns / 1e9,
        end=query.end_ns / 1e9,
        since=float(seconds[0]) if len(seconds) else query.start_ns / 1e9,
        times=[float(t) for t in np.round(seconds if form == "raw" else seconds[1:], 3)],
        series=[_SHAPES[form](group) for group in kept],
        edges=_edges(found) if form in ("heatmap", "quantiles") else [],
        dropped=len(groups) - len(kept),
    )


def _form(form: str, kind: str) -> str:
    natural = {Role.HISTOGRAM.value: "quantiles", Role.COUNTER.value: "rate"}.get(kind, "raw")
    if form == "auto":
        return natural
    if form in ("quantiles", "heatmap") and kind != Role.HISTOGRAM:
        raise bad_parameter("as", form, f"needs a histogram, this is a {kind}", natural)
    if form == "rate" and kind == Role.GAUGE:
        raise bad_parameter("as", form, "a gauge has no rate", "raw")
    return form


def _unit(name: str, form: str) -> str:
    unit = unit_of(name)
    if form != "rate":
        return unit
    return f"{unit}/second" if unit else "per second"


def _edges(found: Sequence[Series]) -> list[float]:
    return edges(found[0].values.shape[1]) if found and found[0].values.ndim == 2 else []


def _groups(found: Sequence[Series], form: str, by: str) -> list[_Group]:
    if not found:
        return []
    keep_all = by == "*" or (not by and form in ("raw", "rate"))
    wanted = [label for label in by.split(",") if label] if by not in ("*", "none") else []
    groups: dict[Key, _Group] = {}
    columns = [one.values for one in found]
    if form in ("raw", "rate"):
        columns = [one.sum(axis=1) if one.ndim == 2 else one for one in columns]
    pairs = ((one, one) for one in columns) if form == "raw" else grown(found, columns)
    for one, (values, seconds) in zip(found, pairs, strict=True):
        labels = {k: v for k, v in one.labels.items() if keep_all or k in wanted}
        key = tuple(sorted(labels.items()))
        flat = tuple(f"{k}={v}" for k, v in key)
        if flat not in groups:
            groups[flat] = _Group(labels, values.copy(), seconds)
        else:
            groups[flat].values = _add(groups[flat].values, values)
    return list(groups.values())


def _add(left: Floats, right: Floats) -> Floats:
    """Sum in which only two unknowns are unknown."""
    both = np.isnan(left) & np.isnan(right)
    return np.where(both, np.nan, np.nan_to_num(left) + np.nan_to_num(right))


def _weight(group: _Group) -> float:
    values = group.values
    if values.ndim == 2:
        total = np.nansum(values, axis=0)
        return quantile(total, 0.99) if total.sum() else 0.0
    return float(np.nansum(np.abs(values)))


def _numbers(values: Floats) -> list[float | None]:
    numbers: list[float | None] = round_significant(values).tolist()
    return numbers  # msgspec writes NaN as null


def _raw(group: _Group) -> MetricSeries:
    return MetricSeries(group.labels, values=_numbers(group.values))


def _rate(group: _Group) -> MetricSeries:
    return MetricSeries(group.labels, values=_numbers(group.values / group.seconds))


def _quantiles(group: _Group) -> MetricSeries:
    return MetricSeries(
        group.labels,
        p50=_numbers(quantiles(group.values, 0.5)),
        p99=_numbers(quantiles(group.values, 0.99)),
        max=_numbers(maximum(group.values)),
        count=_numbers(group.values.sum(axis=1)),
    )


def _heatmap(group: _Group) -> MetricSeries:
    used = np.flatnonzero(np.nansum(group.values, axis=0))
    first, last = (int(used[0]), int(used[-1])) if len(used) else (0, -1)
    window = group.values[:, first : last + 1]
    known = ~np.isnan(group.values[:, 0])
    rows: list[list[int] | None] = [
        row if there else None
        for row, there in zip(np.nan_to_num(window).astype(int).tolist(), known, strict=True)
    ]
    return MetricSeries(group.labels, slots=rows, first_slot=first)


_SHAPES: Mapping[str, Callable[[_Group], MetricSeries]] = {
    "raw": _raw,
    "rate": _rate,
    "quantiles": _quantiles,
    "heatmap": _heatmap,
}
