"""Every absence from the CPU: as many as the kernel counts switches, as long as the wall time."""

from __future__ import annotations

import subprocess
import time
from collections import defaultdict
from pathlib import Path

import pytest

from huatuo.probes.profile.offcpu import Offcpu
from tests.live.conftest import emulated
from tests.live.profiling import compiled, named, profiled

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

SECONDS = 3.0


def test_absences_add_up_to_the_wall_time(tmp_path: Path) -> None:
    """A thread that sleeps nearly always is away nearly always, in the right function."""
    program = compiled(tmp_path, "convoy.c", "-O2", "-fomit-frame-pointer")
    with profiled(Offcpu) as session:
        subprocess.run([program, "1"], check=True)  # for its rows
        began = time.monotonic()
        with subprocess.Popen([program, str(SECONDS)]) as process:
            process.wait(60)
        wall = time.monotonic() - began
        samples = session.samples(process.pid)
    away: dict[str, float] = defaultdict(float)
    right: dict[str, float] = defaultdict(float)
    places = {"waiter": "want_lock", "holder": "hold_and_sleep"}
    for sample in samples:
        thread = bytes(sample.row["thread"]).split(b"\0")[0].decode()
        value = int(sample.row["value"]) / 1e9
        away[thread] += value
        if sample.status == "complete" and places.get(thread) in named(sample.user, program):
            right[thread] += value
    tolerance = 0.4 if emulated() else 0.15
    assert away["holder"] == pytest.approx(wall, rel=tolerance)
    assert right["holder"] > 0.9 * away["holder"]
    assert right["waiter"] > 0.8 * away["waiter"]
    assert max(int(s.row["value"]) for s in samples) / 1e9 < wall + 0.1


def test_only_the_process_that_is_asked_for(tmp_path: Path) -> None:
    program = compiled(tmp_path, "convoy.c", "-O2")
    with subprocess.Popen([program, "3"]) as process:
        with profiled(Offcpu, only_process=process.pid) as session:
            time.sleep(1.5)
            session.end()
            everything = session.samples()
        process.wait(60)
    assert everything
    assert {int(s.row["tgid"]) for s in everything} == {process.pid}
