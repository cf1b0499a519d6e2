"""Address space: exactly what a program of known requests asks for."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from huatuo.probes.profile.virtual import Virtual
from tests.live.profiling import compiled, named, profiled

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

MIB = 1 << 20
ASKED = {"keep": 200, "churn": 400, "huge": 66, "filled": 50, "heap": 30}


def test_requests_are_exact(tmp_path: Path) -> None:
    program = compiled(tmp_path, "memory.c", "-O2", "-fomit-frame-pointer")
    with profiled(Virtual, at_least=MIB) as session:
        for _ in range(2):  # the first time for its rows
            with subprocess.Popen(
                [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as process:
                process.communicate("")
        samples = session.samples(process.pid)
    kinds = Virtual.kinds()
    found: Counter[str] = Counter()
    calls: dict[str, set[str]] = {}
    for sample in samples:
        names = named(sample.user, program)
        owner = next((name for name in names if name in ASKED), "other")
        found[owner] += int(sample.row["value"])
        calls.setdefault(owner, set()).add(kinds[int(sample.row["kind"])])
    for name, size in ASKED.items():
        assert found[name] == size * MIB, found
    assert calls["heap"] == {"brk"}
    assert calls["keep"] == {"mmap"}
