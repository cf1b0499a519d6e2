"""`huatuo profile` as a user runs it: names, shares and formats of a program that is known."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.conftest import emulated
from tests.live.profiling import compiled

LONG = "15s" if emulated() else "4s"  # so that most of it is after its rows are there
pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]


def profile(*words: str) -> str:
    command = [sys.executable, "-m", "huatuo", "profile", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_functions_and_shares_of_one_process(tmp_path: Path) -> None:
    program = compiled(tmp_path, "chain.c", "-O2", "-g", "-fomit-frame-pointer")
    with subprocess.Popen([program, "200"]) as process:
        try:
            told = profile("--pid", str(process.pid), "--duration", LONG, "--json", "--top", "500")
            folded = profile("--pid", str(process.pid), "--duration", LONG, "--format", "folded")
        finally:
            process.kill()
    answer = json.loads(told)
    total = {row["function"]: row["total"] / answer["total"] for row in answer["functions"]}
    assert total["spin_a"] == pytest.approx(0.6, abs=0.12)
    assert total["spin_b"] == pytest.approx(0.3, abs=0.12)
    assert total["main"] > 0.95
    assert answer["statuses"]["complete"] > 0.95 * answer["total"]
    stacks = [line.rpartition(" ")[0].split(";") for line in folded.splitlines()]
    chain = ["main", "turn", "deep", "deeper", "spin_a", "burn"]
    assert any(stack[-len(chain) :] == chain or chain[:-1] == stack[-5:] for stack in stacks)


def test_waits_of_one_process(tmp_path: Path) -> None:
    program = compiled(tmp_path, "convoy.c", "-O2", "-g", "-fomit-frame-pointer")
    with subprocess.Popen([program, "200"]) as process:
        try:
            pid = str(process.pid)
            told = profile("--pid", pid, "--type", "holder", "--duration", LONG, "--json")
        finally:
            process.kill()
    answer = json.loads(told)
    (holder,) = [row for row in answer["functions"] if row["function"] == "hold_and_sleep"]
    assert holder["total"] > 0.8 * answer["total"], "who holds the lock is blamed for the waits"
