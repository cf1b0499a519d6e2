"""block.latency against the kernel's disk counters, and against delays of known length."""

from __future__ import annotations

import subprocess
import threading
import time

import numpy as np
import pytest

from huatuo.model.metric import Metric, edges
from huatuo.probes.block.latency import Latency
from tests.live.conftest import cgroup, disturbed, events, metric, row, running
from tests.live.disk import Disk, loop, null_blk, small_tmpfs
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


def check_time(ours: float, kernel: float) -> None:
    """Our clock is read when a request's bytes are done, the kernel's when it is freed."""
    if disturbed():
        assert kernel * 0.4 < ours < kernel + 0.002
    else:
        assert ours == pytest.approx(kernel, rel=0.03, abs=0.003)


def check_stalls(histogram: list[int], stalled: int) -> None:
    """As many requests in the slot of the stalls and none above; disturbance adds its own."""
    slot = slot_of(STALL_MS / 1e3)
    long = sum(histogram[slot:])
    if disturbed():
        assert stalled <= long
    else:
        assert histogram[slot] == long == stalled


def slack() -> float:
    """Seconds that 50 requests take without stalls, at most."""
    return 1.0 if disturbed() else 0.05


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
        check_time(ours, kernel.seconds["read"])
        assert probe.account().lost["unstamped"] == 0


def test_merged_requests_count_once() -> None:
    """Buffered writes, merged on their way: as many requests and bytes as the kernel counts."""
    with loop() as disk, running(Latency) as probe:
        before = disk.stat()
        with disk.path.open("r+b", buffering=0) as file:
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
            read_often(disk, 50)
            assert len(stalls) == 5
            device = slots(metric(probe, DEVICE), disk, "read")
            check_stalls(device, 5)
            assert sum(device) == 50
            spent = seconds(probe, DEVICE, disk, "read")
            assert stalls.seconds <= spent < stalls.seconds + slack()
            check_stalls(slots(metric(probe, QUEUE), disk, "read"), 0)


def test_queue_time_is_exact_with_own_stamps() -> None:
    """Stalls on the way to the device are queue time."""
    with loop() as disk:
        only = {"milliseconds": STALL_MS, "count": 5, "disk": disk.number}
        with stall("block_rq_issue", **only) as stalls, running(Latency, own_stamps=1) as probe:
            assert any("block_rq_issue" in hook for hook in probe.hooks)
            read_often(disk, 50)
            assert len(stalls) == 5
            queue = slots(metric(probe, QUEUE), disk, "read")
            check_stalls(queue, 5)
            assert sum(queue) == 50
            check_stalls(slots(metric(probe, DEVICE), disk, "read"), 0)
            spent = seconds(probe, QUEUE, disk, "read")
            assert stalls.seconds <= spent < stalls.seconds + slack()


def test_queue_and_device_add_up_with_the_kernels_stamps() -> None:
    """The same stalls: queue time before 6.9, device time from then on, in no case both."""
    with loop() as disk:
        only = {"milliseconds": STALL_MS, "count": 5, "disk": disk.number}
        with stall("block_rq_issue", **only) as stalls, running(Latency) as probe:
            read_often(disk, 50)
            queue, device = (slots(metric(probe, n), disk, "read") for n in (QUEUE, DEVICE))
            check_stalls([q + d for q, d in zip(queue, device, strict=True)], 5)
            slot = slot_of(STALL_MS / 1e3)
            check_stalls(min(queue, device, key=lambda h: sum(h[slot:])), 0)
            both = seconds(probe, QUEUE, disk, "read") + seconds(probe, DEVICE, disk, "read")
            assert stalls.seconds <= both < stalls.seconds + slack()


def read_often(disk: Disk, count: int, gap_seconds: float = 0.005) -> None:
    with disk.direct() as file:
        for _ in range(count):
            file.read(0, 4096)
            time.sleep(gap_seconds)


def test_own_stamps_start_when_the_kernel_has_none() -> None:
    """Collecting sees that requests had no stamp, attaches block_rq_issue and loses none more."""
    with loop() as disk, running(Latency) as probe, disk.direct() as file:
        hooks = probe.hooks
        assert probe.object
        probe.object.maps["unstamped"].update(bytes(4), (1).to_bytes(8, "little"))
        file.read(0, 4096)
        assert total(probe, DEVICE, disk, "read") == 1
        assert len(probe.hooks) == len(hooks) + 1
        assert probe.account().lost["unstamped"] >= 1
        for _ in range(30):
            file.read(0, 4096)
        assert total(probe, DEVICE, disk, "read") == total(probe, QUEUE, disk, "read") == 31
        assert any(cost.run_count >= 0 for cost in probe.cost().values())
    with running(Latency) as probe:
        assert probe.hooks == hooks, "a restart asks anew"


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
            assert {labels[int(code)] for code in rows["operation"]} == {"read"}
            assert (rows["size"] == 8192).all()
            assert (rows["sector"] % 128 == 0).all()
            assert (rows["error"] == 0).all()
            assert not rows["inode"].any(), "the buffer lies in shared memory, which is no file's"
            if disturbed():  # requests may be slow without a stall
                assert 4 == len(truth) <= len(rows)
                return
            assert len(rows) == len(truth) == 4
            assert (rows["device"] >= truth["duration"]).all()
            assert (rows["device"] < truth["duration"] + 5_000_000).all()
            assert (rows["queue"] < 5_000_000).all()


def test_failed_requests_are_counted_and_events() -> None:
    """Writes to a loop device whose backing file system is full."""
    with small_tmpfs(1) as folder, loop(16, folder) as disk, running(Latency) as probe:
        with disk.direct() as file:
            refused = 0
            for number in range(5):
                try:
                    file.write((4 + number) << 20, 1 << 20)
                except OSError:
                    refused += 1
        assert refused >= 3
        failed = events(probe, "failed_requests")
        failed = failed[failed["disk"] == disk.number]
        assert len(failed) >= refused
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
            here = {g.id: row(found, container=g.id, device=disk.number) for g in (a, b)}
            counts = {id: int(found.values[rows].sum()) for id, rows in here.items()}
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
        check_time(ours, kernel.seconds["read"])
        assert 40 * 0.010 <= seconds(probe, DEVICE, disk, "read") < 40 * 0.010 + slack()


def test_wait_for_a_tag_is_queue_time() -> None:
    """One request at a time in a device of 10 ms, four readers: each waits for the three others."""
    delayed = {"irqmode": 2, "completion_nsec": 10_000_000, "hw_queue_depth": 1, "submit_queues": 1}
    with null_blk(**delayed) as disk:
        disk.queue("scheduler", "mq-deadline")
        disk.queue("nr_requests", 16)  # room to wait in, for all four
        with running(Latency) as probe:
            readers = [threading.Thread(target=read_often, args=(disk, 10, 0)) for _ in range(4)]
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.join()
            assert total(probe, DEVICE, disk, "read") == 40
            device, queue = (seconds(probe, name, disk, "read") for name in (DEVICE, QUEUE))
            assert 40 * 0.010 <= device < 40 * 0.010 + slack()
            assert 30 * 0.025 < queue < 40 * 0.030 + 4 * slack()
