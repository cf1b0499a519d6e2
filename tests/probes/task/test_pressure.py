"""task.pressure on a tree of files with known numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from huatuo.probes.task.pressure import Pressure
from tests.probes.tree import APP, host, mangled, reader, samples, survives


def test_host() -> None:
    found = samples(reader(Pressure, "task_pressure"))
    assert found["some_seconds_total"][("memory",)] == pytest.approx(1.5)
    assert found["full_seconds_total"][("memory",)] == pytest.approx(0.5)
    assert found["some_ratio"][("io",)] == pytest.approx(0.125)
    assert found["full_ratio"][("irq",)] == pytest.approx(0.01)
    assert found["full_seconds_total"][("irq",)] == pytest.approx(7)
    assert ("irq",) not in found["some_seconds_total"]


def test_containers() -> None:
    probe = reader(Pressure, "task_pressure")
    found = samples(probe)
    some = found["container_some_seconds_total"]
    assert some == {(APP.id, r): pytest.approx(1.5) for r in ("cpu", "memory", "io")}
    assert found["container_full_seconds_total"][APP.id, "irq"] == pytest.approx(3e-6)
    assert probe.collect_errors == 0


def test_without_psi_it_says_so() -> None:
    assert "CONFIG_PSI" in Pressure.unavailable(host("cpu_usage"))


@settings(deadline=None)
@given(mangled())
def test_garbage_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(Pressure, "task_pressure", how)
    assert survives(Pressure, "task_pressure", (0, 1, "garbage !", True)) > 0
