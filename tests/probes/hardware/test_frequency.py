"""hardware.frequency on a tree of files with known numbers."""

from __future__ import annotations

from hypothesis import given, settings

from huatuo.probes.hardware.frequency import Frequency
from tests.probes.tree import mangled, reader, samples, survives


def test_frequencies_by_package() -> None:
    found = samples(reader(Frequency, "hardware_frequency"))
    assert found["now_hertz"] == {
        ("0", "lowest"): 1.2e9,
        ("0", "mean"): 2.1e9,
        ("0", "highest"): 3.0e9,
    }, "package 1 does not say what it runs at"
    assert found["allowed_hertz"] == {("0",): 3.0e9, ("1",): 3.5e9}
    assert found["highest_hertz"] == {("0",): 3.5e9, ("1",): 3.5e9}


def test_a_group_without_a_cpu_online_does_not_count() -> None:
    found = samples(reader(Frequency, "hardware_frequency"))
    assert found["policies"] == {("schedutil",): 2, ("performance",): 1}


@settings(deadline=None)
@given(mangled())
def test_garbage_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(Frequency, "hardware_frequency", how)
    spoilt = "scaling_cur_freq"
    assert survives(Frequency, "hardware_frequency", (0, 1, "garbage !", True), spoilt) > 0
