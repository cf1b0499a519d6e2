"""hardware.thermal on a tree of files with known numbers."""

from __future__ import annotations

from hypothesis import given, settings

from huatuo.probes.hardware.thermal import Thermal
from tests.probes.tree import mangled, reader, samples, survives

ZONE, CHIP = "x86_pkg_temp zone0", "coretemp hwmon0"


def test_temperatures_of_zones_and_processors() -> None:
    """Without a sensor that says less than zero, and without the disk's."""
    assert samples(reader(Thermal, "hardware_thermal"))["temperature_celsius"] == {
        (ZONE,): 54,
        (f"{CHIP} Package id 0",): 61.5,
        (f"{CHIP} temp2",): 60,
    }


def test_of_several_limits_of_a_kind_the_lowest() -> None:
    assert samples(reader(Thermal, "hardware_thermal"))["limit_celsius"] == {
        (ZONE, "passive"): 90,
        (ZONE, "critical"): 105,
        (f"{CHIP} Package id 0", "hot"): 80,
        (f"{CHIP} Package id 0", "critical"): 100,
    }


def test_cooling_in_use() -> None:
    found = samples(reader(Thermal, "hardware_thermal"))["cooling_ratio"]
    assert found == {("Processor device0",): 0.3}


def test_throttling_counts_once_per_core_and_package() -> None:
    """Two threads of core 0, one of core 1, and another package."""
    found = samples(reader(Thermal, "hardware_thermal"))
    assert found["throttled_events_total"] == {("core",): 3 + 4, ("package",): 9 + 1}
    assert found["throttled_seconds_total"] == {("core",): 0.07, ("package",): 1.75}


@settings(deadline=None)
@given(mangled())
def test_garbage_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(Thermal, "hardware_thermal", how)
    assert survives(Thermal, "hardware_thermal", (0, 1, "garbage !", True), "_count") > 0
