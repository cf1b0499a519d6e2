"""cpu.load on a tree of files with known numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from huatuo.probes.cpu.load import Load
from tests.probes.tree import host, mangled, reader, samples, survives


def test_averages_and_tasks() -> None:
    found = samples(reader(Load, "cpu_load"))
    assert found["average_1m"][()] == pytest.approx(1.6)
    assert found["average_5m"][()] == pytest.approx(1.0)
    assert found["average_15m"][()] == pytest.approx(0.7)
    assert found["tasks"][()] == 94


def test_a_missing_file_is_a_reason() -> None:
    assert Load.unavailable(host("cpu_load")) == ""
    assert "loadavg: No such file" in Load.unavailable(host("cpu_usage"))


@settings(deadline=None)
@given(mangled())
def test_garbage_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(Load, "cpu_load", how)
    assert survives(Load, "cpu_load", (0, 1, "garbage !", True)) > 0
