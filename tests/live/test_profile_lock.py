"""Waits for the kernel's locks: threads that map and unmap all want their mmap_lock."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from huatuo.enrich.symbols.kernel import KernelSymbols
from huatuo.probes.profile.lock import Lock
from tests.live.conftest import HOST
from tests.live.profiling import compiled, named, profiled

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]


def test_the_mmap_lock_is_fought_over(tmp_path: Path) -> None:
    """All samples of the writers are waits for one and the same rw-semaphore, taken in mmap or
    munmap, and no sum of waits is longer than its threads lived. From 6.4 to 6.14 each mapping has
    one, too (struct vma_lock)."""
    program = compiled(tmp_path, "mappers.c", "-O2", "-fomit-frame-pointer")
    with profiled(Lock, minimum_wait=1000) as session:
        for _ in range(2):  # the first time for its rows
            with subprocess.Popen([program, "2"]) as process:
                process.wait(60)
        samples = session.samples(process.pid)
    kinds = Lock.kinds()
    writers = [s for s in samples if kinds[int(s.row["kind"])] == "rwsem_write"]
    assert len(writers) > 20, "nobody waited"
    symbols = KernelSymbols(HOST)
    of_mmap = [
        sample
        for sample in writers
        if any("mmap" in symbols.name(a) or "munmap" in symbols.name(a) for a in sample.kernel)
    ]
    assert len(of_mmap) > 0.9 * len(writers)
    (_, most), *others = Counter(int(s.row["object"]) for s in of_mmap).most_common()
    major, minor, *_ = HOST.kernel_release.split(".")
    has_vma_locks = (6, 4) <= (int(major), int(minor)) < (6, 15)
    assert not others or (has_vma_locks and most > len(of_mmap) / 2)
    assert sum("map_and_unmap" in named(s.user, program) for s in of_mmap) > 0.9 * len(of_mmap)
    waited = sum(int(s.row["value"]) for s in of_mmap) / 1e9
    assert 0 < waited < 4 * 2.5
