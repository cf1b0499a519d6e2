"""An incident's evidence from a store of known content: what is marked, who is named, what grew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from huatuo.model.incident import Capture, Incident
from huatuo.model.meaning import Role
from huatuo.model.metric import Metric
from huatuo.model.profile import FrameKind, Line, Location, Samples, Stack
from huatuo.settings import Trigger
from huatuo.store.embedded import EmbeddedStore
from huatuo.tracing import report
from huatuo.tracing.capture import Captured
from huatuo.tracing.evidence import matchers_of, profile_between
from huatuo.triggers.rules import Fact, Firing, Rule, rules

SECOND = 1_000_000_000
NOW = 1_750_000_000 * SECOND
SINCE = NOW - 20 * SECOND
WHEN = "rate(delay_total{victim!=culprit}) > 40 %"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    opened = EmbeddedStore(tmp_path / "store", max_bytes=1 << 28, max_age_seconds=86400 * 7)
    yield opened
    opened.close()


def rule(per: str = "victim") -> Rule:
    table = {"name": "mine", "when": WHEN, "per": per,
             "suspects": "rate(delay_total{victim!=culprit}) per culprit"}  # fmt: skip
    return next(rule for rule in rules([table]) if rule.trigger.name == "mine")


def begun() -> Incident:
    fact = Fact("rate(delay_total{victim!=culprit})", ">", 0.9, 0.4, "%")
    trigger = Trigger("mine", WHEN, "victim", plan="cpu")
    return report.begun(Firing(trigger, "db", NOW, SINCE, (fact,)), "2025-06-15T15:06:40Z")


def fill_metrics(store: EmbeddedStore) -> None:
    """db waits 10 % because of web, from SINCE on 90 % because of etl, which was not there before;
    web has waited 300 % because of others all the time."""
    for step in range(-36, 7):
        late = max(step - 0, 0)
        delays = {("db", "web"): step * 1.0 + 100, ("web", "other"): step * 30.0 + 2000}
        if step >= 0:
            delays["db", "etl"] = late * 9.0
        metric = Metric.of("huatuo_delay_total", Role.COUNTER, "", delays, ["victim", "culprit"])
        store.append_metrics(SINCE + step * 10 * SECOND, [metric])


def fill_profiles(store: EmbeddedStore) -> None:
    """In the quiet hour db runs `parse`, since then `burn` for the most part; web runs `serve`."""

    def samples(function: str, container: str, times: list[int]) -> None:
        stack = Stack((Location(FrameKind.NATIVE, "prog", len(function), "", (Line(function),)),))
        count = len(times)
        zeros = np.zeros(count, np.int32)
        store.profiles.append(Samples("cpu", np.array(times), np.full(count, 10**7), [stack], zeros,
                                      [{"container": container}], zeros))  # fmt: skip

    samples("parse", "db", [NOW - n * 30 * SECOND for n in range(3, 110)])
    samples("serve", "web", [NOW - n * SECOND for n in range(600)])
    samples("burn", "db", [NOW - n * SECOND // 5 for n in range(90)])
    samples("parse", "db", [NOW - n * SECOND for n in range(10)])


def test_the_evidence_of_the_minutes_before(store: EmbeddedStore) -> None:
    fill_metrics(store)
    fill_profiles(store)
    found = report.judged(store, begun(), rule(), SINCE)
    (metric,) = found.metrics
    assert (metric.what, metric.unit) == ("rate(delay_total{victim!=culprit})", "%")
    marked = [time for time, odd in zip(metric.times_ns, metric.marked, strict=True) if odd]
    assert marked == [SINCE + 10 * SECOND, SINCE + 20 * SECOND], "and nothing before"
    assert metric.values[5] == pytest.approx(0.1)
    assert [suspect.name for suspect in found.suspects] == ["etl", "web"], "what concerns db"
    grown = found.before[0]
    assert (grown.function, grown.base_ratio) == ("burn", 0.0)
    assert grown.own_ratio > 0.8
    assert "serve" not in {one.function for one in found.before}
    assert "mine fired for db" in found.summary
    assert "may have caused it: etl, web" in found.summary
    assert "most grew burn (from 0 % to" in found.summary


def test_without_history_it_says_so(store: EmbeddedStore) -> None:
    found = report.judged(store, begun(), rule(), SINCE)
    assert found.before == []
    assert "no samples" in found.before_note
    fill_profiles(store)
    of_web = msgspec.structs.replace(begun(), target="gone")
    assert "no samples" in report.judged(store, of_web, rule(), SINCE).before_note


@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [("refused", "12 captures in an hour", "was refused: 12 captures in an hour"),
     ("failed", "no BPF here", "failed: no BPF here"), ("done", "", "found nothing")],
)  # fmt: skip
def test_the_outcome_of_the_capture_is_told(
    store: EmbeddedStore, status: str, reason: str, said: str
) -> None:
    capture = Capture(3, "cpu", "db", status, reason)
    outcome = Captured({}, [], [], 0.1) if status == "done" else None
    found, files = report.captured(store, begun(), capture, outcome, SINCE)
    assert said in found.summary
    assert files == []


def test_captured_profiles_are_compared_with_the_quiet_hour(store: EmbeddedStore) -> None:
    fill_profiles(store)
    profile = profile_between(store, "db", SINCE, NOW)
    outcome = Captured({"cpu": profile}, [], [], 0.1)
    found, files = report.captured(store, begun(), Capture(3, "cpu", "db", "done"), outcome, SINCE)
    assert found.capture is not None
    shares = {one.function: one for one in found.capture.profiles["cpu"]}
    assert shares["burn"].base_ratio == 0.0
    assert shares["parse"].base_ratio == 1.0
    assert sorted(file.name for file in files) == ["before.svg", "cpu.pb.gz", "cpu.svg"]
    assert "Captured CPU time: burn" in found.summary


def test_a_pods_container_is_selected_by_all_its_names() -> None:
    assert [tuple(m) for m in matchers_of("shop/web-7/nginx")] == [
        ("container", "=", "nginx"), ("namespace", "=", "shop"), ("pod", "=", "web-7"),
    ]  # fmt: skip
    assert [tuple(m) for m in matchers_of("/a/b/c")] == [("container", "=", "/a/b/c")]
    assert matchers_of("") == ()
