"""What the store knows of the time around a trigger: the condition's values, events, profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from huatuo.export.flamegraph import flame_tree, sums
from huatuo.model.incident import EvidenceEvent, EvidenceMetric, FunctionShare, Suspect
from huatuo.model.profile import Profile
from huatuo.store.base import EventQuery, Store
from huatuo.store.profiles import Matcher as LabelMatcher
from huatuo.store.profiles import ProfileQuery
from huatuo.tracing.replay import snapshots
from huatuo.triggers.grammar import (
    Binary,
    Compare,
    Condition,
    Join,
    Literal,
    Matcher,
    Node,
    Past,
    Select,
)
from huatuo.triggers.rules import Rule, looks_back, unit_of
from huatuo.triggers.values import Floats, Targets, Values, fit, moment_of

__all__ = [
    "container_of",
    "events_around",
    "growth",
    "matchers_of",
    "profile_between",
    "series_of",
    "shares",
    "short_name",
    "suspects_of",
]

_SIGMAS = 4 * 1.4826  # median absolute deviations
_EVENTS = 50
_FUNCTIONS = 20
_SUSPECTS = 3
_LEAST_GROWTH = 0.01


def series_of(store: Store, rule: Rule, target: str, start_ns: int, end_ns: int,
              since_ns: int) -> list[EvidenceMetric]:  # fmt: skip
    """Each value that the condition compares, over the range, judged by what it was before
    `since_ns`."""
    compares = _compares(rule.condition)
    plain = [compare for compare in compares if not looks_back(compare.left)]
    nodes = {str(compare.left): compare for compare in plain or compares}
    values = Values(Targets(rule.trigger.per))
    for compare in nodes.values():
        values.add(compare.left)
    times: list[int] = []
    rows: list[list[float]] = []
    for now_ns, metrics in snapshots(store, values.families, start_ns, end_ns + 1):
        values.observe(moment_of(now_ns, metrics))
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


def suspects_of(store: Store, rule: Rule, target: str, start_ns: int, end_ns: int,
                since_ns: int) -> list[Suspect]:  # fmt: skip
    """Whom the trigger's ranking names, on average since it began to hold: when it fires, what
    came with it has no rate yet. Where the ranking is about kinds of targets such as the
    trigger's (victims), only what concerns this one counts."""
    if rule.suspects is None:
        return []
    node = _concerning(rule.suspects, rule.trigger.per, target)
    values = Values(Targets(rule.suspects_per))
    values.add(node)
    rows: list[Floats] = []
    for now_ns, metrics in snapshots(store, values.families, start_ns, end_ns + 1):
        values.observe(moment_of(now_ns, metrics))
        if now_ns >= since_ns:
            rows.append(values.of(node))
    names = values.targets.names
    if not rows or not names:
        return []
    mean = np.nan_to_num(np.stack([fit(row, len(names)) for row in rows])).mean(axis=0)
    best = np.argsort(-mean, kind="stable")[: _SUSPECTS + 1].tolist()
    found = [Suspect(names[n], float(mean[n])) for n in best if mean[n] > 0 and names[n] != target]
    return found[:_SUSPECTS]


def _concerning(node: Node, per: str, target: str) -> Node:
    """With the trigger's target for every selection that looks at such a label."""
    if isinstance(node, Select) and any(matcher.label == per for matcher in node.matchers):
        return replace(node, matchers=(*node.matchers, Matcher(per, "=", target)))
    if isinstance(node, Past):
        return replace(node, value=_concerning(node.value, per, target))
    if isinstance(node, Binary):
        sides = (_concerning(side, per, target) for side in (node.left, node.right))
        return Binary(node.op, *sides)
    return node


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


def matchers_of(container: str) -> tuple[LabelMatcher, ...]:
    """What selects a container's samples; nothing for the host."""
    if not container:
        return ()
    parts = container.split("/")
    found = [LabelMatcher("container", "=", short_name(container))]
    if len(parts) == 3 and parts[0]:
        found += [LabelMatcher("namespace", "=", parts[0]), LabelMatcher("pod", "=", parts[1])]
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
