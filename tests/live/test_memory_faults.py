"""memory.faults beside what the kernel counts for the process itself: ru_majflt, pswpin."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from huatuo.probes.memory.faults import Faults
from tests.live.conftest import HOST, Group, cgroup, disturbed, metric, need, row, running
from tests.live.disk import delayed, loop, mounted, told
from tests.live.memory import MIB, limit, need_disposable_host, vmstat
from tests.live.stall import stall

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

MAJOR = "huatuo_memory_faults_major_seconds"
SWAP_OUT = "huatuo_memory_faults_swap_out_seconds"
PAGES = 40
# Faults in so many pages of a file, one by one, that are not in memory; says its major faults and
# the seconds these took.
TOUCH = """
import mmap, os, resource, sys, time
path, pages = sys.argv[1], int(sys.argv[2])
fd = os.open(path, os.O_RDONLY)
memory = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
memory.madvise(mmap.MADV_RANDOM)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
before = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
began = time.monotonic()
for page in range(pages):
    memory[page * 8 * mmap.PAGESIZE]
seconds = time.monotonic() - began
print(resource.getrusage(resource.RUSAGE_SELF).ru_majflt - before, seconds)
"""
# Writes more than the limit allows, then reads all of it again.
SWAP = """
import mmap, resource, sys
size = int(sys.argv[1])
memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_NOHUGEPAGE)
for at in range(0, size, mmap.PAGESIZE):
    memory[at] = at // mmap.PAGESIZE & 255
before = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
for at in range(0, size, mmap.PAGESIZE):
    assert memory[at] == at // mmap.PAGESIZE & 255
print(resource.getrusage(resource.RUSAGE_SELF).ru_majflt - before)
"""


def counted(probe: Faults, family: str, **labels: object) -> tuple[int, float]:
    """(number, sum of seconds)."""
    found = {each.name: each for each in probe.collect()}.get(family)
    if found is None or found.sums is None:
        return 0, 0.0
    rows = row(found, **labels)
    return int(found.values[rows].sum()), float(found.sums[rows].sum())


def sees_all(probe: Faults) -> bool:
    return not any("(retry)" in hook for hook in probe.hooks)


@contextmanager
def a_file(folder: Path) -> Iterator[Path]:
    path = folder / "program"
    path.write_bytes(bytes(PAGES * 8 * 4096))
    subprocess.run(["sync", str(path)], check=True)
    yield path


def touch(group: Group, path: Path) -> tuple[int, float]:
    """(major faults as the kernel counts them for the process, seconds)."""
    said = group.run([sys.executable, "-c", TOUCH, str(path), str(PAGES)]).stdout.split()
    return int(said[0]), float(said[1])


def test_major_faults_are_those_that_the_kernel_counts() -> None:
    with (
        loop(320) as disk,
        mounted(disk, "xfs") as folder,
        a_file(folder) as path,
        cgroup("faults") as group,
        running(Faults) as probe,
    ):
        group.run([sys.executable, "-c", "import mmap, resource"])  # the interpreter is in memory
        before, spent_before = counted(probe, MAJOR, container=group.id, source="file")
        faults, seconds = touch(group, path)
        number, spent = counted(probe, MAJOR, container=group.id, source="file")
        assert faults >= PAGES
        if sees_all(probe):
            assert number - before == faults
        else:
            assert PAGES // 2 <= number - before <= faults
        assert 0 < spent - spent_before <= seconds * 1.1


def test_a_slow_disk_is_in_the_time_of_faults() -> None:
    with (
        loop(320) as raw,
        delayed(raw, read_ms=20) as disk,
        mounted(disk, "xfs") as folder,
        a_file(folder) as path,
        cgroup("faults") as group,
        running(Faults, slow_threshold=10_000_000) as probe,
    ):
        before, spent_before = counted(probe, MAJOR, container=group.id, source="file")
        faults, seconds = touch(group, path)
        number, spent = counted(probe, MAJOR, container=group.id, source="file")
        assert number - before == faults
        least = 0.02 - HOST.jiffy_ns / 1e9  # dm-delay counts ticks
        assert PAGES * least <= spent - spent_before <= seconds * 1.1


def test_stalls_of_a_disk_are_events_with_the_file() -> None:
    """Four of the faults stalled in the completion of their request."""
    with loop(320) as disk, mounted(disk, "xfs") as folder, a_file(folder) as path:
        with (
            cgroup("faults") as group,
            running(Faults, slow_threshold=10_000_000) as probe,
            stall(
                "block_rq_complete",
                milliseconds=20,
                count=4,
                gap_milliseconds=0.1,
                disk=disk.number,
            ) as stalls,
        ):
            spent_before = counted(probe, MAJOR, container=group.id, source="file")[1]
            touch(group, path)
            spent = counted(probe, MAJOR, container=group.id, source="file")[1] - spent_before
            assert len(stalls) == 4
            assert spent >= stalls.seconds * 0.95
            found = [e for e in told(probe, disk, 0.3) if e.fields["inode"] == path.stat().st_ino]
        assert len(found) >= 4 if disturbed() else len(found) == 4
        event = found[0]
        assert event.fields["path"] == "/program"
        assert event.fields["source"] == "file"
        assert event.fields["filesystem"] == "xfs"
        assert event.fields["duration_ns"] >= 10_000_000
        assert f"for a page of /program (xfs on {disk.path.name})" in event.title
        assert any("fault" in frame for frame in event.stack)


@contextmanager
def swap_file(folder: Path) -> Iterator[None]:
    need(shutil.which("mkswap") and shutil.which("swapon"), "mkswap is not installed")
    path = folder / "swap"
    path.write_bytes(bytes(128 * MIB))
    path.chmod(0o600)
    for command in ("mkswap", "swapon"):
        subprocess.run([command, str(path)], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["swapoff", str(path)], check=True)


def test_swapping_in_and_out() -> None:
    need_disposable_host("swaps")
    with (
        loop(320) as disk,
        mounted(disk, "xfs") as folder,
        swap_file(folder),
        cgroup("swap") as group,
        running(Faults) as probe,
    ):
        need(any("do_swap_page" in hook for hook in probe.hooks), "no fentry and no kprobes")
        limit(group, 32 * MIB)
        for file in ("memory.swap.max", "memory.memsw.limit_in_bytes"):
            if (group.directory / file).exists():
                group.write(file, 256 * MIB)
        before = vmstat()
        said = group.run([sys.executable, "-c", SWAP, str(64 * MIB)], timeout=240).stdout
        after = vmstat()
        number, seconds = counted(probe, MAJOR, container=group.id, source="swap")
        assert int(said) > 1000
        assert number >= int(said), "and those while it wrote"
        assert number <= after["pswpin"] - before["pswpin"], "a fault reads at least a page"
        assert seconds > 0
        handed, _ = counted(probe, SWAP_OUT)
        assert handed == pytest.approx(after["pswpout"] - before["pswpout"], rel=0.02)
        assert probe.account().lost["map_full"] == 0
        assert metric(probe, SWAP_OUT).help
