"""memory.compaction against the kernel's counters in vmstat, and stalls of known length.

Compaction moves memory of the whole machine: in a VM only.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from huatuo.model.metric import Metric
from huatuo.probes.memory.compaction import Compaction
from tests.live.conftest import HOST, cgroup, disturbed, events, metric, row, running
from tests.live.memory import MIB, need_disposable_host, pairs, vmstat
from tests.live.stall import stall

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

PREFIX = "huatuo_memory_compaction_"
DURATION = PREFIX + "duration_seconds"
COMPACT = HOST.proc / "sys/vm/compact_memory"
HUGE_PAGES = HOST.proc / "sys/vm/nr_hugepages"


def has_control(probe: Compaction) -> bool:
    return not probe.notes


def count(found: Metric, **labels: object) -> int:
    return int(found.values[row(found, **labels)].sum())


def growth(before: dict[str, int]) -> dict[str, int]:
    return {name: value - before.get(name, 0) for name, value in vmstat().items()}


@contextmanager
def fragmented(share: float) -> Iterator[None]:
    """Of free memory so much is split up: every second page of it is in use, and can be moved."""
    free = pairs(HOST.proc / "meminfo")["MemFree"] * 1024
    size = int(free * share) // (4 * MIB) * 4 * MIB
    with mmap.mmap(-1, size) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        for at in range(0, size, 4096):
            memory[at] = 1
        for at in range(0, size, 8192):
            memory.madvise(mmap.MADV_DONTNEED, at, 4096)
        yield


def test_compacting_everything_scans_what_vmstat_says() -> None:
    need_disposable_host("compacts all memory")
    with fragmented(0.5), running(Compaction) as probe:
        before = vmstat()
        COMPACT.write_text("1")
        more = growth(before)
        found = {m.name: m for m in probe.collect()}
        manual = {"kind": "manual"}
        assert count(found[DURATION], **manual) >= 1
        results = found[PREFIX + "results_total"]
        assert count(results, **manual) == count(found[DURATION], **manual)
        assert count(results, result="complete", **manual) >= 1
        if has_control(probe):
            scanned = count(found[PREFIX + "scanned_pages_total"])
            free = count(found[PREFIX + "scanned_free_pages_total"])
            assert scanned == more["compact_migrate_scanned"] > 1000
            assert free == more["compact_free_scanned"] > 1000


def test_time_is_exact_and_long_ones_are_events() -> None:
    """Stalls between begin and end: exact number and length, and who it was."""
    need_disposable_host("compacts all memory")
    milliseconds = 50
    with cgroup("compact") as group, running(Compaction, slow_threshold=40_000_000) as probe:
        script = f"read go; echo 1 > {COMPACT}; exit 0"
        with (
            group.start(["sh", "-c", script], stdin=True) as process,
            stall("mm_compaction_begin", milliseconds=milliseconds, tid=process.pid) as stalls,
        ):
            process.communicate("\n", timeout=100)
            truth, seconds = stalls.rows(), stalls.seconds
        assert len(truth) == 1
        rows = events(probe, "slow_compactions", 0.3)
        rows = rows[rows["cgroup"] == group.id]
        found = metric(probe, DURATION)
        assert found.sums is not None
        total = float(found.sums[row(found, container=group.id, kind="manual")].sum())
        assert seconds <= total < seconds + (10 if disturbed() else 1)
        assert len(rows) >= 1
        first = rows[0]
        assert (first["tgid"], first["tid"]) == (process.pid, process.pid)
        assert first["duration"] >= truth["duration"][0]
        assert first["order"] == -1
        assert first["stack"][2] != 0
        if has_control(probe):
            assert first["node"] == 0
            assert first["zone"].decode() in ("DMA", "DMA32", "Normal", "Movable")


def test_huge_pages_from_fragmented_memory_wait_for_compaction() -> None:
    """Direct compaction, and what it is for.

    vmstat's stalls count those, too, that are put off at once because the last ones failed.
    """
    need_disposable_host("takes memory for huge pages")
    with fragmented(0.8), running(Compaction, slow_threshold=0) as probe:
        before = vmstat()
        HUGE_PAGES.write_text("64")
        try:
            more = growth(before)
            rows = events(probe, "slow_compactions", 0.3)
            found = {m.name: m for m in probe.collect()}
        finally:
            HUGE_PAGES.write_text("0")
        direct = count(found[DURATION], kind="direct")
        assert more["compact_stall"] >= 1
        assert direct >= more["compact_success"]
        successes = count(found[PREFIX + "results_total"], kind="direct", result="success")
        assert successes >= more["compact_success"] >= 1
        rows = rows[(rows["kind"] == 0) & (rows["tgid"] == os.getpid())]
        assert len(rows)
        assert set(rows["order"]) == {9}, "huge pages are 2^9 small ones"
        if has_control(probe):
            scanned = count(found[PREFIX + "scanned_pages_total"])
            assert scanned == more["compact_migrate_scanned"]


def test_fallbacks_say_what_was_wanted_and_taken() -> None:
    """Page tables and files in a machine whose free memory is all of the movable kind."""
    need_disposable_host("fills memory")
    with running(Compaction) as probe:
        total = pairs(HOST.proc / "meminfo")["MemAvailable"] * 1024
        with mmap.mmap(-1, int(total * 0.8)) as memory:
            memory.madvise(mmap.MADV_NOHUGEPAGE)
            for at in range(0, len(memory), 4096):
                memory[at] = 1
        readers = [threading.Thread(target=stat_all, args=("/usr",))]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        time.sleep(0.2)
        found = metric(probe, PREFIX + "fallbacks_total")
        assert count(found) >= 1
        labels = {*found.labels["wanted"].values, *found.labels["taken"].values}
        assert labels <= {"unmovable", "movable", "reclaimable", "other"}
        pairs_found = zip(found.labels["wanted"].values, found.labels["taken"].values, strict=True)
        assert all(wanted != taken for wanted, taken in pairs_found)


def stat_all(folder: str) -> None:
    """Inodes and directory entries: the kernel's reclaimable objects."""
    for root, _, files in os.walk(folder):
        for name in files:
            Path(root, name).lstat()
