"""Resident memory by call path: what a program keeps and frees is known, and so is its RSS."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from huatuo.probes.profile.resident import Resident
from tests.live.conftest import HOST
from tests.live.profiling import compiled, named, profiled

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

MIB = 1 << 20
KEPT = {"keep": 200, "filled": 50, "heap": 30}


def rss(pid: int) -> int:
    return int(HOST.read(HOST.proc / f"{pid}/statm").split()[1]) * HOST.page_size


def huge_kib(pid: int) -> int:
    lines = HOST.read(HOST.proc / f"{pid}/smaps_rollup").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages"))


def test_kept_memory_is_found_and_freed_memory_is_not(tmp_path: Path) -> None:
    """One page in 16 is sampled here, so that the error of sampling is below the 5 % allowed."""
    program = compiled(tmp_path, "memory.c", "-O2")
    settings = {"one_page_in": 16, "one_region_in": 2, "look_every": 10**12}
    with profiled(Resident, **settings) as session:
        pipe = subprocess.PIPE
        subprocess.run([program], input="", stdout=pipe, text=True, check=True)  # for its rows
        with subprocess.Popen([program], stdin=pipe, stdout=pipe, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            session.end()
            probe = session.probe
            assert isinstance(probe, Resident)
            rows = probe.resident()
            truth, huge = rss(process.pid), huge_kib(process.pid) * 1024
            process.communicate()
        mine = rows[rows["tgid"] == process.pid]
        found: Counter[str] = Counter()
        for row in mine:
            names = named(session.sample(row).user, program)
            owner = next((name for name in names if name in (*KEPT, "churn", "huge")), "other")
            found[owner] += int(row["value"])
        gone = probe.resident()
    shown = {name: f"{value / MIB:.0f} MiB" for name, value in found.items()}
    print(f"{shown}, sum {sum(found.values()) / MIB:.0f} MiB, RSS {truth / MIB:.0f} MiB")
    for name, size in KEPT.items():
        assert found[name] == pytest.approx(size * MIB, rel=0.15 if size < 100 else 0.05), shown
    assert found["churn"] == 0, shown
    if huge >= 60 * MIB:  # the kernel had huge pages to give
        assert found["huge"] == pytest.approx(64 * MIB, rel=0.5), shown
    assert sum(found.values()) == pytest.approx(truth, rel=0.1)
    assert not (gone["tgid"] == process.pid).any(), "a process that is gone has no memory"
