"""Where threads wait: a program whose threads wait in known places, for known times."""

from __future__ import annotations

import subprocess
import time
from collections import defaultdict
from pathlib import Path

import pytest

from huatuo.enrich.symbols.kernel import KernelSymbols
from huatuo.enrich.waits import reason_of
from huatuo.probes.profile.blocked import Blocked
from tests.live.conftest import HOST, emulated
from tests.live.profiling import Sample, compiled, named, profiled

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

SECONDS = 4.0
SETTINGS = {"passes_per_second": 20}
WAITS_IN = {"holder": "hold_and_sleep", "waiter": "want_lock", "reader": "reader"}
WAITS_IN |= {"idler": "idler", "sleeper": "sleeper"}
REASONS = {"holder": "sleep", "waiter": "lock", "reader": "pipe", "idler": "lock"}
REASONS |= {"sleeper": "sleep"}


def thread_of(sample: Sample) -> str:
    return bytes(sample.row["thread"]).split(b"\0")[0].decode()


def seconds(samples: list[Sample]) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for sample in samples:
        found[thread_of(sample)] += int(sample.row["value"]) / 1e9
    return found


@pytest.mark.parametrize(("kind", "report_after"), [("plain", 0.5), ("pi", 30)])
def test_waits_are_found_with_their_place_reason_and_holder(
    kind: str, report_after: float, tmp_path: Path
) -> None:
    """Each thread's waits add up to the wall time; waiters name the thread that holds the lock.

    Waits that are not told before their thread ends are told then.
    """
    program = compiled(tmp_path, "convoy.c", "-O2", "-fomit-frame-pointer")
    with profiled(Blocked, **SETTINGS, report_after=int(report_after * 1e9)) as session:
        subprocess.run([program, "1.5", kind], check=True)  # for its rows
        began = time.monotonic()
        with subprocess.Popen([program, str(SECONDS), kind]) as process:
            process.wait(60)
        wall = time.monotonic() - began
        samples = session.samples(process.pid)
    waited = seconds(samples)
    tolerance = 0.5 if emulated() else 0.2
    for name in ("reader", "idler", "sleeper"):
        assert waited[name] == pytest.approx(wall, rel=tolerance), waited
    assert waited["waiter"] == pytest.approx(3 * wall, rel=tolerance), waited
    complete = [s for s in samples if s.status == "complete"]
    assert len(complete) > 0.9 * len(samples)
    symbols = KernelSymbols(HOST)
    places: dict[str, float] = defaultdict(float)
    for sample in complete:
        thread = thread_of(sample)
        if thread not in WAITS_IN:
            continue
        names = named(sample.user, program)
        reason = reason_of([symbols.name(address).partition("+")[0] for address in sample.kernel])
        if WAITS_IN[thread] in names and reason == REASONS[thread]:
            places[thread] += int(sample.row["value"]) / 1e9
    for thread in WAITS_IN:
        assert places[thread] > 0.7 * waited[thread], (thread, places, waited)
    blamed = [s for s in complete if thread_of(s) == "waiter" and s.row["owner"]]
    total = sum(int(s.row["value"]) for s in blamed) / 1e9
    assert total > 0.6 * waited["waiter"], "the holder of the lock is unknown"
    holders = {int(s.row["local_tid"]): thread_of(s) for s in samples}
    by: dict[str, float] = defaultdict(float)
    for sample in blamed:
        by[holders.get(int(sample.row["owner"]), "?")] += int(sample.row["value"]) / 1e9
    assert by["holder"] > 0.8 * total, by


def test_runnable_threads_wait_in_the_run_queue() -> None:
    """Two hogs pinned to one CPU: together they are runnable without a CPU all of the time."""
    burn = "import os,time\nos.sched_setaffinity(0,{0})\nend=time.time()+3\n"
    burn += "while time.time()<end: pass"
    with profiled(Blocked, **SETTINGS) as session:
        hogs = [subprocess.Popen(["python3", "-c", burn]) for _ in range(2)]
        for hog in hogs:
            hog.wait(60)
        samples = [s for hog in hogs for s in session.samples(hog.pid)]
    kinds = Blocked.kinds()
    queued = [s for s in samples if kinds[int(s.row["kind"])] == "runnable"]
    waited = sum(int(s.row["value"]) for s in queued) / 1e9
    assert waited > 1.5, "one of the two waits at any time"
