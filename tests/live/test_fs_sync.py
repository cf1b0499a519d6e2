"""fs.sync beside fsyncs of known number and length, and beside jbd2's own count of commits."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from huatuo.probes.fs.sync import Sync
from tests.live.conftest import cgroup, disturbed, emulated, metric, need, row, running
from tests.live.disk import Disk, delayed, loop, mounted, small_tmpfs, told
from tests.live.rawrun import run_raw
from tests.live.stall import stall

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

DURATION, COMMIT = "huatuo_fs_sync_duration_seconds", "huatuo_fs_sync_commit_seconds"
HANDLES, BLOCKS = "huatuo_fs_sync_commit_handles_total", "huatuo_fs_sync_commit_blocks_total"
ERRORS, OLDEST = "huatuo_fs_sync_errors_total", "huatuo_fs_sync_oldest_seconds"
DELAY = 0.05


def histogram(probe: Sync, name: str, **labels: object) -> tuple[int, float]:
    """(number, sum of seconds) over all rows with these labels."""
    found = metric(probe, name)
    assert found.sums is not None
    rows = row(found, **labels)
    return int(found.values[rows].sum()), float(found.sums[rows].sum())


def write_and_sync(path: Path, times: int, data_only: bool = False) -> float:
    """Seconds in fsync (or fdatasync) by our own clock, after a write each."""
    sync, spent = os.fdatasync if data_only else os.fsync, 0.0
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        for _ in range(times):
            os.write(fd, bytes(4096))
            began = time.perf_counter()
            sync(fd)
            spent += time.perf_counter() - began
    finally:
        os.close(fd)
    return spent


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_every_fsync_counts_and_its_time_is_ours(kind: str) -> None:
    with loop(320) as disk, mounted(disk, kind) as folder, running(Sync) as probe:
        need(probe.sees_all or kind == "ext4", "only ext4's fsync has tracepoints at both ends")
        full = write_and_sync(folder / "a", 20)
        data = write_and_sync(folder / "b", 10, data_only=True)
        for operation, times, ours in (("fsync", 20, full), ("fdatasync", 10, data)):
            here = {} if kind == "btrfs" else {"device": disk.number}  # it may have several disks
            number, seconds = histogram(
                probe, DURATION, filesystem=kind, operation=operation, **here
            )
            assert number == times
            assert ours * (0.1 if emulated() else 0.5) < seconds <= ours
        assert probe.account().lost["map_full"] == 0


def test_fsyncs_belong_to_the_container() -> None:
    with cgroup("sync") as group, loop() as disk, mounted(disk, "ext4") as folder:
        with running(Sync) as probe:
            code = "import os,sys\nf = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)\n"
            code += "for _ in range(7): os.write(f, b'x'); os.fsync(f)"
            done = group.run(["python3", "-c", code, str(folder / "file")])
            assert done.returncode == 0, done.stdout
            number, _ = histogram(probe, DURATION, container=group.id, device=disk.number)
        assert number == 7


def commits(disk: Disk) -> tuple[int, dict[str, int]]:
    """(transactions, means per transaction) since it was mounted, as jbd2 counts them itself."""
    info = Path(f"/proc/fs/jbd2/{disk.path.name}-8/info").read_text()
    means = re.findall(r"(\d+) (handles|logged blocks) per transaction", info)
    return int(info.split()[0]), {name: int(mean) for mean, name in means}


def test_commits_are_jbd2s() -> None:
    """Each fsync of something new is a commit; jbd2 tells their number, and means of the rest."""
    with loop() as disk, mounted(disk, "ext4") as folder, running(Sync) as probe:
        assert commits(disk)[0] == histogram(probe, COMMIT, device=disk.number)[0] == 0
        began = time.monotonic()
        write_and_sync(folder / "file", 15)
        found, seconds = histogram(probe, COMMIT, device=disk.number)
        number, means = commits(disk)
        assert found == number >= 15
        assert 0 < seconds <= time.monotonic() - began
        for name, per_transaction in ((HANDLES, "handles"), (BLOCKS, "logged blocks")):
            family = metric(probe, name)
            total = int(family.values[row(family, device=disk.number)].sum())
            assert total // number == means[per_transaction]


@contextmanager
def delays(disk: Disk, of: str) -> Iterator[Disk]:
    """The disk, on which each write takes at least DELAY: by dm-delay, or stalls at completion."""
    if of == "dm-delay":
        with delayed(disk, write_ms=round(DELAY * 1000)) as mapped:
            yield mapped
    else:
        yield disk


@pytest.mark.parametrize("of", ["dm-delay", "stalls"])
def test_a_slow_fsync_is_an_event_that_says_what_it_waited_for(of: str) -> None:
    """One that commits: it waits for data, journal and commit block, each slow."""
    threshold = round(DELAY * 0.8 * 1e9)
    with loop() as raw, delays(raw, of) as disk, mounted(disk, "ext4") as folder:
        subprocess.run(["sync", "-f", folder], check=True)
        with running(Sync, slow_sync=threshold, slow_commit=threshold) as probe:
            if of == "stalls":
                only = {"milliseconds": DELAY * 1000, "count": 8, "disk": disk.number}
                with stall("block_rq_complete", gap_milliseconds=0, **only) as stalls:
                    ours = write_and_sync(folder / "slow file", 1)
                    need(len(stalls), "no stall fell into the fsync")
            else:
                ours = write_and_sync(folder / "slow file", 1)
            events = told(probe, disk)
            syncs = [event for event in events if event.kind == "slow_syncs"]
            (sync,) = syncs
            assert DELAY * 1e9 <= sync.fields["duration_ns"] <= ours * 1e9
            assert sync.fields["path"] == str(folder / "slow file")
            assert sync.fields["inode"] == (folder / "slow file").stat().st_ino
            assert sync.fields["pid"] == os.getpid()
            assert sync.fields["operation"] == "fsync"
            assert 0 < sync.fields["commit_ns"] <= sync.fields["duration_ns"] * 1.5
            (commit,) = (event for event in events if event.kind == "slow_commits")
            assert commit.fields["duration_ns"] >= DELAY * 1e9
            assert commit.fields["handles"] > 0
            assert "the journal's commit took" in sync.title
            assert f"the journal of {disk.path.name} took" in commit.title
            number, seconds = histogram(probe, DURATION, device=disk.number)
            assert number == 1
            assert seconds * 1e9 == pytest.approx(sync.fields["duration_ns"], rel=0.01)


def test_an_fsync_that_hangs_has_an_age() -> None:
    """Two seconds and more on a slow disk: the gauge grows meanwhile and is gone afterwards."""
    with (
        loop() as raw,
        delayed(raw, write_ms=1000) as disk,
        mounted(disk, "ext4") as folder,
        running(Sync) as probe,
    ):
        began = time.monotonic()
        thread = threading.Thread(target=write_and_sync, args=(folder / "file", 1))
        thread.start()
        time.sleep(0.7)
        found = metric(probe, OLDEST)
        (age,) = found.values[row(found, device=disk.number)]
        assert 0.2 < age <= time.monotonic() - began
        thread.join()
        assert OLDEST not in {family.name for family in probe.collect()}


def test_a_failed_fsync_is_an_error() -> None:
    """The backing file of the disk has no room; the file system itself goes on."""
    with (
        small_tmpfs(24) as backing,
        loop(64, backing) as disk,
        mounted(disk, "ext4") as folder,
        running(Sync, slow_sync=1) as probe,
    ):
        fd = os.open(folder / "file", os.O_CREAT | os.O_WRONLY)
        for _ in range(32):
            os.write(fd, bytes(1 << 20))
        with pytest.raises(OSError, match=r"error|space") as raised:
            os.fsync(fd)
        os.close(fd)
        found = metric(probe, ERRORS)
        rows = row(found, device=disk.number, operation="fsync")
        assert int(found.values[rows].sum()) == 1
        (event,) = (e for e in told(probe, disk) if e.kind == "slow_syncs")
        assert event.fields["result"] == -(raised.value.errno or 0)
        assert f"failed with error {raised.value.errno}" in event.title


def test_waits_for_space_in_the_log_of_xfs() -> None:
    """Its two tracepoints with made-up arguments: a wait of this thread, 30 ms long."""
    with running(Sync, slow_journal=20_000_000) as probe:
        assert probe.object
        run_raw(probe.object, "xfs_wait_begins", 0)
        time.sleep(0.03)
        run_raw(probe.object, "xfs_wait_ends", 0)
        run_raw(probe.object, "xfs_wait_ends", 0)  # of a wait that began before the probe
        number, seconds = histogram(probe, "huatuo_fs_sync_journal_wait_seconds", filesystem="xfs")
        assert number == 1
        assert 0.03 <= seconds < (1 if disturbed() else 0.06)
        rows = [batch.rows for batch in probe.drain() if batch.ring == "journal_stalls"]
        assert [int(batch["tgid"][0]) for batch in rows] == [os.getpid()]


def test_tasks_wait_for_ext4s_journal_while_a_commit_locks_it() -> None:
    """Many writers of one journal on a slow disk; what they waited is part of their time."""
    with (
        loop(128) as raw,
        delayed(raw, read_ms=20, write_ms=20) as disk,
        mounted(disk, "ext4") as folder,
        running(Sync, slow_journal=1_000_000) as probe,
    ):
        need(
            any("wait_transaction_locked" in hook for hook in probe.hooks),
            "wait_transaction_locked() cannot be hooked here",
        )
        spent = write_in_parallel(folder, 4, seconds=6)
        number, seconds = histogram(probe, "huatuo_fs_sync_journal_wait_seconds", filesystem="ext4")
        need(number, "nobody had to wait for a locked transaction")
        assert 0 < seconds <= spent
        for event in told(probe, disk):
            if event.kind == "journal_stalls":
                assert event.fields["pid"] == os.getpid()
                assert event.fields["filesystem"] == "ext4"


def write_in_parallel(folder: Path, threads: int, seconds: float) -> float:
    """Seconds that all threads together took."""
    began = time.monotonic()
    end = began + seconds

    def work(number: int) -> None:
        while time.monotonic() < end:
            path = folder / f"{number}"
            path.write_bytes(bytes(65536))
            if number % 2:
                path.unlink()
            else:
                write_and_sync(path, 1)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return threads * (time.monotonic() - began)
