"""cpu.usage on a tree of files with known numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from huatuo.probes.cpu.usage import Usage
from tests.probes.tree import mangled, reader, samples, survives


def test_states_add_up_to_the_time_of_the_cpu() -> None:
    found = samples(reader(Usage, "cpu_usage"))
    seconds = found["seconds_total"]
    assert seconds["0", "user"] == pytest.approx(0.8), "guest time is taken out of user time"
    assert seconds["0", "nice"] == pytest.approx(0.06)
    assert seconds["0", "guest"] == pytest.approx(0.2)
    assert seconds["1", "steal"] == pytest.approx(0.05)
    of_cpu1 = sum(value for (cpu, _), value in seconds.items() if cpu == "1")
    assert of_cpu1 == pytest.approx((200 + 20 + 40 + 4000 + 10 + 0 + 5 + 5) / 100)


def test_the_rest_of_the_file() -> None:
    found = samples(reader(Usage, "cpu_usage"))
    assert found["context_switches_total"][()] == 123456
    assert found["forks_total"][()] == 4321
    assert found["boot_time_seconds"][()] == 1700000000
    assert found["runnable_tasks"][()] == 3
    assert found["blocked_tasks"][()] == 2


@settings(deadline=None)
@given(mangled())
def test_garbage_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(Usage, "cpu_usage", how)
    assert survives(Usage, "cpu_usage", (0, 1, "garbage !", True)) > 0
