"""fs.writeback beside the writer's own clock, and the same tracepoint as tracefs prints it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from huatuo.kernel.cgroupfs import hierarchies
from huatuo.probes.fs.writeback import Writeback
from tests.live.conftest import HOST, cgroup, metric, need, row, running
from tests.live.disk import Disk, delayed, loop, mounted, told

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

PAUSE = "huatuo_fs_writeback_pause_seconds"
MIB = 1 << 20
LIMIT = 8 * MIB  # of dirty page cache
WRITE = 40  # MiB; what it takes beyond the limit is paused for
RATE = 16 * MIB  # per second, of the slow disk
THRESHOLD = 0.02  # seconds

WRITER = f"""
import os, sys, time
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
began = time.monotonic()
for _ in range({WRITE}):
    os.write(fd, bytes({MIB}))
print(os.getpid(), time.monotonic() - began)
"""


@contextmanager
def slow(disk: Disk) -> Iterator[Disk]:
    """Writes 16 MiB/s at most, by the v1 controller of the root; or dm-delay where it has none."""
    v1 = hierarchies(HOST).v1.get("blkio")
    throttle = v1 / "blkio.throttle.write_bps_device" if v1 else None
    if not throttle or not throttle.exists():
        with delayed(disk, write_ms=50) as mapped:
            yield mapped
        return
    throttle.write_text(f"{major_minor(disk)} {RATE}")
    try:
        yield disk
    finally:
        throttle.write_text(f"{major_minor(disk)} 0")


def major_minor(disk: Disk) -> str:
    return f"{disk.number >> 20}:{disk.number & 0xFFFFF}"


@contextmanager
def little_dirty_memory(disk: Disk) -> Iterator[None]:
    """Writers to the disk are paused when 8 MiB are dirty; before 6.2 that is set for all disks."""
    device = Path("/sys/class/bdi", major_minor(disk))
    if (device / "strict_limit").exists():
        (device / "max_bytes").write_text(str(LIMIT))
        (device / "strict_limit").write_text("1")
        yield
        return
    need(os.environ.get("HUATUO_DISPOSABLE_HOST"), "it would slow all writers of this host")
    vm = HOST.proc / "sys/vm"
    ratio = (vm / "dirty_ratio").read_text()
    (vm / "dirty_bytes").write_text(str(LIMIT))
    try:
        yield
    finally:
        (vm / "dirty_ratio").write_text(ratio)


@contextmanager
def traced() -> Iterator[Path]:
    """The file with all that the tracepoint says meanwhile."""
    root = HOST.sys / "kernel/tracing/instances"
    need(root.exists(), "tracefs is not mounted")
    instance = root / f"huatuo-{os.getpid()}"
    instance.mkdir()
    enable = instance / "events/writeback/balance_dirty_pages/enable"
    try:
        enable.write_text("1")
        yield instance / "trace"
    finally:
        enable.write_text("0")
        instance.rmdir()


def pauses_of(text: str, pid: int) -> list[float]:
    """Seconds of each pause of a task, as tracefs prints them: in milliseconds."""
    found = re.findall(rf"-{pid} .*balance_dirty_pages: .* pause=(-?\d+)", text)
    return [int(pause) / 1e3 for pause in found if int(pause) > 0]


def test_pauses_of_a_writer_are_those_of_the_tracepoint_and_within_its_time() -> None:
    """40 MiB to a slow disk with 8 MiB of dirty memory: count, sum and events."""
    with (
        cgroup("writeback") as group,
        loop(128) as raw,
        slow(raw) as disk,
        mounted(disk, "ext4") as folder,
        little_dirty_memory(disk),
        traced() as trace,
        running(Writeback, slow_throttle=round(THRESHOLD * 1e9)) as probe,
    ):
        done = group.run([sys.executable, "-c", WRITER, str(folder / "file")], timeout=120)
        assert done.returncode == 0, done.stdout
        pid, spent = (float(word) for word in done.stdout.split())
        truth = pauses_of(trace.read_text(), int(pid))
        found = metric(probe, PAUSE)
        assert found.sums is not None
        rows = row(found, container=group.id, device=disk.number)
        assert truth, "the writer was never paused"
        assert int(found.values[rows].sum()) == len(truth)
        assert float(found.sums[rows].sum()) == pytest.approx(sum(truth), abs=0.001 * len(truth))
        assert THRESHOLD < sum(truth) <= spent * 1.02 + 0.01, "pauses are part of its time"
        events = [event for event in told(probe, disk, 0.5) if event.fields["pid"] == int(pid)]
        check_events([event.fields for event in events], sum(truth))
        assert f"it writes faster than {disk.path.name}" in events[0].title


def check_events(events: list[dict[str, Any]], paused: float) -> None:
    """The first at the threshold, then each time it has doubled; none says more than there was."""
    sums = [event["paused_ns"] / 1e9 for event in events]
    assert sums[0] >= THRESHOLD
    assert all(later >= 2 * earlier for earlier, later in pairwise(sums))
    assert sums[-1] <= paused + 0.001
    assert sums[-1] * 2 > paused * 0.5
    for event in events:
        assert event["since_ns"] >= event["paused_ns"] * 0.9
        assert event["limit_pages"] > 0


def test_a_writer_that_is_not_paused_is_not_there() -> None:
    """Two MiB, well below the limit."""
    with (
        cgroup("unpaused") as group,
        loop(64) as disk,
        mounted(disk, "ext4") as folder,
        running(Writeback) as probe,
    ):
        code = "import sys; open(sys.argv[1], 'wb').write(bytes(2 << 20))"
        assert group.run([sys.executable, "-c", code, str(folder / "file")]).returncode == 0
        families = {family.name: family for family in probe.collect()}
        assert PAUSE not in families or not len(row(families[PAUSE], container=group.id))
        assert told(probe, disk, 0.2) == []
