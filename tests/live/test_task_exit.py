"""task.exit against processes that end in every way, a known number of each, as wait() tells it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from huatuo.enrich.enricher import Enricher
from huatuo.probes.task.exit import Exit
from tests.live.conftest import HOST, Group, cgroup, events, metric, need, row, running
from tests.live.memory import MIB, limit

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

RING, ENDED = "abnormal_exits", "huatuo_task_exit_processes_total"
UNLIMITED = {"max_per_second": 10_000, "max_per_second_per_container": 10_000}
FAULT_AT = 0x1230
# ends `count` children in one way each after the other; prints [[pid, status as of wait()], …]
DRIVER = f"""
import ctypes, json, os, resource, signal, sys, threading, time
way, count = sys.argv[1], int(sys.argv[2])
if len(sys.argv) > 3:
    os.chdir(sys.argv[3])
def end():
    if way == "segv":
        ctypes.memset({FAULT_AT}, 0, 1)
    elif way == "abort":
        os.abort()
    elif way.startswith("exit"):
        os._exit(int(way[4:]))
    elif way == "oom":
        b"x" * (256 << 20)
    elif way == "threads":
        for _ in range(8):
            threading.Thread(target=time.sleep, args=(60,)).start()
    os.write(ready[1], b"x")
    time.sleep(60)
found = []
for _ in range(count):
    ready = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            end()
        finally:
            os._exit(99)
    os.close(ready[1])
    if way in ("threads", "kill", "term"):
        os.read(ready[0], 1)
        os.kill(pid, signal.SIGTERM if way == "term" else signal.SIGKILL)
    found.append((pid, os.waitpid(pid, 0)[1]))
    os.close(ready[0])
print(json.dumps(found))
"""


def ended(group: Group, way: str, count: int, folder: Path | None = None) -> dict[int, int]:
    """pid → status, as the driver's wait() had it; the driver itself ends well."""
    argv = [sys.executable, "-c", DRIVER, way, str(count), *([str(folder)] if folder else [])]
    done = group.run(argv)
    assert done.returncode == 0, done.stdout
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == count
    return dict(found)


def counts(probe: Exit, group: Group) -> dict[str, int]:
    found = metric(probe, ENDED)
    at = row(found, container=group.id)
    kinds = np.asarray(found.labels["kind"].values)
    return {str(kinds[i]): int(found.values[i]) for i in at if found.values[i]}


def labels(field: str) -> dict[int, str]:
    return dict(Exit.event_schemas()[RING].field(field).labels)


@pytest.mark.parametrize("way", ["segv", "kill", "abort", "threads"])
def test_each_process_that_a_signal_ends_is_an_event_and_is_counted(way: str) -> None:
    """Pid, signal and no core as wait() has them; each once, however many threads it has."""
    count = 20 if way == "threads" else 7
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with cgroup("exit") as group, running(Exit, **UNLIMITED) as probe:
        truth = ended(group, way, count)
        rows = events(probe, RING, 0.1)
        rows = rows[rows["cgroup"] == group.id]
        found = dict(zip(rows["tgid"].tolist(), rows["signal"].tolist(), strict=True))
        assert len(rows) == count
        assert found == {pid: os.WTERMSIG(status) for pid, status in truth.items()}
        assert set(map(os.WCOREDUMP, truth.values())) == {False}
        assert {labels("kind")[k] for k in rows["kind"].tolist()} == {"signal"}
        assert counts(probe, group) == {"signal": count, "clean": 1}
        assert (rows["parent_comm"] == rows["parent_comm"][0]).all()
        account = probe.account()
        assert account.produced == account.delivered + sum(account.suppressed.values())


def test_who_sent_the_signal() -> None:
    """The driver for kill(), the process itself for abort() and for a fault, with its address."""
    with cgroup("exit") as group, running(Exit, **UNLIMITED) as probe:
        seen = {}
        for way in ("kill", "abort", "segv"):
            ended(group, way, 2)
            rows = events(probe, RING, 0.1)
            seen[way] = rows[rows["cgroup"] == group.id]
        origin = {way: labels("origin")[int(rows["origin"][0])] for way, rows in seen.items()}
        assert origin == {"kill": "process", "abort": "process", "segv": "fault"}
        assert (seen["kill"]["sender_tgid"] == seen["kill"]["parent_tgid"]).all()
        assert (seen["kill"]["sender_cgroup"] == group.id).all()
        assert (seen["abort"]["sender_tgid"] == seen["abort"]["tgid"]).all()
        assert (seen["segv"]["sender_tgid"] == seen["segv"]["tgid"]).all()
        assert (seen["segv"]["address"] == FAULT_AT).all()
        assert (seen["kill"]["address"] == 0).all()


def test_a_dumped_core_is_told(tmp_path: Path) -> None:
    """Where wait() says that there is one."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    need(most != 0, "core dumps are forbidden here")
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))
    try:
        with cgroup("exit") as group, running(Exit, **UNLIMITED) as probe:
            truth = ended(group, "abort", 2, tmp_path)
            need(all(map(os.WCOREDUMP, truth.values())), "no core can be dumped here")
            rows = events(probe, RING, 0.1)
            rows = rows[rows["cgroup"] == group.id]
            assert set(rows["tgid"].tolist()) == set(truth)
            assert {labels("kind")[k] for k in rows["kind"].tolist()} == {"core"}
            assert counts(probe, group) == {"core": 2, "clean": 1}
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


def test_a_status_is_counted_and_no_event() -> None:
    with cgroup("exit") as group, running(Exit, **UNLIMITED) as probe:
        assert set(map(os.WEXITSTATUS, ended(group, "exit3", 5).values())) == {3}
        assert set(map(os.WEXITSTATUS, ended(group, "exit0", 4).values())) == {0}
        rows = events(probe, RING, 0.1)
        assert group.id not in rows["cgroup"]
        assert counts(probe, group) == {"error": 5, "clean": 4 + 2}


def test_who_is_asked_to_end_is_counted_and_an_event_on_demand() -> None:
    with cgroup("exit") as group:
        for wanted in (0, 1):
            with running(Exit, requested_ends=wanted, **UNLIMITED) as probe:
                ended(group, "term", 3)
                rows = events(probe, RING, 0.1)
                rows = rows[rows["cgroup"] == group.id]
                assert len(rows) == 3 * wanted
                assert set(rows["signal"].tolist()) <= {signal.SIGTERM}
                assert counts(probe, group) == {"signal": 3, "clean": 1}


def test_an_out_of_memory_kill_is_one() -> None:
    with cgroup("exit") as group, running(Exit, **UNLIMITED) as probe:
        limit(group, 64 * MIB)
        truth = ended(group, "oom", 1)
        need(set(map(os.WTERMSIG, truth.values())) == {9}, "it was not killed: there is swap")
        rows = events(probe, RING, 0.1)
        rows = rows[rows["cgroup"] == group.id]
        assert rows["tgid"].tolist() == list(truth)
        assert labels("kind")[int(rows["kind"][0])] == "oom"
        assert counts(probe, group) == {"oom": 1, "clean": 1}


def in_namespace(group: Group, command: str) -> subprocess.Popen[str]:
    need(shutil.which("unshare"), "unshare is not installed")
    return group.start(["unshare", "--fork", "--pid", "sh", "-c", command])


def test_the_end_of_a_containers_first_process() -> None:
    """With a status, it is an event; so is whatever kills it; with exit(0) it is none."""
    with cgroup("exit") as group, running(Exit, **UNLIMITED) as probe:
        for command, status in (("exit 7", 7), ("exit 0", 0)):
            with in_namespace(group, command) as outer:
                output, _ = outer.communicate(timeout=60)
            need("not permitted" not in output, output)
            assert outer.returncode == status
        with in_namespace(group, "echo $$; exec sleep 60") as outer:
            assert outer.stdout
            assert outer.stdout.readline() == "1\n"
            children = HOST.proc / f"{outer.pid}/task/{outer.pid}/children"
            inner = int(HOST.read(children))
            time.sleep(1.1)
            os.kill(inner, signal.SIGKILL)
            outer.communicate(timeout=60)
        rows = events(probe, RING, 0.1)
        rows = rows[(rows["cgroup"] == group.id) & (rows["init"] == 1)]
        assert [(int(r["status"]), int(r["signal"])) for r in rows] == [(7, 0), (0, 9)]
        assert (rows["number"] == 1).all()
        killed = rows[1]
        assert (killed["tgid"], killed["sender_tgid"]) == (inner, os.getpid())
        assert killed["parent_tgid"] == outer.pid
        assert 1.1e9 < killed["ran"] < 60e9


def test_those_that_go_with_their_namespace_are_counted_only() -> None:
    """The first process exits and takes three with it; it alone is an event."""
    with cgroup("exit") as group, running(Exit, **UNLIMITED) as probe:
        with in_namespace(group, "for i in 1 2 3; do sleep 60 & done; sleep 0.5; exit 5") as outer:
            output, _ = outer.communicate(timeout=60)
        need("not permitted" not in output, output)
        rows = events(probe, RING, 0.2)
        rows = rows[rows["cgroup"] == group.id]
        assert [(int(r["init"]), int(r["status"])) for r in rows] == [(1, 5)]
        found = counts(probe, group)
        assert found["signal"] == 3
        assert found["error"] == 2  # unshare gives the status on


def test_titles() -> None:
    with cgroup("exit") as group, running(Exit, **UNLIMITED) as probe:
        found = {way: ended(group, way, 1) for way in ("segv", "kill")}
        enricher = Enricher(HOST)
        told = [e for batch in probe.drain() for e in enricher.events(batch, Exit)]
        titles = {e.process.pid: e.title for e in told if e.process}
        (segv, *_), (kill, *_) = (list(found[way]) for way in ("segv", "kill"))
        assert f"[{segv}] died of SIGSEGV at {FAULT_AT:#x} after" in titles[segv]
        assert f"[{kill}] was killed by python" in titles[kill]
        assert "with SIGKILL after" in titles[kill]
