"""fs.latency beside system calls of known number, timed by the caller as strace would."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from huatuo.probes.fs.latency import Latency
from tests.live.conftest import HOST, disturbed, emulated, metric, row, running
from tests.live.disk import delayed, loop, mounted, small_tmpfs, told
from tests.live.stall import stall

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

DURATION, ERRORS = "huatuo_fs_latency_duration_seconds", "huatuo_fs_latency_errors_total"
OBSERVED = "huatuo_fs_latency_observed_seconds_total"
ALWAYS = {"window": 1_000_000_000, "every": 1_000_000_000}
STALL_MS = 20


def measured(probe: Latency, filesystem: str, operation: str) -> tuple[int, float]:
    """(number, sum of seconds) of these calls, of all containers."""
    if DURATION not in {family.name for family in probe.collect()}:
        return 0, 0.0
    found = metric(probe, DURATION)
    assert found.sums is not None
    rows = row(found, filesystem=filesystem, operation=operation)
    return int(found.values[rows].sum()), float(found.sums[rows].sum())


def timed(call: Callable[[], object], times: int) -> float:
    """Seconds that the calls took, one by one."""
    spent = 0.0
    for _ in range(times):
        began = time.perf_counter()
        call()
        spent += time.perf_counter() - began
    return spent


def test_every_call_on_a_file_counts_and_no_other() -> None:
    """On xfs, which nothing else here uses: reads, writes, opens and fsyncs; pipes are no files."""
    with (
        loop(320) as disk,
        mounted(disk, "xfs") as folder,
        running(Latency, **ALWAYS) as probe,
    ):
        path = folder / "file"
        fd = os.open(path, os.O_CREAT | os.O_RDWR)
        reader, writer = os.pipe()
        ours = {
            "write": (100, timed(lambda: os.pwrite(fd, bytes(8192), 0), 100)),
            "read": (50, timed(lambda: os.pread(fd, 8192, 0), 50)),
            "fsync": (5, timed(lambda: os.fsync(fd), 5)),
        }
        timed(lambda: (os.write(writer, b"x"), os.read(reader, 1)), 30)
        timed(lambda: os.close(os.open(path, os.O_RDONLY)), 20)
        with pytest.raises(FileNotFoundError):
            os.open(folder / "missing", os.O_RDONLY)
        for fd_ in (fd, reader, writer):
            os.close(fd_)
        for operation, (times, seconds) in ours.items():
            number, spent = measured(probe, "xfs", operation)
            assert number == times, operation
            assert seconds * (0.01 if emulated() else 0.1) < spent <= seconds, operation
        assert measured(probe, "xfs", "open")[0] == 1 + 20
        assert probe.account().lost["map_full"] == 0


def test_a_call_that_fails_is_an_error() -> None:
    with small_tmpfs(1) as folder, running(Latency, **ALWAYS) as probe:
        fd = os.open(folder / "file", os.O_CREAT | os.O_RDWR)
        before = errors(probe)
        os.write(fd, bytes(1 << 20))
        for _ in range(6):
            with pytest.raises(OSError, match="No space"):
                os.write(fd, bytes(4096))
        os.close(fd)
        assert errors(probe) - before == 6


def errors(probe: Latency) -> int:
    found = {family.name: family for family in probe.collect()}.get(ERRORS)
    return int(found.values[row(found, filesystem="tmpfs")].sum()) if found else 0


def read_directly(path: Path, times: int) -> float:
    """Around the page cache: each call waits for the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, 4096) as buffer:
            return timed(lambda: os.preadv(fd, [buffer], 0), times)
    finally:
        os.close(fd)


def test_a_slow_disk_is_in_the_time_of_reads() -> None:
    """Ten reads through dm-delay, 20 ms each: in the sum, and each an event with its file."""
    with (
        loop(320) as raw,
        delayed(raw, read_ms=STALL_MS) as disk,
        mounted(disk, "xfs") as folder,
        running(Latency, slow_call=10_000_000, **ALWAYS) as probe,
    ):
        path = folder / "a file"
        path.write_bytes(bytes(4096))
        os.sync()
        told(probe, disk, 0.2)
        before, spent_before = measured(probe, "xfs", "read")
        ours = read_directly(path, 10)
        number, spent = measured(probe, "xfs", "read")
        assert number - before == 10
        least = STALL_MS / 1e3 - HOST.jiffy_ns / 1e9  # dm-delay counts ticks
        assert 10 * least <= spent - spent_before <= ours
        found = [e for e in told(probe, disk, 0.3) if e.fields["operation"] == "read"]
        assert len(found) == 10
        assert found[0].fields["path"] == str(path)
        assert found[0].fields["pid"] == os.getpid()
        assert found[0].fields["result"] == 4096
        assert f"read of {path} (xfs on {disk.path.name}) took" in found[0].title


def test_stalls_are_slow_calls() -> None:
    """Four of thirty reads stalled in the completion of their request: four events."""
    with loop(320) as disk, mounted(disk, "xfs") as folder:
        path = folder / "file"
        path.write_bytes(bytes(4096))
        os.sync()
        only = {"milliseconds": STALL_MS, "count": 4, "disk": disk.number}
        with (
            running(Latency, slow_call=10_000_000, **ALWAYS) as probe,
            stall("block_rq_complete", gap_milliseconds=0.1, **only) as stalls,
        ):
            before, spent_before = measured(probe, "xfs", "read")
            ours = read_directly(path, 30)
            number, spent = measured(probe, "xfs", "read")
            assert len(stalls) == 4
            assert number - before == 30
            assert stalls.seconds <= spent - spent_before <= ours
            found = [e for e in told(probe, disk, 0.3) if e.fields["operation"] == "read"]
            assert len(found) >= 4 if disturbed() else len(found) == 4
            assert all(event.fields["duration_ns"] >= 10_000_000 for event in found)


def test_windows_open_and_close_and_say_how_long() -> None:
    """A fifth of the time: calls in a window count, others do not, and hooks come and go."""
    window, every = 200_000_000, 1_000_000_000
    with loop(320) as disk, mounted(disk, "xfs") as folder:
        fd = os.open(folder / "file", os.O_CREAT | os.O_RDWR)
        with running(Latency, window=window, every=every) as probe:
            began, calls, watched = time.monotonic(), 0, 0
            while time.monotonic() < began + 3.5:
                for _ in probe.drain():
                    pass
                watched += bool(probe.hooks)
                os.pwrite(fd, b"x", 0)
                calls += 1
                time.sleep(0.01)
            elapsed = time.monotonic() - began
            observed = float(metric(probe, OBSERVED).values[0])
            number, _ = measured(probe, "xfs", "write")
            assert probe.duty() == pytest.approx(0.2)
            share = observed / elapsed
            assert 0.15 < share < (0.6 if disturbed() else 0.4)
            assert number / calls == pytest.approx(share, abs=0.15)
            assert 0 < watched < calls, "its hooks are there in windows only"
        os.close(fd)


def test_a_call_that_ends_after_its_window_is_followed_to_its_end() -> None:
    with (
        loop(320) as raw,
        delayed(raw, read_ms=500) as disk,
        mounted(disk, "xfs") as folder,
    ):
        path = folder / "file"
        path.write_bytes(bytes(4096))
        os.sync()
        with running(Latency, window=50_000_000, every=30_000_000_000) as probe:
            pid = os.fork()
            if pid == 0:
                read_directly(path, 1)
                os._exit(0)
            time.sleep(0.2)
            told(probe, disk, 0.1)
            assert probe.hooks == ["tp_btf/sys_exit"], "the window is over, the call is not"
            os.waitpid(pid, 0)
            number, spent = measured(probe, "xfs", "read")
            assert number == 1
            assert spent >= 0.5
            told(probe, disk, 0.1)
            assert probe.hooks == []
