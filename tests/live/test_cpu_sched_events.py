"""cpu.sched: slow waits, own limits, uninterruptible sleeps, contention, migrations; all made."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.enricher import Enricher
from huatuo.enrich.symbols.kernel import KernelSymbols
from huatuo.probes.cpu.sched import Sched
from tests.live.conftest import HOST, Group, cgroup, disturbed, events, metric, need, row, running
from tests.live.limited import limited_cpu
from tests.live.profiling import compiled
from tests.live.workload import schedstat

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

MS = 1_000_000
SECOND = 1000 * MS
NEVER = 1 << 62
QUIET = {"slow_wait_threshold": NEVER, "block_threshold": NEVER, "contention_threshold": NEVER}
OTHER, LOCK = 2, 1  # enum block_reason

# Spins on CPU 0 as a real-time task once told to: nothing else runs there meanwhile.
REALTIME = """
import os, sys, time
os.sched_setaffinity(0, {0})
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
print("ready", flush=True)
sys.stdin.readline()
time.sleep(float(sys.argv[2]))
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end: pass
"""
# Wants CPU 0 for a moment every millisecond; says how long it had to wait at most.
VICTIM = """
import os, time
os.sched_setaffinity(0, {0})
worst, end = 0.0, time.monotonic() + 1.2
print("ready", flush=True)
while time.monotonic() < end:
    before = time.monotonic()
    time.sleep(0.001)
    worst = max(worst, time.monotonic() - before - 0.001)
print(worst)
"""
SPIN = "import os,time\nos.sched_setaffinity(0,{{0}})\nend=time.monotonic()+{}\n"
SPIN += "while time.monotonic()<end: pass"


@contextmanager
def python(group: Group, code: str, *argv: str) -> Iterator[subprocess.Popen[str]]:
    """Code in a container, ready to go."""
    enter = f'echo $$ > {group.directory}/cgroup.procs && exec "$@"'
    command = ["sh", "-c", enter, "sh", sys.executable, "-c", code, *argv]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_slow_wait_names_who_ran_meanwhile_and_for_how_long() -> None:
    """Two real-time tasks, 80 and then 120 ms: the wait is 200 ms, their shares 40 and 60 %."""
    settings = QUIET | {"slow_wait_threshold": 100 * MS}
    with (
        cgroup("wait-victim") as victims,
        cgroup("wait-first") as firsts,
        cgroup("wait-second") as seconds,
        running(Sched, **settings) as probe,
        python(firsts, REALTIME, "0.08", "0.3") as first,
        python(seconds, REALTIME, "0.12", "0.31") as second,
        python(victims, VICTIM) as victim,
    ):
        ids = [group.id for group in (victims, firsts, seconds)]
        waited_before = schedstat(victim.pid).run_delay_ns
        go(first)
        go(second)
        time.sleep(0.8)
        waited = schedstat(victim.pid).run_delay_ns - waited_before
        assert victim.stdout
        worst = float(victim.stdout.readline()) * 1e9
        rows = events(probe, "slow_waits", 0.2)
    (found,) = rows[(rows["tid"] == victim.pid) & (rows["wait"] > 150 * MS)]
    assert found["cgroup"] == ids[0]
    assert found["cpu"] == 0
    assert int(found["wait"]) == pytest.approx(worst, abs=10 * MS)
    assert found["wait"] <= waited * 1.01
    assert found["wait"] >= 195 * MS
    assert found["throttled"] == 0
    ran = {int(c["tgid"]): c for c in found["culprits"]}
    for process, group, length in ((first, ids[1], 80 * MS), (second, ids[2], 120 * MS)):
        culprit = ran[process.pid]
        assert culprit["cgroup"] == group
        assert culprit["comm"].startswith(b"python")
        assert int(culprit["ran"]) == pytest.approx(length, abs=(40 if disturbed() else 12) * MS)
    assert int(found["culprits"]["ran"].sum()) == pytest.approx(int(found["here"]), rel=0.02)


def test_the_event_reads_as_a_sentence_with_containers_and_shares() -> None:
    settings = QUIET | {"slow_wait_threshold": 50 * MS}
    with (
        cgroup("said-victim") as victims,
        cgroup("said-culprit") as culprits,
        running(Sched, **settings) as probe,
        python(culprits, REALTIME, "0.1", "0.2") as culprit,
        python(victims, VICTIM) as victim,
    ):
        go(culprit)
        time.sleep(0.6)
        batches = [batch for batch in probe.drain() if batch.ring == "slow_waits"]
        rows = np.concatenate([batch.rows for batch in batches])
        enricher = Enricher(HOST, Inventory(HOST))
        kept = replace(batches[0], rows=rows[rows["tid"] == victim.pid][:1])
        (event,) = enricher.events(kept, Sched)
    assert event.container
    assert event.container.name.endswith(victims.directory.name)
    assert event.process
    assert event.process.pid == victim.pid
    most = event.fields["culprits"][0]
    assert most["pid"] == culprit.pid
    assert most["cgroup"].endswith(culprits.directory.name)
    assert 0.9 < most["share"] <= 1.0
    assert f"while {most['comm']}[{culprit.pid}] ran for" in event.title


def test_what_the_own_limit_takes_is_not_blamed_on_others() -> None:
    """A hog with 20 % of a CPU beside one without limit: its waits are its limit's, as cpu.stat
    says, and the other one delays it only when both could run."""
    settings = QUIET | {"slow_wait_threshold": 40 * MS}
    with (
        limited_cpu("limited", quota=0.2) as limited,
        cgroup("unlimited") as other,
        running(Sched, **settings) as probe,
    ):
        command = [sys.executable, "-c", SPIN.format(3)]
        with limited.start(command) as hog, other.start(command) as neighbour:
            hog.wait(30)
            neighbour.wait(30)
        time.sleep(0.2)
        stat = limited.stat()
        found = metric(probe, "huatuo_cpu_sched_throttled_wait_seconds_total")
        throttled = found.values[row(found, container=limited.id)][0] * 1e9
        found = metric(probe, "huatuo_cpu_sched_wait_seconds")
        waited = found.sums[row(found, container=limited.id)][0] * 1e9  # type: ignore[index]
        found = metric(probe, "huatuo_cpu_sched_delay_seconds_total")
        blamed = found.values[row(found, victim=limited.id, culprit=other.id)].sum() * 1e9
        rows = events(probe, "slow_waits")
        rows = rows[rows["cgroup"] == limited.id]
    assert stat["nr_throttled"] > 10
    assert throttled == pytest.approx(stat["throttled_time"], rel=0.15)
    assert throttled + blamed <= waited * 1.02
    assert len(rows) >= 5
    assert (rows["throttled"] >= rows["wait"] * 0.8).mean() > 0.8


@pytest.fixture(scope="module")
def sleepers(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("sleepers")
    return compiled(folder, "sleepers.c", "-O1", "-pthread")


def block(probe: Sched, group: Group, reason: str) -> tuple[int, float]:
    """(number, seconds) of a container's uninterruptible sleeps."""
    found = metric(probe, "huatuo_cpu_sched_blocked_seconds")
    at = row(found, container=group.id, reason=reason)
    assert found.sums is not None
    return int(found.values[at].sum()), float(found.sums[at].sum())


def functions(stack: npt.NDArray[np.uint64]) -> list[str]:
    symbols = KernelSymbols(HOST)
    return [frame.partition("+")[0] for frame in symbols.stack(stack.tolist())]


def test_an_uninterruptible_sleep_has_its_length_and_place(sleepers: str) -> None:
    """vfork() of a child that lives for 700 ms: one sleep that long, killable, and 20 short ones of
    which none is an event."""
    with cgroup("vfork") as group, running(Sched, **QUIET | {"block_threshold": 500 * MS}) as probe:
        need("exact" in probe.hooks[0], "this kernel has no task storage")
        for _ in range(20):
            group.run([sleepers, "vfork", "20"])
        group.run([sleepers, "vfork", "700"])
        count, seconds = block(probe, group, "other")
        rows = events(probe, "long_blocks", 0.2)
        (found,) = rows[rows["cgroup"] == group.id]
    assert count >= 21
    assert 20 * 0.020 + 0.700 <= seconds < 20 * 0.020 + 0.700 + (2.0 if disturbed() else 0.4)
    assert 700 * MS <= found["blocked"] < 760 * MS or disturbed()
    assert found["blocked"] >= 700 * MS
    assert found["killable"] == 1
    assert found["reason"] == OTHER
    assert found["comm"] == b"sleepers"
    assert "kernel_clone" in functions(found["stack"])


@pytest.mark.parametrize(("kind", "place"), [("mutex", "pipe_write"), ("rwsem", "file_write")])
def test_waits_for_locks_of_the_kernel_are_told_apart(sleepers: str, kind: str, place: str) -> None:
    """A process waits 600 ms for a lock of the kernel whose holder is stuck."""
    settings = QUIET | {"block_threshold": 400 * MS}
    with cgroup(f"lock-{kind}") as group, running(Sched, **settings) as probe:
        need("exact" in probe.hooks[0], "this kernel has no task storage")
        group.run([sleepers, kind, "600"])
        rows = events(probe, "long_blocks", 0.2)
        rows = rows[rows["cgroup"] == group.id]
        count, seconds = block(probe, group, "lock")
    (found,) = rows[rows["comm"] == b"waiter"]
    assert 590 * MS <= found["blocked"] < 700 * MS or disturbed()
    assert place in " ".join(functions(found["stack"]))
    need(has_blocker(), "this kernel does not note which lock a task waits for")
    assert found["reason"] == LOCK
    assert count >= 1
    assert seconds == pytest.approx(found["blocked"] / 1e9, abs=0.05)


def has_blocker() -> bool:
    done = subprocess.run(
        ["bpftool", "btf", "dump", "file", "/sys/kernel/btf/vmlinux", "format", "c"],
        capture_output=True,
        text=True,
        check=False,
    )
    need(done.returncode == 0, "no bpftool")
    task = done.stdout.partition("\nstruct task_struct {")[2].partition("\n};")[0]
    return " blocker;" in task


def test_contention_between_containers_is_an_event_once_per_window() -> None:
    """Two hogs on one CPU for 4 s: each delays the other by half of the time, or by its share of it
    where others want the CPU too."""
    settings = QUIET | {"contention_threshold": 100 * MS, "contention_window": SECOND}
    with cgroup("rival-a") as a, cgroup("rival-b") as b, running(Sched, **settings) as probe:
        command = [sys.executable, "-c", SPIN.format(4)]
        with a.start(command) as first, b.start(command) as second:
            first.wait(30)
            second.wait(30)
        rows = events(probe, "contentions", 0.2)
        pairs = ((a.id, b.id, second.pid), (b.id, a.id, first.pid))
    for victim, culprit, pid in pairs:
        mine = rows[(rows["cgroup"] == victim) & (rows["culprit"] == culprit)]
        assert 2 <= len(mine) <= 5
        assert (mine["delay"] >= 100 * MS).all()
        assert (mine["delay"] <= mine["window"]).all()
        assert (mine["window"] <= SECOND).all()
        assert (mine["culprit_tgid"] == pid).all()
        assert (np.diff(mine["time"].astype(np.int64)) >= SECOND * 0.5).all()


MOVER = """
import os, re, time
def moves():
    return int(re.search(r"nr_migrations\\s*:\\s*(\\d+)", open("/proc/self/sched").read())[1])
before = moves()
for turn in range(200):
    os.sched_setaffinity(0, {turn % 2})
print(before, moves())
"""


def test_migrations_are_those_the_kernel_counts() -> None:
    need(Path("/proc/self/sched").exists(), "the kernel shows no counts (CONFIG_SCHED_DEBUG)")
    need(HOST.cpus > 1, "there is one CPU only")
    with cgroup("mover") as group, running(Sched, **QUIET) as probe:
        need("exact" in probe.hooks[0], "this kernel has no task storage")
        before, after = map(int, group.run([sys.executable, "-c", MOVER]).stdout.split())
        found = metric(probe, "huatuo_cpu_sched_migrations_total")
        moved = int(found.values[row(found, container=group.id)][0])
    assert after - before >= 199
    assert after - before <= moved <= after + 3
