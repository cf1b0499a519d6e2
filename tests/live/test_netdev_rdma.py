"""netdev.rdma on soft RDMA that carries so many reads of a disk, beside `rdma statistic`."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from huatuo.probes.netdev.rdma import Rdma
from tests.live.conftest import need, running
from tests.probes.tree import samples

pytestmark = pytest.mark.live

DEVICE, NETDEV, ADDRESS = "rxe7", "vrdma", "10.97.0.1"
TARGET = Path("/sys/kernel/config/nvmet")
MODULES = ("rdma_rxe", "nvmet-rdma", "nvme-rdma", "null_blk", "veth")
Events = dict[str, float]


def run(command: str) -> None:
    subprocess.run(command.split(), check=True)


@contextmanager
def soft_device() -> Iterator[None]:
    """RDMA in software, in the first network namespace: the kernel's own users are only there."""
    need(os.environ.get("HUATUO_DISPOSABLE_HOST"), "RDMA is set up only on a disposable host")
    for tool in ("rdma", "modprobe"):
        need(shutil.which(tool), f"{tool} is not installed")
    for module in MODULES:
        loaded = subprocess.run(["modprobe", module], capture_output=True, text=True)
        need(loaded.returncode == 0, f"no {module} on this kernel: {loaded.stderr.strip()}")
    with ExitStack() as undo:
        run(f"ip link add {NETDEV} type veth peer name {NETDEV}2")
        undo.callback(run, f"ip link del {NETDEV}")
        run(f"ip address add {ADDRESS}/24 dev {NETDEV}")
        for device in (NETDEV, f"{NETDEV}2"):
            run(f"ip link set {device} up")
        run(f"rdma link add {DEVICE} type rxe netdev {NETDEV}")
        undo.callback(run, f"rdma link delete {DEVICE}")
        yield


@contextmanager
def remote_disk() -> Iterator[Path]:
    """A disk of this machine that is reached by NVMe over RDMA."""
    if not TARGET.exists():
        run(f"mount -t configfs none {TARGET.parent}")
    disk, port = TARGET / "subsystems/huatuo", TARGET / "ports/1"
    for directory, files in (
        (disk, {"attr_allow_any_host": "1"}),
        (disk / "namespaces/1", {"device_path": "/dev/nullb0", "enable": "1"}),
        (port, {"addr_trtype": "rdma", "addr_adrfam": "ipv4", "addr_traddr": ADDRESS}),
        (port, {"addr_trsvcid": "4420"}),
    ):
        directory.mkdir(exist_ok=True)
        for name, value in files.items():
            (directory / name).write_text(value)
    (port / "subsystems/huatuo").symlink_to(disk)
    where = f"transport=rdma,traddr={ADDRESS},trsvcid=4420,nqn=huatuo"
    Path("/dev/nvme-fabrics").write_text(where)
    try:
        found = Path("/dev/nvme0n1")
        end = time.monotonic() + 20
        while not found.exists() and time.monotonic() < end:
            time.sleep(0.1)
        yield found
    finally:
        Path("/sys/class/nvme/nvme0/delete_controller").write_text("1")
        (port / "subsystems/huatuo").unlink()
        for directory in (port, disk / "namespaces/1", disk):
            directory.rmdir()


def read(disk: Path, times: int) -> None:
    """4 KiB each time, past all caches."""
    fd = os.open(disk, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, 4096) as buffer:
            for number in range(times):
                assert os.preadv(fd, [buffer], number * 4096) == 4096
    finally:
        os.close(fd)


def now() -> tuple[Events, dict[tuple[object, ...], float]]:
    """Events of the device, and which ports are active."""
    with running(Rdma) as probe:
        found = samples(probe)
        assert probe.collect_errors == 0
    events = {
        str(key[2]): v for key, v in found.get("events_total", {}).items() if key[0] == DEVICE
    }
    return events, found.get("port_active", {})


def rdma(*argv: str) -> dict[str, Any]:
    shown = subprocess.run(["rdma", "-j", *argv], check=True, capture_output=True, text=True)
    (found,) = [each for each in json.loads(shown.stdout) if each.get("ifname") == DEVICE]
    return dict(found)


def test_reads_of_a_remote_disk() -> None:
    """Each is two messages: the request, and the answer after the data."""
    with soft_device():
        assert now()[1][DEVICE, "1"] == (rdma("link")["state"] == "ACTIVE")
        with remote_disk() as disk:
            before = now()[0]
            read(disk, 200)
            low = rdma("statistic", "show")
            events, _ = now()
            high = rdma("statistic", "show")
    assert 400 <= events["rdma_sends"] - before["rdma_sends"] <= 420, "keep-alives are such, too"
    assert events["sent_pkts"] - before["sent_pkts"] >= 200 * 6, "of 4 KiB in packets of 1 KiB"
    names = {name for name, value in high.items() if value and name in low} - {"ifname", "port"}
    assert {"sent_pkts", "rcvd_pkts", "rdma_sends", "rdma_recvs"} <= set(events) <= names
    for name, value in events.items():
        assert low[name] <= value <= high[name]


def test_a_device_that_is_gone_is_left_out() -> None:
    with soft_device(), running(Rdma) as probe:
        assert (DEVICE, "1") in samples(probe)["port_active"]
        run(f"rdma link delete {DEVICE}")
        assert (DEVICE, "1") not in samples(probe).get("port_active", {})
        assert probe.collect_errors == 0
        run(f"rdma link add {DEVICE} type rxe netdev {NETDEV}")
