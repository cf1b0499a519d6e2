"""What the store knows of the time around a trigger: the condition's values, events, profiles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from huatuo.export.flamegraph import flame_tree, sums
from huatuo.model.incident import EvidenceEvent, EvidenceMetric, FunctionShare
from huatuo.model.profile import Profile
from huatuo.store.base import EventQuery, Store
from huatuo.store.profiles import Matcher, ProfileQuery
from huatuo.tracing.replay import snapshots
from huatuo.triggers.grammar import Compare, Condition, Join, Literal
from huatuo.triggers.rules import Rule, unit_of
from huatuo.triggers.values import Floats, Moment, Targets, Values, fit

__all__ = [
    "container_of",
    "events_around",
    "growth",
    "matchers_of",
    "profile_between",
    "series_of",
    "shares",
    "short_name",
]

_SIGMAS = 4 * 1.4826  # median absolute deviations
_EVENTS = 50
_FUNCTIONS = 20
_LEAST_GROWTH = 0.01


def series_of(store: Store, rule: Rule, target: str, start_ns: int, end_ns: int,
              since_ns: int) -> list[EvidenceMetric]:  # fmt: skip
    """Each left side of the condition over the range, its values from `since_ns` on judged by
    those before."""
    nodes = {str(compare.left): compare for compare in _compares(rule.condition)}
    values = Values(Targets(rule.trigger.per))
    for compare in nodes.values():
        values.add(compare.left)
    times: list[int] = []
    rows: list[list[float]] = []
    for now_ns, metrics in snapshots(store, values.families, start_ns, end_ns):
        families = {metric.name: [m for m in metrics if m.name == metric.name]
                    for metric in metrics}  # fmt: skip
        values.observe(Moment(now_ns, families))
        at, size = values.targets.number(target), len(values.targets)
        times.append(now_ns)
        rows.append([
            float(fit(values.of(c.left), size)[at]) if at >= 0 else np.nan for c in nodes.values()
        ])  # fmt: skip
    table = np.array(rows).reshape(len(times), len(nodes))
    return [
        _judged(what, unit_of(compare), times, table[:, column], since_ns)
        for column, (what, compare) in enumerate(nodes.items())
    ]


def _compares(condition: Condition) -> list[Compare]:
    if isinstance(condition, Join):
        return [*_compares(condition.left), *_compares(condition.right)]
    return [] if isinstance(condition.left, Literal) else [condition]


def _judged(
    what: str, unit: str, times: list[int], values: Floats, since_ns: int
) -> EvidenceMetric:
    known = ~np.isnan(values)
    before = values[known & (np.array(times, np.int64) < since_ns)]
    low = high = None
    marked = np.zeros(len(values), bool)
    if len(before):
        median = float(np.median(before))
        around = max(float(np.median(np.abs(before - median))) * _SIGMAS, abs(median) * 0.1)
        low, high = median - around, median + around
        marked = known & ((values < low) | (values > high))
    numbers = [float(v) if k else None for v, k in zip(values, known, strict=True)]
    return EvidenceMetric(what, unit, times, numbers, low, high, marked.tolist())


def container_of(per: str, target: str) -> str:
    """The container a capture and a profile can be limited to; "" is the whole host."""
    return target if per in ("container", "victim", "culprit") and target != "other" else ""


def short_name(container: str) -> str:
    """As profiles and events have it, without the pod."""
    return container if container.startswith("/") else container.rpartition("/")[2]


def matchers_of(container: str) -> tuple[Matcher, ...]:
    """What selects a container's samples; nothing for the host."""
    if not container:
        return ()
    parts = container.split("/")
    found = [Matcher("container", "=", short_name(container))]
    if len(parts) == 3 and parts[0]:
        found += [Matcher("namespace", "=", parts[0]), Matcher("pod", "=", parts[1])]
    return tuple(found)


def events_around(
    store: Store, container: str, start_ns: int, end_ns: int
) -> tuple[list[EvidenceEvent], int]:
    """(the newest, how many there were)."""
    query = EventQuery(start_ns, end_ns, container=short_name(container), limit=_EVENTS)
    counts = store.event_histogram(query, 1)
    found = [EvidenceEvent(e.id, e.time, e.probe, e.title) for e in store.events(query)]
    return found, sum(sum(count.values()) for _, count in counts)


def profile_between(store: Store, container: str, start_ns: int, end_ns: int) -> Profile:
    """CPU time of a container, or of the host."""
    query = ProfileQuery("cpu", start_ns, end_ns, matchers_of(container))
    return store.profiles.merge(query)


def shares(profile: Profile, base: Profile | None = None) -> list[FunctionShare]:
    """The functions in which most of a profile was, by themselves."""
    return sorted(_shares(profile, base), key=lambda one: -one.own_ratio)[:_FUNCTIONS]


def growth(profile: Profile, base: Profile) -> list[FunctionShare]:
    """The functions whose share grew most; those that grew by a hundredth at least."""
    grown = [one for one in _shares(profile, base)
             if one.own_ratio - one.base_ratio >= _LEAST_GROWTH]  # fmt: skip
    return sorted(grown, key=lambda one: one.base_ratio - one.own_ratio)[:_FUNCTIONS]


def _shares(profile: Profile, base: Profile | None) -> Sequence[FunctionShare]:
    if not profile.total:
        return []
    tree = flame_tree([profile, base] if base is not None and base.total else [profile])
    own, total = sums(tree)
    whole = np.maximum(own.sum(axis=0), 1)
    chosen = np.argsort(-own[:, 0], kind="stable")[: 10 * _FUNCTIONS].tolist()
    return [
        FunctionShare(
            tree.functions[n].name, tree.functions[n].mapping, float(own[n, 0] / whole[0]),
            float(total[n, 0] / whole[0]), float(own[n, -1] / whole[-1]) if len(whole) > 1 else 0.0,
        )
        for n in chosen
        if own[n, 0] > 0 and tree.functions[n].name
    ]  # fmt: skip
