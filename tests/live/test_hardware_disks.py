"""hardware.disks beside pretended disks: SCSI's that fails where it is told to, NVMe's of QEMU."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from huatuo.probes.hardware.disks import Disks
from tests.live.conftest import HOST, need
from tests.live.disk import Disk, load, scsi_debug
from tests.probes.tree import samples

pytestmark = [pytest.mark.live]

MIB = 1 << 20
BAD_SECTOR = 0x1234  # where scsi_debug has a medium error (opts=2), and in the nine behind it


def now() -> dict[str, dict[tuple[object, ...], float]]:
    if missing := Disks.unavailable(HOST):
        pytest.skip(missing)
    return samples(Disks(HOST))


def test_commands_of_a_scsi_disk_and_those_that_fail() -> None:
    """Twenty that work, then reads of a sector that is broken."""
    with scsi_debug(opts=2) as disk, disk.direct() as file:
        name = disk.path.name
        before = now()
        assert before["up"][name,] == 1
        for number in range(20):
            file.read(number * 4096, 4096)
        after = now()["commands_total"]
        done = after[name, "done"] - before["commands_total"][name, "done"]
        assert 20 <= done <= 30, "and what the driver asks by itself"
        assert after[name, "failed"] == before["commands_total"][name, "failed"]
        with pytest.raises(OSError, match=r"error|No data"):
            file.read(BAD_SECTOR * 512 // 4096 * 4096, 4096)
        assert now()["commands_total"][name, "failed"] > after[name, "failed"]


def test_a_disk_that_is_taken_offline_is_not_up() -> None:
    with scsi_debug() as disk:
        state = disk.sys / "device/state"
        state.write_text("offline\n")
        assert now()["up"][disk.path.name,] == 0
        state.write_text("running\n")
        assert now()["up"][disk.path.name,] == 1


@pytest.fixture(name="nvme")
def nvme_disk() -> Iterator[Disk]:
    load("nvme")
    for _ in range(100):
        found = sorted(Path("/sys/block").glob("nvme*n1"))
        if found:
            break
        time.sleep(0.1)
    need(found, "no NVMe disk here")
    yield Disk(Path("/dev") / found[0].name)


def health(controller: str) -> dict[str, dict[tuple[object, ...], float]]:
    """With the health log, which comes a moment later where the machine is slow."""
    probe = Disks(HOST)
    for _ in range(100):
        found = samples(probe)
        if (controller,) in found.get("wear_ratio", {}):
            return found
        time.sleep(0.1)
    raise AssertionError(f"no health log in {found.keys()}")


def test_the_health_log_of_an_nvme_disk(nvme: Disk) -> None:
    """32 MiB that are read stand in it; its temperature is what the kernel's own reader says."""
    need(os.geteuid() == 0, "asking a controller needs root")
    controller = nvme.path.name.removesuffix("n1")
    before = health(controller)
    need("QEMU" in (nvme.sys / "device/model").read_text(), "the disk is a real one")
    with nvme.direct() as file:
        for number in range(32):
            file.read(number * MIB, MIB)
    after = health(controller)
    assert after["up"][controller,] == 1
    key = (controller, "read")
    grown = after["life_bytes_total"][key] - before["life_bytes_total"][key]
    assert 32 * MIB - 512_000 <= grown <= 40 * MIB
    kernels = [
        int(file.read_text()) / 1000
        for folder in ("hwmon*", "hwmon/hwmon*")
        for file in (HOST.sys / "class/nvme" / controller).glob(f"{folder}/temp1_input")
    ]
    if kernels:  # with CONFIG_NVME_HWMON
        assert after["temperature_celsius"][controller, "health log"] == round(kernels[0])
    assert after["warning"][controller, "spare"] == 0
    assert 0 <= after["wear_ratio"][controller,] < 1
    assert after["media_errors_total"][controller,] == 0
