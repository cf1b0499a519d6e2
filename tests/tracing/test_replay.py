"""Triggers on stored history: the same answers as live, and a baseline learned from weeks past."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from huatuo.cli import main
from huatuo.model.meaning import Role
from huatuo.model.metric import Column, Metric
from huatuo.store.embedded import EmbeddedStore
from huatuo.tracing.baseline import LearnedBaseline
from huatuo.tracing.replay import replay, snapshots
from huatuo.triggers.rules import Engine, rules

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
NOW = 1_750_000_000 * SECOND


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    opened = EmbeddedStore(tmp_path / "store", max_bytes=1 << 28, max_age_seconds=60 * 86400)
    yield opened
    opened.close()


def snapshot(step: int) -> list[Metric]:
    """`a` uses 10 % of a CPU but 90 % in steps 400 to 404; waits are 4 ms, in those 60 ms."""
    fast = min(step, 400) + max(step - 404, 0)
    busy = step - fast
    used = {("a",): fast + busy * 9.0, ("b",): step * 2.0}
    slots = np.zeros((1, 27), np.uint64)
    slots[0, 12], slots[0, 16] = fast * 1000, busy * 1000
    wait = Metric("huatuo_wait_seconds", Role.HISTOGRAM, "", slots,
                  {"container": Column(["a"])}, np.array([fast * 4.0 + busy * 60]))  # fmt: skip
    return [Metric.of("huatuo_used_seconds_total", Role.COUNTER, "", used, ["container"]), wait]


WHENS = {
    "busy": "rate(used_seconds_total) > 80 % and rate(used_seconds_total) > 2 *"
    " before(rate(used_seconds_total), 5m)",
    "slow": "p99(wait_seconds) > 20 ms",
}


def chosen() -> list[object]:
    tables = [{"name": name, "when": when, "per": "container", "pause": 20 * SECOND}
              for name, when in WHENS.items()]  # fmt: skip
    return [rule for rule in rules(tables) if rule.trigger.name in WHENS]


def test_replayed_history_fires_as_it_did_live(store: EmbeddedStore) -> None:
    live = Engine(chosen())  # type: ignore[arg-type]
    expected = []
    for step in range(900):  # two and a half hours: head, chunks, the hour's border
        now_ns = NOW + step * 10 * SECOND
        store.append_metrics(now_ns, snapshot(step))
        expected += live.observe(now_ns, snapshot(step))
    engine = Engine(chosen())  # type: ignore[arg-type]
    found = list(replay(store, engine, NOW, NOW + 9000 * SECOND))
    assert [(f.trigger.name, f.target, (f.time_ns - NOW) // SECOND) for f in found] == [
        ("busy", "a", 4010), ("slow", "a", 4010), ("busy", "a", 4030), ("slow", "a", 4030),
    ]  # fmt: skip
    assert [f.facts for f in found] == [f.facts for f in expected]
    assert len(list(snapshots(store, ["huatuo_wait_seconds"], NOW, NOW + 9000 * SECOND))) == 900


def test_the_command_says_when_and_with_which_numbers(
    store: EmbeddedStore, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for step in range(380, 420):
        store.append_metrics(NOW + step * 10 * SECOND, snapshot(step))
    file = tmp_path / "mine.toml"
    file.write_text(f'[[trigger]]\nname = "busy"\nper = "container"\nwhen = "{WHENS["slow"]}"\n')
    monkeypatch.setattr("time.time_ns", lambda: NOW + 5000 * SECOND)
    words = ["triggers", "--store", str(tmp_path / "store"), "test", str(file), "--since", "2h"]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "busy  a" in told
    assert "p99(wait_seconds) = " in told
    assert "(> 20 ms)" in told
    assert "1 times in" in told


def test_the_usual_size_is_that_of_this_hour_of_the_week(store: EmbeddedStore) -> None:
    """100 to 120 in this hour one and two weeks ago, 5 at other times; what is 500 deviates."""

    def fill(middle: int, value: float) -> None:
        for step in range(-300, 300):
            level = value + 10 * (step % 3)
            metric = Metric.of("huatuo_g", Role.GAUGE, "", {("a",): level}, ["container"])
            store.append_metrics(middle + step * 10 * SECOND, [metric])

    fill(NOW - 14 * DAY, 100)
    fill(NOW - 10 * DAY, 5)
    fill(NOW - 7 * DAY, 100)
    table = {"name": "odd", "when": "deviation(g) > 8", "per": "container"}
    rule = [rule for rule in rules([table]) if rule.trigger.name == "odd"]
    baseline = LearnedBaseline(store, Engine(rule).learned())
    assert baseline.is_due(NOW)
    assert len(baseline.notices) == 1
    baseline.refresh(NOW)
    usual = baseline.usual("g", "container", NOW)["a"]
    assert (usual.median, usual.deviation) == (110.0, 10.0)
    assert baseline.notices == []
    engine = Engine(rule, baseline)

    def fires(value: float) -> bool:
        metric = Metric.of("huatuo_g", Role.GAUGE, "", {("a",): value, ("b",): value},
                           ["container"])  # fmt: skip
        return bool(engine.observe(NOW, [metric]))

    assert [fires(value) for value in (5.0, 115.0, 200.0, 500.0)] == [False, False, False, True]
    baseline.refresh(NOW + DAY)
    assert len(baseline.notices) == 1
    assert "not enough history" in baseline.notices[0]
