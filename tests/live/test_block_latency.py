"""block.latency against the kernel's disk counters, and against delays of known length."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from huatuo.model.metric import Metric, edges
from huatuo.probes.block.latency import Latency
from tests.live.conftest import cgroup, events, metric, row, running
from tests.live.disk import Disk, loop, null_blk
from tests.live.stall import stall

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

QUEUE, DEVICE = "huatuo_block_latency_queue_seconds", "huatuo_block_latency_device_seconds"
BYTES = "huatuo_block_latency_transferred_bytes_total"
ERRORS = "huatuo_block_latency_errors_total"
STALL_MS = 20


def slot_of(seconds: float) -> int:
    return int(np.searchsorted(edges(27), seconds, "right"))


def total(probe: Latency, name: str, disk: Disk, operation: str) -> float:
    """Value of a counter, number of a histogram, over all containers."""
    found = metric(probe, name)
    return float(found.values[row(found, device=disk.number, operation=operation)].sum())


def seconds(probe: Latency, name: str, disk: Disk, operation: str) -> float:
    found = metric(probe, name)
    assert found.sums is not None
    return float(found.sums[row(found, device=disk.number, operation=operation)].sum())


def slots(found: Metric, disk: Disk, operation: str) -> list[int]:
    rows = row(found, device=disk.number, operation=operation)
    return [int(n) for n in found.values[rows].sum(axis=0)]


def test_requests_bytes_and_time_are_the_kernels() -> None:
    """Direct reads and writes and flushes: counted exactly as in /sys/block/NAME/stat."""
    with loop() as disk, running(Latency) as probe, disk.direct() as file:
        before = disk.stat()
        for number in range(200):
            file.read(number * 65536, 4096)
        for number in range(100):
            file.write(number * 65536, 16384)
        for _ in range(10):
            file.flush()
        kernel = disk.stat() - before
        assert kernel.requests["read"] == total(probe, DEVICE, disk, "read") == 200
        assert kernel.bytes["read"] == total(probe, BYTES, disk, "read") == 200 * 4096
        assert total(probe, DEVICE, disk, "write") == 100
        assert kernel.bytes["write"] == total(probe, BYTES, disk, "write") == 100 * 16384
        assert kernel.requests["flush"] == total(probe, DEVICE, disk, "flush") == 10
        # the kernel counts the empty write that carries a flush as a write too
        assert kernel.requests["write"] == 100 + 10
        ours = seconds(probe, QUEUE, disk, "read") + seconds(probe, DEVICE, disk, "read")
        assert ours == pytest.approx(kernel.seconds["read"], rel=0.03, abs=0.002)
        assert probe.account().lost["unstamped"] == 0


def test_merged_requests_count_once() -> None:
    """Buffered writes, merged on their way: as many requests and bytes as the kernel counts."""
    with loop() as disk, running(Latency) as probe:
        before = disk.stat()
        with open(disk.path, "r+b", buffering=0) as file:
            for _ in range(16):
                file.write(bytes(1 << 20))
            started = time.monotonic()
            subprocess.run(["sync", str(disk.path)], check=True)
        assert time.monotonic() - started < 10
        kernel = disk.stat() - before
        assert kernel.bytes["write"] == total(probe, BYTES, disk, "write") == 16 << 20
        flushes = kernel.requests["flush"]
        assert kernel.requests["write"] == total(probe, DEVICE, disk, "write") + flushes


def test_device_time_is_exact() -> None:
    """Stalls at completion, before our program: exact count, slot and sum in the device's share."""
    with loop() as disk:
        only = {"milliseconds": STALL_MS, "count": 5, "disk": disk.number}
        with stall("block_rq_complete", **only) as stalls, running(Latency) as probe:
            with disk.direct() as file:
                for _ in range(50):
                    file.read(0, 4096)
                    time.sleep(0.005)
            assert len(stalls) == 5
            device = slots(metric(probe, DEVICE), disk, "read")
            assert device[slot_of(STALL_MS / 1e3)] == 5
            assert sum(device[slot_of(STALL_MS / 1e3) :]) == 5
            assert sum(device) == 50
            spent = seconds(probe, DEVICE, disk, "read")
            assert stalls.seconds <= spent < stalls.seconds + 0.05
            assert sum(slots(metric(probe, QUEUE), disk, "read")[slot_of(STALL_MS / 1e3) :]) == 0


@pytest.mark.parametrize("stamped_by_kernel", [True, False])
def test_queue_time_is_exact(stamped_by_kernel: bool) -> None:
    """Stalls on the way to the device are queue time, whoever stamps the issue."""
    with loop() as disk:
        if not stamped_by_kernel:
            disk.queue("wbt_lat_usec", 0)
        only = {"milliseconds": STALL_MS, "count": 5, "disk": disk.number}
        with stall("block_rq_issue", **only) as stalls, running(Latency) as probe:
            assert any("block_rq_issue" in hook for hook in probe.hooks) != stamped_by_kernel
            with disk.direct() as file:
                for _ in range(50):
                    file.read(0, 4096)
                    time.sleep(0.005)
            assert len(stalls) == 5
            queue = slots(metric(probe, QUEUE), disk, "read")
            assert queue[slot_of(STALL_MS / 1e3)] == sum(queue[slot_of(STALL_MS / 1e3) :]) == 5
            assert sum(queue) == 50
            assert sum(slots(metric(probe, DEVICE), disk, "read")[slot_of(STALL_MS / 1e3) :]) == 0
            assert probe.account().lost["unstamped"] == 0


def test_stamping_starts_when_a_queue_stops_to() -> None:
    """What was missed until then is in the account as unstamped; nothing is missed after."""
    with loop() as disk, running(Latency) as probe, disk.direct() as file:
        need_stamps(probe)
        disk.queue("wbt_lat_usec", 0)
        for _ in range(20):
            file.read(0, 4096)
        assert total(probe, DEVICE, disk, "read") == 0
        assert probe.account().lost["unstamped"] == 20
        assert any("block_rq_issue" in hook for hook in probe.hooks), "collecting attached it"
        for _ in range(30):
            file.read(0, 4096)
        assert total(probe, DEVICE, disk, "read") == total(probe, QUEUE, disk, "read") == 30
        assert probe.account().lost["unstamped"] == 20
        assert total(probe, BYTES, disk, "read") == 50 * 4096


def need_stamps(probe: Latency) -> None:
    if any("block_rq_issue" in hook for hook in probe.hooks):
        pytest.skip("another disk of this machine has no queue statistics")


def test_slow_requests_are_events() -> None:
    """Each names the disk, what was asked, both shares; the fast ones are none."""
    with loop() as disk:
        only = {"milliseconds": STALL_MS, "count": 4, "disk": disk.number}
        with (
            stall("block_rq_complete", **only) as stalls,
            running(Latency, slow_threshold=10_000_000) as probe,
            disk.direct() as file,
        ):
            for number in range(60):
                file.read(number << 16, 8192)
                time.sleep(0.005)
            rows = events(probe, "slow_requests")
            rows = rows[rows["disk"] == disk.number]
            truth = stalls.rows()
            labels = type(probe).event_schemas()["slow_requests"].field("operation").labels
            assert len(rows) == len(truth) == 4
            assert [labels[int(code)] for code in rows["operation"]] == ["read"] * 4
            assert (rows["size"] == 8192).all()
            assert (rows["sector"] % 128 == 0).all()
            assert (rows["device"] >= truth["duration"]).all()
            assert (rows["device"] < truth["duration"] + 5_000_000).all()
            assert (rows["queue"] < 5_000_000).all()
            assert (rows["error"] == 0).all()


@contextmanager
def small_tmpfs(mebibytes: int) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        size = f"size={mebibytes}m"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def test_failed_requests_are_counted_and_events() -> None:
    """Writes to a loop device whose backing file system is full fail; the reads do not."""
    with small_tmpfs(1) as folder, loop(16, folder) as disk, running(Latency) as probe:
        with disk.direct() as file:
            for number in range(3):
                with pytest.raises(OSError, match="error|space"):
                    file.write((4 + number) << 20, 1 << 20)
            file.read(0, 4096)
        failed = events(probe, "failed_requests")
        failed = failed[failed["disk"] == disk.number]
        assert len(failed) >= 3
        assert total(probe, ERRORS, disk, "write") >= len(failed)
        assert total(probe, ERRORS, disk, "read") == 0
        labels = type(probe).event_schemas()["failed_requests"].field("error").labels
        assert {labels[int(code)] for code in failed["error"]} <= {"io", "no_space"}


def test_requests_belong_to_the_container_that_issued_them() -> None:
    """Two cgroups read 20 and 30 times: the counts stand under their ids."""
    with cgroup("a", "blkio") as a, cgroup("b", "blkio") as b, loop() as disk:
        with running(Latency) as probe:
            for group, count in ((a, 20), (b, 30)):
                reads = [f"if={disk.path}", "of=/dev/null", "bs=4k", f"count={count}"]
                done = group.run(["dd", *reads, "iflag=direct"])
                assert done.returncode == 0, done.stdout
            found = metric(probe, DEVICE)
            counts = {
                group.id: int(found.values[row(found, container=group.id)].sum())
                for group in (a, b)
            }
        assert counts == {a.id: 20, b.id: 30}


def test_delay_of_null_blk() -> None:
    """A device that takes 10 ms for each request by its own timer (null_blk, irqmode 2)."""
    with null_blk(irqmode=2, completion_nsec=10_000_000) as disk, running(Latency) as probe:
        before = disk.stat()
        with disk.direct() as file:
            for _ in range(40):
                file.read(0, 4096)
        kernel = disk.stat() - before
        found = slots(metric(probe, DEVICE), disk, "read")
        assert sum(found) == kernel.requests["read"] == 40
        assert sum(found[: slot_of(0.010)]) == 0, "none can be faster than the timer"
        ours = seconds(probe, QUEUE, disk, "read") + seconds(probe, DEVICE, disk, "read")
        assert ours == pytest.approx(kernel.seconds["read"], rel=0.03, abs=0.01)
        assert seconds(probe, DEVICE, disk, "read") == pytest.approx(40 * 0.010, rel=0.25)
