"""memory.reclaim against page cache of known size under a limit, stalls of known length, vmstat."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from huatuo.kernel.cgroupfs import identity_is_v1
from huatuo.kernel.gfp import gfp_names
from huatuo.model.metric import Metric
from huatuo.probes.memory.reclaim import Reclaim
from tests.live.conftest import (
    HOST,
    Group,
    cgroup,
    disturbed,
    events,
    metric,
    need,
    row,
    running,
)
from tests.live.disk import Disk, loop, null_blk
from tests.live.memory import MIB, child, limit, need_disposable_host, pairs, vmstat
from tests.live.stall import stall

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

LIMIT, FILE = 32 * MIB, 128 * MIB
BATCHED = 64  # pages by which memory.stat may be behind, before 5.13 at any time
PREFIX = "huatuo_memory_reclaim_"
DURATION = PREFIX + "duration_seconds"
SCANNED, RECLAIMED = PREFIX + "scanned_pages_total", PREFIX + "reclaimed_pages_total"
READ_SLOWLY = """
import os, sys, time
sys.stdin.readline()
file = os.open(sys.argv[1], os.O_RDONLY)
while os.read(file, 1 << 18):
    time.sleep(0.001)
"""
TAKE = """
import mmap, sys, time
hold = mmap.mmap(-1, int(sys.argv[1]))
print(1, flush=True)
for at in range(0, len(hold), 4096):
    hold[at] = 1
print(2, flush=True)
time.sleep(float(sys.argv[2]))
"""


@contextmanager
def opened_loop() -> Iterator[Disk]:
    """A disk that is open: the cache of one that nobody has open is dropped."""
    with loop(FILE // MIB) as disk, disk.path.open("rb"):
        yield disk


def read_through(group: Group, disk: Disk) -> None:
    """Read all of a disk through the page cache, which is charged to the cgroup."""
    done = group.run(["dd", f"if={disk.path}", "of=/dev/null", "bs=256k"])
    assert done.returncode == 0, done.stdout


def count(found: Metric, **labels: object) -> int:
    """Of a counter its value, of a histogram the number of values."""
    return int(found.values[row(found, **labels)].sum())


def seconds(found: Metric, **labels: object) -> float:
    assert found.sums is not None
    return float(found.sums[row(found, **labels)].sum())


def slow(probe: Reclaim, group: Group, wait: float = 0.3) -> npt.NDArray[np.void]:
    rows = events(probe, "slow_reclaims", wait)
    return rows[rows["cgroup"] == group.id]


def test_pages_are_the_kernels() -> None:
    """What was read and is not in the page cache any more was reclaimed."""
    with cgroup("reclaim") as group, opened_loop() as disk, running(Reclaim) as probe:
        limit(group, LIMIT)
        before = pairs(group.directory / "memory.stat")
        read_through(group, disk)
        after = pairs(group.directory / "memory.stat")
        found = {name: metric(probe, name) for name in (DURATION, SCANNED, RECLAIMED)}
        here = {"container": group.id, "kind": "memcg"}
        reclaimed = count(found[RECLAIMED], **here)
        scanned = count(found[SCANNED], **here)
        cached = after["total_cache" if identity_is_v1(HOST) else "file"] // HOST.page_size
        gone = FILE // HOST.page_size - cached
        assert gone - BATCHED <= reclaimed <= gone * 1.03
        if "pgscan" in after:
            assert scanned == after["pgscan"] - before["pgscan"]
            steals = after["pgsteal"] - before["pgsteal"]
            assert steals <= reclaimed <= steals + BATCHED  # and the kernel's own objects
        else:
            assert reclaimed <= scanned <= reclaimed * 1.1
        limits = pairs(group.directory / "memory.events") if "pgscan" in after else {}
        if limits:
            assert count(found[DURATION], **here) == limits["max"]
        assert 0 < seconds(found[DURATION], **here) < 30
        assert count(found[DURATION], container=group.id, kind="direct") == 0


def test_below_the_limit_there_is_none() -> None:
    with (
        cgroup("reclaim0") as group,
        opened_loop() as disk,
        running(Reclaim, slow_threshold=0) as probe,
    ):
        limit(group, 2 * FILE)
        read_through(group, disk)
        found = {m.name: m for m in probe.collect()}.get(DURATION)
        assert found is None or count(found, container=group.id) == 0
        assert len(slow(probe, group)) == 0


def test_two_containers_have_their_own() -> None:
    with cgroup("a") as a, cgroup("b") as b, opened_loop() as disk, running(Reclaim) as probe:
        gone = {}
        for group, size in ((a, LIMIT), (b, LIMIT * 2)):
            limit(group, size)
            subprocess.run(["blockdev", "--flushbufs", disk.path], check=True)
            read_through(group, disk)
            stat = pairs(group.directory / "memory.stat")
            cached = stat["total_cache" if identity_is_v1(HOST) else "file"]
            gone[group.id] = (FILE - cached) // HOST.page_size
        found = metric(probe, RECLAIMED)
        for id, pages in gone.items():
            assert pages - BATCHED <= count(found, container=id) <= pages * 1.03 + BATCHED


def test_time_is_exact_and_long_ones_are_events() -> None:
    """Stalls within reclaim: exact number, length, owner, limit, pages, flags and stack."""
    milliseconds, times = 20, 5
    with cgroup("slow") as group, opened_loop() as disk:
        limit(group, LIMIT)
        with running(Reclaim, slow_threshold=10_000_000) as probe:
            read = [sys.executable, "-c", READ_SLOWLY, str(disk.path)]
            with (
                group.start(read, stdin=True) as reader,
                stall(
                    "mm_vmscan_lru_shrink_inactive",
                    milliseconds=milliseconds,
                    count=times,
                    tid=reader.pid,
                ) as stalls,
            ):
                reader.communicate("\n", timeout=60)
                truth, stalled = stalls.rows(), stalls.seconds
            rows = slow(probe, group)
            assert len(truth) == times
            total = seconds(metric(probe, DURATION), container=group.id)
            assert stalled <= total < stalled + (3 if disturbed() else 0.1)
            check_events(rows, truth, reader.pid, group)


def check_events(
    rows: npt.NDArray[np.void], truth: npt.NDArray[np.void], pid: int, domain: Group
) -> None:
    assert len(rows) >= len(truth)
    if not disturbed():
        assert len(rows) == len(truth)
        assert (rows["duration"] >= truth["duration"]).all()
        assert (rows["duration"] < truth["duration"] + 10_000_000).all()
    assert set(rows["tgid"]) == set(rows["tid"]) == {pid}
    assert {name.decode() for name in rows["comm"]} == {Path(sys.executable).name[:15]}
    assert set(rows["domain_cgroup"]) == {domain.id}
    assert set(rows["domain_limit"]) == {LIMIT}
    assert (rows["domain_used"] <= LIMIT).all()
    assert (rows["reclaimed"] > 0).all()
    assert (rows["scanned"] >= rows["reclaimed"] * 0.9).all()
    assert set(rows["order"]) == {0}, "the arguments of the tracepoint changed places in 7.2"
    for flags in rows["gfp"].tolist():
        names = gfp_names(flags).split("|")
        assert names[0].startswith("GFP_"), names
        assert "__GFP_HARDWALL" in names or "HIGHUSER" in names[0], names
    assert (rows["stack"][:, 2] != 0).all()


def test_the_limit_may_be_a_parents() -> None:
    with (
        cgroup("over") as parent,
        child(parent, "below") as group,
        opened_loop() as disk,
        running(Reclaim, slow_threshold=0, max_per_second_per_container=200) as probe,
    ):
        limit(parent, LIMIT)
        read_through(group, disk)
        rows = slow(probe, group)
        assert len(rows)
        assert set(rows["domain_cgroup"]) == {parent.id}
        assert set(rows["domain_limit"]) == {LIMIT}


def test_title_and_stack_say_what_waited_for_what() -> None:
    from huatuo.enrich.enricher import Enricher

    with cgroup("title") as group, opened_loop() as disk:
        with running(Reclaim, slow_threshold=0) as probe:
            limit(group, LIMIT)
            read_through(group, disk)
            time.sleep(0.2)
            enricher = Enricher(HOST)
            found = [e for batch in probe.drain() for e in enricher.events(batch, Reclaim)]
        ours = [
            e for e in found if e.container and e.container.cgroup.endswith(group.directory.name)
        ]
        assert ours
        assert "the limit of 32 MiB was reached" in ours[0].title
        assert ours[0].fields["kind"] == "memcg"
        assert "__GFP_" in ours[0].fields["gfp"]
        assert any("try_to_free_mem_cgroup_pages" in frame for frame in ours[0].stack)
        assert any("read" in frame for frame in ours[0].stack)


def test_memory_high_holds_tasks_up() -> None:
    """Anonymous memory beyond memory.high, which cannot be reclaimed: the writer is slowed down."""
    need(not identity_is_v1(HOST), "cgroup v1 has no memory.high")
    with cgroup("high") as group, running(Reclaim, over_high_threshold=1_000_000) as probe:
        need(any("over_high" in hook for hook in probe.hooks), "needs fentry or kprobes")
        group.write("memory.high", LIMIT)
        group.write("memory.swap.max", 0)
        with group.start([sys.executable, "-c", TAKE, str(LIMIT + MIB), "0"]) as process:
            process.communicate(timeout=100)
        name = PREFIX + "over_high_seconds"
        found = metric(probe, name)
        assert pairs(group.directory / "memory.events")["high"] > 0
        held_up = seconds(found, container=group.id)
        rows = events(probe, "over_high_waits", 0.3)
        rows = rows[rows["cgroup"] == group.id]
        assert len(rows)
        assert set(rows["domain_cgroup"]) == {group.id}
        assert set(rows["domain_limit"]) == {LIMIT}
        assert (rows["domain_used"] > LIMIT).any()
        assert set(rows["tgid"]) == {process.pid}
        stalled = pressure_seconds(group)
        assert stalled * 0.5 < held_up < stalled * 1.5 + 0.5


def pressure_seconds(group: Group) -> float:
    """Time in which some task of the cgroup waited for memory."""
    path = group.directory / "memory.pressure"
    need(path.exists(), "this kernel has no PSI per cgroup")
    some = path.read_text().splitlines()[0]
    return int(some.rpartition("total=")[2]) / 1e6


def test_host_pressure_is_direct_reclaim_and_kswapd() -> None:
    """A reader of files larger than memory, beside one that takes half of it: as vmstat counts."""
    need_disposable_host("takes all memory")
    total = pairs(HOST.proc / "meminfo")["MemTotal"] * 1024
    (HOST.proc / "sys/vm/drop_caches").write_text("3")  # kswapd sleeps when we begin
    time.sleep(1)
    with null_blk(gb=2) as disk, running(Reclaim, slow_threshold=1000) as probe:
        before = vmstat()
        hog = [sys.executable, "-c", TAKE, str(total // 2), "600"]
        with subprocess.Popen(hog, stdout=subprocess.PIPE) as process:
            assert process.stdout
            assert process.stdout.read(4) == b"1\n2\n"
            read = subprocess.run(
                ["dd", f"if={disk.path}", "of=/dev/null", "bs=1M"],
                check=False,
                capture_output=True,
                text=True,
            )
            process.kill()
            assert read.returncode == 0, read.stderr
        for _ in range(100):  # until kswapd sleeps
            after = vmstat()
            found = {m.name: m for m in probe.collect()}
            kswapd = count(found[PREFIX + "kswapd_scanned_pages_total"])
            if kswapd == after["pgscan_kswapd"] - before["pgscan_kswapd"]:
                break
            time.sleep(0.1)
        more = {name: after[name] - before[name] for name in after if name in before}
        assert more["pgscan_kswapd"] > 1000
        assert kswapd == more["pgscan_kswapd"]
        assert count(found[PREFIX + "kswapd_reclaimed_pages_total"]) == more["pgsteal_kswapd"]
        stalls = sum(number for name, number in more.items() if name.startswith("allocstall"))
        direct = count(found[DURATION], kind="direct") if DURATION in found else 0
        assert direct == stalls
        scanned = count(found[SCANNED], kind="direct") if direct else 0
        assert scanned == more["pgscan_direct"]
        runs = found[PREFIX + "kswapd_run_seconds"]
        assert 0 < count(runs) <= more["pageoutrun"]
        cpu = float(found[PREFIX + "kswapd_cpu_seconds_total"].values.sum())
        assert 0 < cpu <= seconds(runs) * 1.1
        assert count(found[PREFIX + "kswapd_wakeups_total"]) >= 1
