"""task.fork against known numbers of forks, threads and execs, and against /proc/stat."""

from __future__ import annotations

import json
import sys
from typing import ClassVar

import pytest

from huatuo.probes.task.fork import Fork
from tests.live.conftest import (
    HOST,
    Group,
    cgroup,
    disturbed,
    emulated,
    events,
    metric,
    row,
    running,
)

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

RING = "fork_surges"
PROCESSES, THREADS, PROGRAMS = (
    f"huatuo_task_fork_{name}_total" for name in ("processes", "threads", "programs")
)
# forks, threads, execs, forks of a helper; prints [own pid, seconds at each fork]
DRIVER = """
import json, os, sys, threading, time
forks, threads, programs, helped = map(int, sys.argv[1:])
def fork(body=lambda: None):
    pid = os.fork()
    if not pid:
        body()
        os._exit(0)
    os.waitpid(pid, 0)
def helper():
    for _ in range(helped):
        fork()
if helped:
    fork(helper)
times = []
for _ in range(forks):
    times.append(time.monotonic())
    fork()
for _ in range(programs):
    fork(lambda: os.execv("/bin/true", ["true"]))
for _ in range(threads):
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
print(json.dumps([os.getpid(), times]))
"""


def drive(
    group: Group, forks: int, threads: int = 0, programs: int = 0, helped: int = 0
) -> tuple[int, list[float]]:
    numbers = map(str, (forks, threads, programs, helped))
    done = group.run([sys.executable, "-c", DRIVER, *numbers])
    assert done.returncode == 0, done.stdout
    pid, times = json.loads(done.stdout.splitlines()[-1])
    return pid, times


def total(probe: Fork, name: str, group: Group) -> int:
    found = metric(probe, name)
    return int(found.values[row(found, container=group.id)].sum())


def test_counts_are_exact() -> None:
    with cgroup("fork") as group, running(Fork) as probe:
        drive(group, forks=50, threads=30, programs=20)
        assert total(probe, PROCESSES, group) == 50 + 20
        assert total(probe, THREADS, group) == 30
        assert total(probe, PROGRAMS, group) == 20 + 1  # and the driver itself


def forked() -> int:
    """Processes and threads started since boot, by the kernel."""
    stat = HOST.read(HOST.proc / "stat")
    return int(stat.partition("\nprocesses ")[2].split()[0])


def test_all_together_are_those_of_proc_stat() -> None:
    def ours() -> int:
        return int(sum(metric(probe, name).values.sum() for name in (PROCESSES, THREADS)))

    with cgroup("fork") as group, running(Fork) as probe:
        drive(group, forks=1)  # else there may be no row yet
        before, ours_before = forked(), ours()
        drive(group, forks=200, threads=100)
        ours_after, after = ours(), forked()
        assert ours_after - ours_before >= 300
        assert ours_after - ours_before == pytest.approx(after - before, abs=3, rel=0.01)


def test_a_surge_is_one_event_with_who_forks_most() -> None:
    """The threshold is passed once; the helper's part is not the driver's."""
    threshold, helped = 20, 5
    with cgroup("fork") as group, running(Fork, surge_threshold=threshold) as probe:
        pid, times = drive(group, forks=100, helped=helped)
        rows = events(probe, RING, 0.1)
        rows = rows[rows["cgroup"] == group.id]
        assert len(rows) >= 1
        if not emulated():  # where a second may pass with fewer
            assert len(rows) == 1
            assert rows[0]["by_forker"] == threshold - helped
        surge = rows[0]
        assert surge["started"] == threshold
        assert surge["tgid"] == pid
        assert threshold - helped <= surge["by_forker"] <= threshold
        assert surge["threads"] == 0
        assert 0 < surge["within"] < 1e9
        if not disturbed():
            mine = times[threshold - helped - 2] - times[0]
            assert surge["within"] / 1e9 > mine * 0.9


def test_below_the_threshold_there_is_no_event() -> None:
    with cgroup("fork") as group, running(Fork, surge_threshold=100_000) as probe:
        drive(group, forks=100, threads=100)
        assert group.id not in events(probe, RING, 0.1)["cgroup"]


def test_threads_surge_too() -> None:
    with cgroup("fork") as group, running(Fork, surge_threshold=20) as probe:
        pid, _ = drive(group, forks=0, threads=200)
        rows = events(probe, RING, 0.1)
        rows = rows[rows["cgroup"] == group.id]
        assert len(rows) >= 1
        assert rows[0]["threads"] == rows[0]["started"] == rows[0]["by_forker"] == 20
        assert rows[0]["tgid"] == pid


class Crowded(Fork):
    """With little room."""

    map_sizes: ClassVar[dict[str, int]] = {"forks": 64}

    @classmethod
    def object_path(cls):  # type: ignore[no-untyped-def]
        return Fork.object_path()


def test_containers_that_are_gone_make_room() -> None:
    """As long as there is room their last counts stay; then they are dropped, and only they."""
    with running(Crowded) as probe:
        gone = set()
        for _ in range(80):
            with cgroup("fork") as group:
                group.run(["sh", "-c", "true & wait"])
                gone.add(group.id)
            list(probe.collect())
        found = metric(probe, PROCESSES)
        left = set(found.labels["container"].values.tolist())  # type: ignore[union-attr]
        assert 0 < len(gone & left) < 48
        assert probe.account().lost["map_full"] == 0
        with cgroup("fork") as group:
            drive(group, forks=3)
            assert total(probe, PROCESSES, group) == 3
