"""Pages taken from the allocator: as many as a program of known size touches."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from huatuo.probes.profile.allocated import Allocated
from tests.live.profiling import compiled, named, profiled

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

MIB = 1 << 20
TAKEN = {"keep": 200, "churn": 400, "filled": 50, "heap": 30}


def test_pages_are_charged_to_the_functions_that_touch_them(tmp_path: Path) -> None:
    """What is freed in between counts too; page tables add about 0.2 %."""
    program = compiled(tmp_path, "memory.c", "-O2", "-fomit-frame-pointer")
    with profiled(Allocated, sample_every=1 << 17) as session:
        for _ in range(2):  # the first time for its rows
            with subprocess.Popen(
                [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as process:
                process.communicate("")
        samples = session.samples(process.pid)
    found: Counter[str] = Counter()
    for sample in samples:
        names = named(sample.user, program)
        owner = next((name for name in names if name in (*TAKEN, "huge")), "other")
        found[owner] += int(sample.row["value"])
    shown = {name: f"{value / MIB:.0f} MiB" for name, value in found.items()}
    print(shown)
    for name, size in TAKEN.items():
        assert found[name] == pytest.approx(size * MIB, rel=0.1, abs=4 * MIB), shown
    assert found["huge"] == pytest.approx(64 * MIB, rel=0.2), shown
