"""block.devices on a tree of files with known numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from huatuo.probes.block.devices import Devices
from tests.probes.tree import mangled, reader, samples, survives


def test_whole_disks_with_io() -> None:
    found = samples(reader(Devices, "block_devices"))
    operations = found["operations_total"]
    assert {device for device, _ in operations} == {"vda", "cciss/c0d0"}
    assert operations["vda", "read"] == 100
    assert operations["vda", "flush"] == 11
    assert found["bytes_total"]["vda", "write"] == 1000 * 512
    assert found["bytes_total"]["vda", "discard"] == 800 * 512
    assert found["merged_operations_total"]["vda", "read"] == 5
    assert found["operation_seconds_total"]["vda", "flush"] == pytest.approx(0.012)
    assert found["operation_seconds_total"]["vda", "write"] == pytest.approx(0.2)
    assert found["in_flight_operations"]["vda",] == 3
    assert found["busy_seconds_total"]["vda",] == pytest.approx(0.4)
    assert found["queue_seconds_total"]["vda",] == pytest.approx(0.5)


def test_old_kernels_have_fewer_columns() -> None:
    found = samples(reader(Devices, "block_devices"))
    assert ("cciss/c0d0", "discard") not in found["bytes_total"]
    assert found["bytes_total"]["cciss/c0d0", "read"] == 80 * 512


@settings(deadline=None)
@given(mangled())
def test_garbage_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(Devices, "block_devices", how)
    assert survives(Devices, "block_devices", (0, 1, "garbage !", True)) > 0
