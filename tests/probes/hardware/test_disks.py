"""hardware.disks on a tree of files with known numbers, and a health log byte by byte."""

from __future__ import annotations

from hypothesis import given, settings

from huatuo.kernel.nvme import parse_smart
from huatuo.probes.hardware.disks import Disks
from tests.probes.tree import mangled, reader, samples, survives


def test_state_of_every_disk() -> None:
    assert samples(reader(Disks, "hardware_disks"))["up"] == {
        ("nvme0",): 1,
        ("nvme1",): 0,
        ("sda",): 1,
        ("sdb",): 0,
    }


def test_temperatures_and_the_limits_of_the_whole_disk() -> None:
    """Sensors beside the first have limits that mean nothing."""
    found = samples(reader(Disks, "hardware_disks"))
    assert found["temperature_celsius"] == {
        ("nvme0", "Composite"): 41.85,
        ("nvme0", "Sensor 1"): 50.85,
        ("sda", "disk"): 35,
    }
    assert found["limit_celsius"] == {
        ("nvme0", "hot"): 81.85,
        ("nvme0", "critical"): 84.85,
        ("sda", "hot"): 60,
    }


def test_commands_are_hexadecimal_and_time_outs_younger() -> None:
    assert samples(reader(Disks, "hardware_disks"))["commands_total"] == {
        ("sda", "done"): 16,
        ("sda", "failed"): 10,
        ("sda", "timed_out"): 0,
        ("sdb", "done"): 1,
        ("sdb", "failed"): 1,
    }


def test_arrays() -> None:
    found = samples(reader(Disks, "hardware_disks"))
    assert found["missing_members"] == {("md0",): 1}, "md1 has no redundancy"
    assert found["mismatched_sectors"] == {("md0",): 128, ("md1",): 0}


def test_the_health_log() -> None:
    """Offsets of the NVM Express base specification, figure "SMART / Health Information"."""
    log = bytearray(512)
    log[0] = 0b100
    log[1:3] = (273 + 45).to_bytes(2, "little")
    log[3:6] = bytes([90, 10, 105])
    for at, number in ((32, 7), (48, 9), (112, 5), (128, 1000), (144, 3), (160, 2)):
        log[at : at + 16] = number.to_bytes(16, "little")
    log[192:200] = (6).to_bytes(4, "little") + (1).to_bytes(4, "little")
    smart = parse_smart(bytes(log))
    assert (smart.warnings, smart.celsius) == (4, 45)
    assert (smart.spare_ratio, smart.spare_threshold_ratio, smart.wear_ratio) == (0.9, 0.1, 1.05)
    assert (smart.read_bytes, smart.written_bytes) == (7 * 512_000, 9 * 512_000)
    assert (smart.power_cycles, smart.power_on_seconds) == (5, 3_600_000)
    assert (smart.unsafe_shutdowns, smart.media_errors) == (3, 2)
    assert (smart.hot_seconds, smart.critical_seconds) == (360, 60)


@settings(deadline=None)
@given(mangled())
def test_garbage_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(Disks, "hardware_disks", how)
    assert survives(Disks, "hardware_disks", (0, 1, "garbage !", True)) > 0
