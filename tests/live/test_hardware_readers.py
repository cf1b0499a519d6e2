"""Readers of hardware where there is some: beside lscpu, PCI's own registers, and physics."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess

import pytest

from huatuo.probes.hardware.edac import Edac
from huatuo.probes.hardware.frequency import Frequency
from huatuo.probes.hardware.pcie import Pcie
from huatuo.probes.hardware.thermal import Thermal
from huatuo.probes.reader import Reader
from tests.live.conftest import HOST, need
from tests.probes.tree import samples

pytestmark = pytest.mark.live


def now(cls: type[Reader]) -> dict[str, dict[tuple[object, ...], float]]:
    if missing := cls.unavailable(HOST):
        pytest.skip(missing)
    probe = cls(HOST)
    found = samples(probe)
    assert probe.collect_errors == 0
    return found


def output(*argv: str) -> str:
    need(shutil.which(argv[0]), f"{argv[0]} is not installed")
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def has_error_reporting(config: bytes) -> bool:
    """Whether capability 1 is among the extended ones, which begin at 0x100 (PCIe 5.0, 7.6.2)."""
    at = 0x100
    while at and at + 4 <= len(config):
        (header,) = struct.unpack_from("<I", config, at)
        if header & 0xFFFF == 1:
            return True
        at = header >> 20
    return False


def test_devices_that_report_errors_are_those_with_the_capability() -> None:
    found = now(Pcie)
    devices = list((HOST.sys / "bus/pci/devices").iterdir())
    able = [each for each in devices if has_error_reporting((each / "config").read_bytes())]
    assert found["devices"][()] == len(able) > 0
    assert set(found["all_errors_total"]) == {("corrected",), ("nonfatal",), ("fatal",)}
    assert found["degraded_links"][()] <= len(able)


def test_frequencies_are_within_what_lscpu_says() -> None:
    found = now(Frequency)
    rows = json.loads(output("lscpu", "-J", "-e=CPU,MAXMHZ"))["cpus"]
    highest = max(float(row["maxmhz"]) * 1e6 for row in rows)
    assert max(found["highest_hertz"].values()) == pytest.approx(highest, rel=0.001)
    assert all(0 < hertz <= highest * 1.1 for hertz in found.get("now_hertz", {}).values())


def test_temperatures_are_those_of_a_machine_that_runs() -> None:
    found = now(Thermal)
    assert all(-20 < celsius < 130 for celsius in found.get("temperature_celsius", {}).values())
    assert all(0 <= ratio <= 1 for ratio in found.get("cooling_ratio", {}).values())


def test_memory_controllers_are_counted() -> None:
    found = now(Edac)["errors_total"]
    controllers = {key[0] for key in found}
    directory = HOST.sys / "devices/system/edac/mc"
    assert controllers == {path.name for path in directory.glob("mc[0-9]*")}
