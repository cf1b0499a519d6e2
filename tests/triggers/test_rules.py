"""Triggers over snapshots of known numbers: who fires, when, and what is said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from huatuo.enrich.event_counts import EventCounts
from huatuo.errors import ConfigError
from huatuo.model.event import Container, Event
from huatuo.model.meaning import Role
from huatuo.model.metric import Column, Metric, edges
from huatuo.settings import Trigger
from huatuo.triggers.builtin import BUILTIN
from huatuo.triggers.rules import Engine, Firing, rules
from huatuo.triggers.values import Baseline, Usual

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
SLOTS = 27


def engine(when: str, baseline: Baseline | None = None, **settings: Any) -> Engine:
    table = {"name": "mine", "when": when, **settings}
    return Engine([r for r in rules([table]) if r.trigger.name == "mine"], baseline)


def gauge(name: str, samples: Mapping[tuple[str, ...], float], *labels: str) -> Metric:
    return Metric.of(f"huatuo_{name}", Role.GAUGE, "", samples, labels)


def histogram(name: str, slots: Mapping[str, Mapping[int, int]]) -> Metric:
    values = np.zeros((len(slots), SLOTS), np.uint64)
    for row, counts in enumerate(slots.values()):
        for slot, count in counts.items():
            values[row, slot] = count
    return Metric(f"huatuo_{name}", Role.HISTOGRAM, "", values,
                  {"container": Column(list(slots))}, values.sum(axis=1) * 0.25)  # fmt: skip


def fed(found: Engine, *snapshots: list[Metric], step: float = 10) -> list[list[Firing]]:
    times = [START + int(i * step * SECOND) for i in range(len(snapshots))]
    return [found.observe(t, snapshot) for t, snapshot in zip(times, snapshots, strict=True)]


def targets(answers: list[list[Firing]]) -> list[list[str]]:
    return [[firing.target for firing in firings] for firings in answers]


def used(**seconds: float) -> list[Metric]:
    return [gauge("used_seconds_total", {(n,): v for n, v in seconds.items()}, "container")]


def test_a_rate_fires_for_its_container_only() -> None:
    found = engine("rate(used_seconds_total) > 80 %", per="container")
    answers = fed(found, used(a=0, b=0), used(a=9, b=7), used(a=10, b=7))
    assert targets(answers) == [[], ["a"], []]
    (fact,) = answers[1][0].facts
    assert (fact.value, fact.limit) == (pytest.approx(0.9), pytest.approx(0.8))
    assert str(fact) == "rate(used_seconds_total) = 90.0% (> 80.0%)"


def test_the_host_is_the_sum_of_what_the_labels_select() -> None:
    def cpu(system: float, idle: float) -> list[Metric]:
        samples = {(cpu, state): value for cpu in "01"
                   for state, value in (("system", system), ("idle", idle))}  # fmt: skip
        return [gauge("cpu_total", samples, "cpu", "state")]

    when = 'rate(cpu_total{state="system"}) / rate(cpu_total) > 45 %'
    assert targets(fed(engine(when), cpu(0, 0), cpu(4, 6), cpu(9, 11))) == [[], [], [""]]


def test_what_appears_or_starts_anew_has_no_rate() -> None:
    """A counter that was not seen before, or goes back, says nothing of the last interval."""
    found = engine("rate(used_seconds_total) > 10 %", per="container")
    answers = fed(found, used(a=0), used(a=0, new=500), used(a=0, new=501), used(a=0, new=0))
    assert targets(answers) == [[], [], [], []]
    assert targets(fed(found, used(a=0, new=0), used(a=0, new=9))) == [[], ["new"]]


def test_hold_and_cool_down_are_each_targets_own() -> None:
    found = engine("g > 1", per="container", hold=20 * SECOND, pause=50 * SECOND)

    def now(a: float, b: float) -> list[Metric]:
        return [gauge("g", {("a",): a, ("b",): b}, "container")]

    answers = fed(found, now(2, 0), now(2, 2), now(2, 2), now(2, 2), now(2, 0), now(2, 2),
                  now(2, 2), now(2, 2), now(2, 2))  # fmt: skip
    # a holds from 0 s, fires at 20 s, rests until 70 s; b holds from 10 s, rests until 80 s
    assert targets(answers) == [[], [], ["a"], ["b"], [], [], [], ["a"], ["b"]]
    assert answers[2][0].since_ns == START


def test_a_break_of_the_condition_begins_the_hold_anew() -> None:
    found = engine("g > 1", hold=20 * SECOND)
    answers = fed(found, *([gauge("g", {(): value})] for value in (2, 2, 0, 2, 2, 2)))
    assert targets(answers) == [[], [], [], [], [], [""]]


def test_include_and_exclude_are_whole_names() -> None:
    found = engine("g > 1", per="container", include="web.*", exclude="web-9")
    names = ["web-1", "web-9", "db", "my-web-1"]
    snapshot = [gauge("g", {(name,): 2.0 for name in names}, "container")]
    assert targets(fed(found, snapshot)) == [["web-1"]]


def test_change_is_against_the_median_of_the_time_before() -> None:
    found = engine("g - before(g, 1m) > 20", pause=0)
    values = [10, 10, 90, 10, 10, 10, 10, 35, 35, 12]  # one spike does not change the median
    answers = fed(found, *([gauge("g", {(): float(v)})] for v in values))
    assert [bool(a) for a in answers] == [False] * 7 + [True, True, False]
    assert engine("g - before(g, 1m) > 20").observe(START, [gauge("g", {(): 90.0})]) == []


def test_what_was_not_there_before_has_grown_by_all_it_is() -> None:
    found = engine("grown(g, 1m) > 20", per="container", pause=0)

    def now(**values: float) -> list[Metric]:
        return [gauge("g", {(name,): value for name, value in values.items()}, "container")]

    snapshots = [now(a=50.0)] * 4 + [now(a=60.0, new=30.0), now(a=75.0, new=30.0)]
    assert targets(fed(found, *snapshots)) == [[], [], [], [], ["new"], ["a", "new"]]
    fresh = engine("grown(g, 1m) > 20", per="container")
    assert targets(fed(fresh, now(a=50.0), now(a=50.0))) == [[], []], "nothing is known yet"


def test_an_event_fires_once_it_is_counted() -> None:
    """A series that begins with the first event, after a time in which there was none."""
    found = engine('grown(events_total{probe="memory.oom"}, 1m) >= 1', per="container")
    counts = EventCounts()
    snapshots = [[counts.metric()] for _ in range(4)]
    for name, probe in (("web", "memory.oom"), ("db", "net.drop"), ("web", "memory.oom")):
        owner = Container(name, "container", f"/{name}")
        counts.add([Event("2026-01-01T00:00:00Z", probe, "oom_kills", "", container=owner)])
        snapshots.append([counts.metric()])
    assert targets(fed(found, *snapshots)) == [[], [], [], [], ["web"], [], []]


def test_quantiles_are_of_the_last_interval() -> None:
    found = engine("p99(wait_seconds) > 20 ms and rate(wait_seconds) > 5", per="container")
    slow = edges(SLOTS).index(2**-4)  # up to 62 ms
    first = [histogram("wait_seconds", {"a": {slow: 1000}, "b": {3: 10}, "c": {3: 10}})]
    then = [histogram("wait_seconds", {"a": {slow: 1000, 3: 990}, "b": {3: 20, slow: 90},
                                       "c": {3: 10, slow: 9}})]  # fmt: skip
    answers = fed(found, first, then)
    assert targets(answers) == [[], ["b"]], "a was slow before, c is not often enough"
    assert 2**-5 < answers[1][0].facts[0].value < 2**-4
    assert fed(engine("mean(wait_seconds) > 200 ms", per="container"), first, then)[1]


def test_labels_are_compared_with_each_other() -> None:
    found = engine("rate(delay_total{victim!=culprit}) > 1", per="victim",
                   suspects="rate(delay_total{victim!=culprit}) per culprit")  # fmt: skip

    def delay(own: float, other: float) -> list[Metric]:
        samples = {("a", "a"): own, ("a", "b"): other, ("b", "c"): other / 4}
        return [gauge("delay_total", samples, "victim", "culprit")]

    answers = fed(found, delay(0, 0), delay(900, 8), delay(1800, 48))
    assert targets(answers) == [[], [], ["a"]]
    assert answers[2][0].suspects == (("b", pytest.approx(4.0)), ("c", pytest.approx(1.0)))


def test_series_may_move_within_a_family() -> None:
    found = engine("rate(used_seconds_total) > 80 %", per="container", pause=0)
    answers = fed(found, used(a=0, b=0), used(b=0, a=9), used(c=5, b=9, a=9), used(b=9))
    assert targets(answers) == [[], ["a"], ["b"], []]


def test_a_family_without_the_label_is_for_all() -> None:
    found = engine("g / whole > 50 %", per="container")
    parts = gauge("g", {("a",): 6.0, ("b",): 4.0}, "container")
    assert targets(fed(found, [parts, gauge("whole", {(): 10.0})])) == [["a"]]
    assert targets(fed(found, [parts])) == [[]]


class Fixed:
    def usual(self, value: str, per: str, now_ns: int) -> Mapping[str, Usual]:  # noqa: ARG002
        return {"a": Usual(100.0, 10.0, 500)} if (value, per) == ("g", "container") else {}


def test_deviation_from_what_is_usual() -> None:
    found = engine("deviation(g) > 4", Fixed(), per="container", pause=0)
    snapshots = [[gauge("g", {("a",): v, ("b",): v}, "container")] for v in (150.0, 165.0, 10.0)]
    answers = fed(found, *snapshots)
    assert targets(answers) == [[], ["a"], []], "b has no history, so nothing is said of it"
    assert answers[1][0].facts[0].value == pytest.approx(65 / 14.826)
    (learned,) = found.learned().items()
    assert (learned[0], {str(node) for node in learned[1]}) == ("container", {"g"})


def test_a_table_changes_or_removes_a_built_in_trigger() -> None:
    tables = [{"name": "fork-storm", "pause": 1}, {"name": "load", "enabled": False}]
    found = {rule.trigger.name: rule.trigger for rule in rules(tables)}
    original = {trigger.name: trigger for trigger in BUILTIN}
    assert found["fork-storm"].when == original["fork-storm"].when
    assert (found["fork-storm"].pause, "load" in found) == (1, False)
    assert len(found) == len(BUILTIN) - 1


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"name": "", "when": "a > 1"}, "expected a name"),
        ({"name": "x"}, "has no condition"),
        ({"name": "x", "when": "a >"}, "[trigger] x: when"),
        ({"name": "x", "when": "a > 1", "plan": "everything"}, "expected one of cpu"),
        ({"name": "x", "when": "a > 1", "per": "a b"}, "expected host or a label"),
        ({"name": "x", "when": "a > 1", "include": "("}, "include"),
    ],
)
def test_mistakes_name_the_trigger(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rules([table])
    assert message in str(caught.value)


def test_built_in_triggers_have_names_of_their_own() -> None:
    assert len({trigger.name for trigger in BUILTIN}) == len(BUILTIN)
    assert all(isinstance(trigger, Trigger) for trigger in BUILTIN)


def test_containers_of_some_kind_only() -> None:
    """The rules are those of [containers]; who is not known any more is not meant."""
    known = {name: Container(name, "container", f"/{name}", qos="guaranteed") for name in "ab"}
    known["b"] = Container("b", "container", "/b", qos="besteffort")
    table = {"name": "mine", "when": "rate(used_seconds_total) > 80 %", "per": "container",
             "containers": "qos=Guaranteed"}  # fmt: skip
    chosen = [r for r in rules([table]) if r.trigger.name == "mine"]
    snapshots = used(a=0, b=0, c=0), used(a=9, b=9, c=9)
    assert targets(fed(Engine(chosen, named=known.get), *snapshots)) == [[], ["a"]]
    assert targets(fed(Engine(chosen), *snapshots)) == [[], ["a", "b", "c"]]  # history


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"containers": "qso=x", "per": "container"}, 'mine: containers: "qso": unknown; did you'),
        ({"containers": "qos=guaranteed"}, "mine: containers: is for per"),
    ],
)
def test_mistakes_in_rules_for_containers(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rules([{"name": "mine", "when": "x > 1", **settings}])
    assert message in str(caught.value)
