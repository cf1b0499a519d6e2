"""The governor on real probes: a tiny budget sheds, a raised one restores, every act is visible."""

from __future__ import annotations

import threading
import time

import pytest

from huatuo.governor import Governor
from huatuo.kernel.host import Host
from huatuo.probes.running import ProbeSet
from huatuo.selfmetrics import describe, governor_metrics
from tests.live.workload import nap_storm

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

PERIOD = 0.5


class OfProbes(Governor):
    """Judges the probes alone: the CPU of this test process is not an agent's."""

    def _measure_agent(self, at_least_seconds: float) -> None:  # noqa: ARG002
        self.agent_ratio = 0.0


def measured_step(governor: Governor) -> None:
    """A window under load, then a judgement."""
    load = threading.Thread(target=nap_storm, args=(0.5, 8, 0.001))
    load.start()
    governor.begin_window()
    time.sleep(0.4)
    governor.end_window()
    load.join()
    governor.step()


def shed_until_it_helps_no_more(governor: Governor) -> None:
    before = -1
    while len(governor.decisions) != before:
        before = len(governor.decisions)
        governor.step()


def test_sheds_under_a_tiny_budget_and_restores_under_a_large_one() -> None:
    host = Host()
    probes = ProbeSet(host, ["auto", "-profile.cpu", "-profile.blocked"])
    probes.start()
    governor = OfProbes(host, probes, cpu_budget=1e-6, memory_budget=1 << 40, period_seconds=PERIOD)
    try:
        at_first = {entry.name for entry, _ in probes.running()}
        assert "cpu.sched" in at_first
        measured_step(governor)
        sched = governor.costs["cpu.sched"]
        assert sched.hits_per_second > 100
        assert 20 < sched.ns_per_hit < 20_000
        assert not governor.decisions, "one busy measurement sheds nothing"
        shed_until_it_helps_no_more(governor)
        left = {entry.name for entry, _ in probes.running()}
        shed = at_first - left
        assert "cpu.sched" in shed, "under this load it costs most"
        assert {d.action for d in governor.decisions} == {"shed"}
        assert {d.probe for d in governor.decisions} == shed
        state = describe(probes.entries["cpu.sched"])
        assert state.status == "shed"
        assert "over the budget" in state.reason

        governor.cpu_budget = 100.0
        deadline = time.monotonic() + 30
        while {e.name for e, _ in probes.running()} != at_first and time.monotonic() < deadline:
            governor.step()
            time.sleep(PERIOD / 2)
        assert {entry.name for entry, _ in probes.running()} == at_first
        families = {m.name: m for m in governor_metrics(governor, [])}
        decisions = families["huatuo_governor_decisions_total"]
        assert decisions.values.sum() == 2 * len(shed)
    finally:
        probes.stop()


def test_the_dearest_and_least_important_goes_first() -> None:
    """Cost and priority decide: with equal load the order follows cost x (100 - priority)."""
    host = Host()
    probes = ProbeSet(host, ["auto", "-profile.cpu", "-profile.blocked"])
    probes.start()
    governor = OfProbes(host, probes, cpu_budget=1e-6, memory_budget=1 << 40, period_seconds=PERIOD)
    try:
        measured_step(governor)
        governor.step()
        first = governor.decisions[-1].probe
        weights = {
            name: cost.ratio * (100 - probes.entries[name].cls.priority)
            for name, cost in governor.costs.items()
        }
        assert first == max(weights, key=lambda name: weights[name])
    finally:
        probes.stop()


def test_a_probe_named_by_the_user_is_never_shed() -> None:
    host = Host()
    probes = ProbeSet(host, ["cpu.sched"])
    probes.start()
    governor = OfProbes(host, probes, cpu_budget=1e-9, memory_budget=1 << 40, period_seconds=PERIOD)
    try:
        measured_step(governor)
        governor.step()
        assert [entry.name for entry, _ in probes.running()] == ["cpu.sched"]
    finally:
        probes.stop()


def test_a_profiler_samples_less_before_it_is_stopped_and_weighs_more() -> None:
    """At a tiny budget of profilers the rate falls step by step; what a sample stands for rises."""
    host = Host()
    probes = ProbeSet(host, ["profile.cpu"], {"profile.cpu": {"samples_per_second": 99}})
    probes.start()
    need_running(probes, "profile.cpu")
    governor = OfProbes(host, probes, 1.0, 1 << 40, period_seconds=PERIOD, profiling_budget=1e-9)
    try:
        weights = []
        for _ in range(3):
            list(probes.drain())
            measured_step(governor)
            rows = [batch.rows for _, batch in probes.drain()]
            weights.append(int(rows[-1]["value"][-1]))
        assert [decision.action for decision in governor.decisions] == ["slower"] * 3
        assert governor.paces == {"profile.cpu": 1 / 8}
        period = 1e9 / 99
        assert [round(weight / period) for weight in weights] == [1, 2, 4]
        governor.profiling_budget = 1.0
        measured_step(governor)
        assert governor.paces == {"profile.cpu": 1 / 4}
        assert governor.decisions[0].action == "faster"
    finally:
        probes.stop()


def need_running(probes: ProbeSet, name: str) -> None:
    entry = probes.entries[name]
    if entry.status != "running":
        pytest.skip(entry.reason)
