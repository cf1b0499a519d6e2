"""How far a profile can be believed: what it says of itself, and what else is stored of its time.

complete     the profile's own stacks
accounted    CPU time and resident memory as the kernel counts them, from the metrics
lost         the accounts of the profilers, huatuo_probe_lost_total
notes        sentences, also on when profilers ran and how the governor slowed them down
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from huatuo.model.arithmetic import increments
from huatuo.model.profile import Profile, StackStatus
from huatuo.model.units import percent, show_bytes, show_duration
from huatuo.serve.answers import Audit
from huatuo.serve.names import Names
from huatuo.store.base import MetricQuery, Series, Store
from huatuo.store.profiles import ProfileQuery

__all__ = ["audit", "own_audit"]

_POINTS = 240
_MARGIN_NS = 150_000_000_000  # around the range, so that there is a sample before and after it
_GAP, _STALL_NS = 2.5, 15e9  # times the usual distance of metrics, or more: nobody measured
_DEVIATION = 0.1  # from what the kernel counted, and three times the error of sampling
_SOME = 0.9  # shares below are worth a sentence
_LEAST_STEPS = 5  # of the metrics, for what began or ended in the range
_LEAST = {"nanoseconds": 1e9, "bytes": 32 << 20}
_LEAST_SAMPLES = 20
_PAGE_SAMPLE = 1 << 20  # bytes, what one of profile.resident stands for
_FEW_LOST = 0.01
_IDLE = ("idle", "iowait", "steal")
_OWNER = {"container", "pod", "namespace"}
_PROFILERS = {"lock": ("profile.blocked", "profile.lock"), "holder": ("profile.blocked",)}
_REASONS = {
    StackStatus.NO_ROWS: "the unwind rows of its code were not there yet; the next sample is whole",
    StackStatus.NO_INFO: "nothing says how to unwind this code",
    StackStatus.UNREADABLE: "the memory of the stack could not be read",
    StackStatus.BAD_ADDRESS: "a return address was no code; code made at run time often has none",
    StackStatus.TOO_DEEP: "it is deeper than is walked",
    StackStatus.FRAME_POINTERS: "this kernel allows frame pointers only, which not all code keeps",
    StackStatus.UNSUPPORTED: "it needs a rule or a mode (32 bit) that is not handled",
}
Labels = Mapping[str, str]
Floats = npt.NDArray[np.float64]


def audit(
    store: Store, query: ProfileQuery, profile: Profile, base: ProfileQuery | None = None
) -> Audit:
    """`base`: what the profile is compared with."""
    span = _Span(store, query.start_ns, query.end_ns)
    profilers = _PROFILERS.get(query.type, (f"profile.{query.type}",))
    found = own_audit(profile)
    counted = _comparable(profile, _counted(span, query))
    lost = _lost(span, profilers)
    notes = [
        *_coverage(span, profilers, "this time"),
        *_pace(span, profilers),
        *_left_out(span, profilers),
        *(_deviation(profile, counted) if counted else ()),
        *(_losses(span, profilers, lost) if lost else ()),
        *found.notes,
    ]
    if base is not None and (base.start_ns, base.end_ns) != (query.start_ns, query.end_ns):
        before = _Span(store, base.start_ns, base.end_ns)
        notes += _coverage(before, profilers, "the time compared with")
    return Audit(
        complete_ratio=found.complete_ratio,
        statuses=found.statuses,
        reasons=found.reasons,
        accounted_ratio=profile.total / counted if counted else None,
        lost=None if lost is None else round(sum(lost.values())),
        notes=notes,
    )


def own_audit(profile: Profile) -> Audit:
    """What a profile says without asking anybody else."""
    statuses = {str(name): int(value) for name, value in profile.statuses.items() if value}
    complete = statuses.pop(StackStatus.COMPLETE, 0)
    ratio = min(complete / profile.total, 1.0) if profile.total > 0 else None  # gauges are rounded
    reasons = {name: _REASONS[StackStatus(name)] for name in statuses if name in _REASONS}
    notes = []
    if ratio is not None and ratio < _SOME and statuses:
        worst = max(statuses, key=lambda name: statuses[name])
        share = statuses[worst] / sum(statuses.values())
        notes.append(
            f"{percent(1 - ratio)} is in stacks that do not reach the start of their thread, "
            f"{percent(share)} of that because {reasons.get(worst, worst)} ({worst})."
        )
    return Audit(ratio, statuses, reasons, None, None, notes)


# -- metrics of one time range ---------------------------------------------------------------------


class _Growth(NamedTuple):
    """`is_telling`: counted for long enough to be compared with something else."""

    value: float
    is_telling: bool


@dataclass(frozen=True, slots=True)
class _Span:
    """What metrics say of exactly this time: they are interpolated at its ends."""

    store: Store
    start_ns: int
    end_ns: int

    def series(self, name: str, **labels: str) -> list[Series]:
        start, end = max(self.start_ns - _MARGIN_NS, 0), self.end_ns + _MARGIN_NS
        found = self.store.metrics(MetricQuery(name, start, end, labels, _POINTS))
        return found if found and len(found[0].times) > 1 else []

    def inside(self, since: Floats, until: Floats) -> Floats:
        """Seconds of intervals that are in the range; times are ns."""
        within: Floats = np.minimum(until, self.end_ns) - np.maximum(since, self.start_ns)
        return np.maximum(within, 0.0) / 1e9

    def length(self, times: Floats, usual_ns: float) -> float:
        """Seconds of the range; what comes after the newest sample of all is not over yet."""
        is_open = self.end_ns - times[-1] < max(_GAP * usual_ns, _STALL_NS)
        end_ns = min(self.end_ns, times[-1]) if is_open else self.end_ns
        return max(float(end_ns - self.start_ns) / 1e9, 1e-3)

    def growth(self, name: str, wanted: Callable[[Labels], bool], **labels: str) -> _Growth:
        """Of all counters that are wanted, together."""
        family = self.series(name, **labels)
        chosen = [at for at, one in enumerate(family) if wanted(one.labels)]
        if not chosen:
            return _Growth(0.0, False)
        times = family[0].times
        growth, seconds = increments(np.stack([one.values for one in family]), times)
        growth, seconds = growth[chosen], seconds[chosen]
        until = times[1:].astype(np.float64)
        inside = self.inside(until - seconds * 1e9, until)
        usual = float(np.median(np.diff(times)))
        seen = float(np.where(np.isnan(growth), 0, inside).sum(axis=1).max())
        length = self.length(times.astype(np.float64), usual)
        is_telling = seen >= min(_SOME * length, _LEAST_STEPS * usual / 1e9)
        return _Growth(float(np.nansum(growth * inside / seconds)), is_telling)

    def mean(self, name: str, owner: Labels) -> float:
        """Of the sum of gauges with these labels, over the samples in the range."""
        found = [one for one in self.series(name) if _has(one.labels, owner)]
        if not found:
            return 0.0
        inside = (found[0].times >= self.start_ns) & (found[0].times <= self.end_ns)
        values = np.stack([one.values for one in found])[:, inside]
        known = ~np.isnan(values).all(axis=0)
        return float(np.nansum(values[:, known], axis=0).mean()) if known.any() else 0.0

    def shares(self, name: str, probes: Sequence[str]) -> list[tuple[float, float]]:
        """(share of the range, value) of a gauge by probe, the largest where there are several; a
        time in which nobody measured has none. Empty if there is nothing at all."""
        found = [one for probe in probes for one in self.series(name, probe=probe)]
        if not found:
            return []
        times = found[0].times.astype(np.float64)
        steps = np.diff(times)
        usual = float(np.median(steps))
        values = np.stack([np.nan_to_num(one.values) for one in found]).max(axis=0)[1:]
        short = steps <= max(_GAP * usual, _STALL_NS)
        seconds = np.where(short, self.inside(times[:-1], times[1:]), 0)
        length = self.length(times, usual)
        return [
            (float(seconds[values == value].sum()) / length, value)
            for value in np.unique(values).tolist()
        ]


def _has(labels: Labels, wanted: Labels) -> bool:
    """A label that is not there is empty."""
    return all(labels.get(name, "") == value for name, value in wanted.items())


# -- what the kernel counted, what was lost --------------------------------------------------------


def _counted(span: _Span, query: ProfileQuery) -> float | None:
    """In the profile's unit, of the host or of one container; None for any other selection."""
    owner = {each.name: each.value for each in query.matchers if each.op == "="}
    is_owner = "container" in owner and owner.keys() <= _OWNER and len(owner) == len(query.matchers)
    if query.matchers and not is_owner:
        return None
    if query.type == "cpu":
        return _cpu_time(span, owner)
    return _resident(span, owner) if query.type == "resident" else None


def _cpu_time(span: _Span, owner: Labels) -> float | None:
    """Nanoseconds: of the host without idle CPUs, of a container from its cgroup or, where that
    has no account, from the scheduler's switches."""
    if owner:
        names = (Names.CPU_CONTAINER, Names.RUN)
        found = [span.growth(name, lambda labels: _has(labels, owner)) for name in names]
    else:
        found = [span.growth(Names.CPU_SECONDS, lambda labels: labels.get("state") not in _IDLE)]
    return next((one.value * 1e9 for one in found if one.is_telling and one.value), None)


def _resident(span: _Span, owner: Labels) -> float | None:
    """Bytes: anonymous memory and mapped files."""
    names = Names.RESIDENT_CONTAINER if owner else Names.RESIDENT_HOST
    return sum(span.mean(name, owner) for name in names) or None


def _comparable(profile: Profile, counted: float | None) -> float | None:
    """None where so few samples are to be expected that nothing follows from what there is."""
    if counted is None or counted < _LEAST[profile.type.unit]:
        return None
    return counted if _expected(profile, counted) >= _LEAST_SAMPLES else None


def _expected(profile: Profile, counted: float) -> float:
    """How many samples, independent of each other, there would be of what was counted."""
    samples = profile.samples
    if profile.type.is_gauge:  # the same memory is looked at again and again
        samples = min(samples, profile.total // _PAGE_SAMPLE)
    return samples * counted / profile.total if profile.total else math.inf


def _lost(span: _Span, profilers: Sequence[str]) -> dict[str, float] | None:
    """Reason → samples; None if no profiler keeps an account."""
    reasons = {
        (probe, one.labels["reason"])
        for probe in profilers
        for one in span.series(Names.LOST, probe=probe)
    }
    if not reasons:
        return None
    found: dict[str, float] = {}
    for probe, reason in sorted(reasons):
        grown = span.growth(Names.LOST, lambda _: True, probe=probe, reason=reason)
        found[reason] = found.get(reason, 0.0) + grown.value
    found["not_stored"] = span.growth(Names.STORE_LOST, lambda _: True, what="samples").value
    return {reason: count for reason, count in found.items() if count >= 0.5}


# -- sentences -------------------------------------------------------------------------------------


def _deviation(profile: Profile, counted: float) -> Iterator[str]:
    share = profile.total / counted
    if abs(share - 1) <= max(_DEVIATION, 3 / math.sqrt(_expected(profile, counted))):
        return
    if profile.type.unit == "bytes":
        whole, mine = show_bytes(counted), show_bytes(profile.total)
        why = (
            "what was touched before the profiler was started is not"
            if share < 1
            else "memory that processes share counts for each of them here"
        )
        yield f"The kernel counts {whole} of it, here are {mine} ({percent(share)}): {why}."
    else:
        whole, mine = show_duration(counted / 1e9), show_duration(profile.total / 1e9)
        yield f"The kernel counted {whole} of CPU time, here are {mine} ({percent(share)})."


def _losses(span: _Span, profilers: Sequence[str], lost: Mapping[str, float]) -> Iterator[str]:
    count = sum(lost.values())
    arrived = (span.growth(Names.DELIVERED, lambda _: True, probe=each) for each in profilers)
    share = count / (count + sum(each.value for each in arrived))
    if share >= _FEW_LOST:
        reasons = ", ".join(f"{number:.0f} {name}" for name, number in lost.items())
        yield f"{count:.0f} samples of all ({percent(share)}) were lost: {reasons}."


def _left_out(span: _Span, profilers: Sequence[str]) -> Iterator[str]:
    """Suppressed on purpose: neither lost, nor part of what there is to be."""
    grown = (
        span.growth(Names.SUPPRESSED, lambda _: True, probe=each, reason="excluded")
        for each in profilers
    )
    count = sum(each.value for each in grown)
    if count >= 0.5:
        yield f"{count:.0f} samples were of containers that the configuration leaves out."


def _coverage(span: _Span, profilers: Sequence[str], what: str) -> Iterator[str]:
    shares = span.shares(Names.RUNNING, profilers)
    ran = sum(share for share, value in shares if value)
    if shares and ran < _SOME:
        yield f"{' and '.join(profilers)} ran for {percent(ran)} of {what}."


def _pace(span: _Span, profilers: Sequence[str]) -> Iterator[str]:
    shares = span.shares(Names.PACE, profilers)
    slow = [(share, pace) for share, pace in shares if share and 0 < pace < 1]
    if slow:
        share, pace = sum(share for share, _ in slow), min(pace for _, pace in slow)
        how_long = percent(share) if share < 0.97 else "all"
        yield (
            f"To stay within the budget, {profilers[0]} was slowed down to {percent(pace)} of its "
            f"rate, for {how_long} of this time: fewer samples, each of them worth more."
        )
