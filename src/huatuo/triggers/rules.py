"""Triggers at work: conditions judged at each snapshot of the metrics, with hold and cool-down.

    engine = Engine(rules(config.triggers))
    for firing in engine.observe(now_ns, metrics): …

What runs at every interval is arithmetic on arrays over all targets; names and sentences are made
for what fires.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from huatuo.errors import ConfigError
from huatuo.model.event import Container
from huatuo.model.expression import Expression, compiled
from huatuo.model.metric import Metric
from huatuo.model.selection import Selection, parse_selection
from huatuo.model.units import show_bytes, show_duration
from huatuo.settings import Trigger
from huatuo.triggers.builtin import BUILTIN
from huatuo.triggers.grammar import (
    Binary,
    Compare,
    Condition,
    Join,
    Literal,
    Node,
    Past,
    Select,
    parse_condition,
    parse_value,
)
from huatuo.triggers.values import Baseline, Floats, Targets, Values, fit, moment_of

__all__ = ["PLANS", "Engine", "Fact", "Firing", "Rule", "looks_back", "rules", "shown", "unit_of"]

PLANS = ("", "cpu", "io", "memory", "network", "tasks")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
_LABEL = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_CONTAINERS = ("container", "victim", "culprit")  # labels whose values are containers
_MOST_TARGETS = 20_000  # beyond that all is forgotten: names of containers long gone
_SUSPECTS = 3
_TEST: Mapping[str, Callable[[Floats, Floats], npt.NDArray[np.bool_]]] = {
    ">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fact:
    """One comparison that was true: the value, what it was compared with, and its unit."""

    what: str
    op: str
    value: float
    limit: float
    unit: str = ""  # % · s · B · ""

    def __str__(self) -> str:
        value, limit = (shown(number, self.unit) for number in (self.value, self.limit))
        return f"{self.what} = {value} ({self.op} {limit})"


@dataclass(frozen=True, slots=True)
class Firing:
    """A trigger fired at `time_ns` for a target ("" is the host); its condition held since
    `since_ns`. `suspects`: (name, value), the greatest first."""

    trigger: Trigger
    target: str
    time_ns: int
    since_ns: int
    facts: tuple[Fact, ...]
    suspects: tuple[tuple[str, float], ...] = ()


def shown(value: float, unit: str) -> str:
    if unit == "%":
        return f"{value:.1%}"
    if unit == "s":
        return show_duration(value)
    return show_bytes(value) if unit == "B" else f"{value:.4g}"


@dataclass(frozen=True, slots=True)
class Rule:
    """A trigger whose texts are understood."""

    trigger: Trigger
    condition: Condition
    suspects: Node | None
    suspects_per: str
    include: Expression | None
    exclude: Expression | None
    containers: Selection | None

    def is_about(self, target: str) -> bool:
        if self.include is not None and not self.include.fullmatch(target):
            return False
        return self.exclude is None or not self.exclude.fullmatch(target)


def rules(tables: Iterable[Mapping[str, Any]] = ()) -> list[Rule]:
    """The built-in triggers as the tables change them, and those that they add. Raises
    ConfigError."""
    found = {trigger.name: trigger for trigger in BUILTIN}
    for number, table in enumerate(tables, 1):
        name = str(table.get("name", ""))
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f'[trigger] number {number}: name = "{name}": expected a name such as my-trigger'
            )
        found[name] = replace(found.get(name, Trigger()), **table)
    return [_rule(trigger) for trigger in found.values() if trigger.enabled]


def _rule(trigger: Trigger) -> Rule:
    where = f"[trigger] {trigger.name}"
    if not trigger.when:
        hint = 'for example "rate(cpu_usage_forks_total) > 1000"'
        raise ConfigError(f"{where}: has no condition `when`; {hint}")
    if trigger.plan not in PLANS:
        known = ", ".join(plan for plan in PLANS if plan)
        raise ConfigError(f'{where}: plan = "{trigger.plan}": expected one of {known}')
    if not _LABEL.fullmatch(trigger.per):
        raise ConfigError(f'{where}: per = "{trigger.per}": expected host or a label')
    if trigger.containers and trigger.per not in _CONTAINERS:
        raise ConfigError(
            f'{where}: containers: is for per = "container", and this one is per {trigger.per}'
        )
    text, _, per = trigger.suspects.partition(" per ")
    return Rule(
        trigger,
        parse_condition(trigger.when, f"{where}: when"),
        parse_value(text, f"{where}: suspects") if text else None,
        per.strip() or "container",
        _expression(trigger.include, f"{where}: include"),
        _expression(trigger.exclude, f"{where}: exclude"),
        parse_selection(trigger.containers, f"{where}: containers"),
    )


def _expression(text: str, where: str) -> Expression | None:
    try:
        return compiled(text) if text else None
    except ValueError as error:
        raise ConfigError(f'{where} = "{text}": {error}') from error


@dataclass(slots=True)
class _State:
    """Of one rule, by target: since when its condition holds, when it fired last, who counts."""

    since: Floats = field(default_factory=lambda: np.empty(0))
    fired: Floats = field(default_factory=lambda: np.empty(0))
    counts: npt.NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, bool))


class Engine:
    """All rules over one stream of snapshots. Not for several threads.

    `named`: what is known of a container by its full name. Without it, as in history, the key
    `containers` of triggers has no effect.
    """

    def __init__(
        self,
        chosen: Sequence[Rule],
        baseline: Baseline | None = None,
        named: Callable[[str], Container | None] | None = None,
    ) -> None:
        self.rules = chosen
        self._named = named
        self._baseline = baseline
        self._origin_ns = 0  # of the times in states: as floats they stay exact
        self._forget()

    def _forget(self) -> None:
        self._values: dict[str, Values] = {}
        self._states = [_State() for _ in self.rules]
        for rule in self.rules:
            for node in _compared(rule.condition):
                self._of(rule.trigger.per).add(node)
            if rule.suspects is not None:
                self._of(rule.suspects_per).add(rule.suspects)

    def _of(self, per: str) -> Values:
        if per not in self._values:
            self._values[per] = Values(Targets(per), self._baseline)
        return self._values[per]

    @property
    def families(self) -> set[str]:
        """All that the rules look at."""
        return {family for values in self._values.values() for family in values.families}

    def learned(self) -> dict[str, set[Node]]:
        """By kind of target: the values whose usual size is asked for."""
        found: dict[str, set[Node]] = {}
        for rule in self.rules:
            for node in _compared(rule.condition):
                found.setdefault(rule.trigger.per, set()).update(_learned(node))
        return {per: nodes for per, nodes in found.items() if nodes}

    def observe(self, now_ns: int, metrics: Iterable[Metric]) -> list[Firing]:
        """Judge a snapshot; returns what fires now."""
        if any(len(values.targets) > _MOST_TARGETS for values in self._values.values()):
            self._forget()
        moment = moment_of(now_ns, metrics)
        self._origin_ns = self._origin_ns or now_ns
        for values in self._values.values():
            values.observe(moment)
        found: list[Firing] = []
        for rule, state in zip(self.rules, self._states, strict=True):
            found += self._judge(rule, state, now_ns)
        return found

    def _judge(self, rule: Rule, state: _State, now_ns: int) -> list[Firing]:
        values = self._values[rule.trigger.per]
        size = len(values.targets)
        true = _truth(rule.condition, values, size)
        if not true.any():
            state.since.fill(np.nan)
            return []
        self._grow(rule, state, values.targets)
        true &= state.counts
        now = float(now_ns - self._origin_ns)
        state.since = np.where(true, np.where(np.isnan(state.since), now, state.since), np.nan)
        rested = np.isnan(state.fired) | (now - state.fired >= rule.trigger.pause)
        due = true & rested & (now - np.nan_to_num(state.since) >= rule.trigger.hold)
        meant = [n for n in np.flatnonzero(due).tolist() if self._means(rule, values, n)]
        state.fired[meant] = now
        return [
            Firing(
                rule.trigger,
                values.targets.names[number],
                now_ns,
                self._origin_ns + int(state.since[number]),
                tuple(_facts(rule.condition, values, number)),
                self._suspects(rule, values.targets.names[number]),
            )
            for number in meant
        ]

    def _means(self, rule: Rule, values: Values, number: int) -> bool:
        """Whether the trigger is for this container; asked late, when all is known of it."""
        if rule.containers is None or self._named is None:
            return True
        owner = self._named(values.targets.names[number])
        return owner is not None and rule.containers.matches(owner)

    @staticmethod
    def _grow(rule: Rule, state: _State, targets: Targets) -> None:
        known, size = len(state.counts), len(targets)
        if known < size:
            state.since, state.fired = fit(state.since, size), fit(state.fired, size)
            about = [rule.is_about(name) for name in targets.names[known:]]
            state.counts = np.append(state.counts, np.array(about, bool))

    def _suspects(self, rule: Rule, target: str) -> tuple[tuple[str, float], ...]:
        if rule.suspects is None:
            return ()
        values = self._values[rule.suspects_per]
        size = len(values.targets)
        ranked = np.nan_to_num(fit(values.of(rule.suspects), size), nan=-np.inf)
        names = values.targets.names
        best = [
            n
            for n in np.argsort(-ranked, kind="stable")[: _SUSPECTS + 1].tolist()
            if ranked[n] > 0 and names[n] != target
        ]
        return tuple((names[n], float(ranked[n])) for n in best[:_SUSPECTS])


def _compared(condition: Condition) -> list[Node]:
    """All values of a condition."""
    if isinstance(condition, Join):
        return [*_compared(condition.left), *_compared(condition.right)]
    return [condition.left, condition.right]


def _learned(node: Node) -> set[Node]:
    if isinstance(node, Binary):
        return _learned(node.left) | _learned(node.right)
    if isinstance(node, Past):
        return (set() if node.seconds else {node.value}) | _learned(node.value)
    return set()


def looks_back(node: Node) -> bool:
    """Whether a value depends on earlier ones."""
    if isinstance(node, Binary):
        return looks_back(node.left) or looks_back(node.right)
    return isinstance(node, Past)


def _truth(condition: Condition, values: Values, size: int) -> npt.NDArray[np.bool_]:
    """(targets,); what is not known is not true. What cannot change the answer is not computed."""
    if isinstance(condition, Join):
        left = _truth(condition.left, values, size)
        if condition.op == "and":
            return left & _truth(condition.right, values, size) if left.any() else left
        return left | _truth(condition.right, values, size)
    left_value, right_value = fit(values.of(condition.left), size), values.of(condition.right)
    with np.errstate(invalid="ignore"):
        return _TEST[condition.op](left_value, fit(right_value, size))


def _facts(condition: Condition, values: Values, number: int) -> list[Fact]:
    """The comparisons that are true for a target."""
    if isinstance(condition, Join):
        sides = (condition.left, condition.right)
        return [fact for side in sides for fact in _facts(side, values, number)]
    if not _truth(condition, values, len(values.targets))[number]:
        return []
    left, right = (
        float(fit(values.of(side), len(values.targets))[number])
        for side in (condition.left, condition.right)
    )
    return [Fact(str(condition.left), condition.op, left, right, unit_of(condition))]


def unit_of(compare: Compare) -> str:
    """As the limit is written, or as the family's name says."""
    for node in (compare.right, compare.left):
        if found := _unit_of(node):
            return found
    return ""


def _unit_of(node: Node) -> str:
    if isinstance(node, Literal):
        return node.unit
    if isinstance(node, Binary):
        if node.op == "/" and not isinstance(node.right, Literal):
            return ""
        return _unit_of(node.left) or _unit_of(node.right)
    if isinstance(node, Past):
        return _unit_of(node.value) if node.kind != "deviation" else ""
    assert isinstance(node, Select)
    if node.form == "rate":
        return ""
    name = node.family.removesuffix("_total")
    return "B" if name.endswith("_bytes") else "s" if name.endswith("_seconds") else ""
