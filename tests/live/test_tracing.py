"""AutoTracing as a whole: an agent, facts provoked in cgroups, incidents with the right target.

The agent looks once a second, and `5m` of the built-in triggers is `12s`, so that a test need not
wait for long: a container must have been there for half of that time before it can be unusual.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from huatuo.store.embedded import EmbeddedStore
from huatuo.triggers.builtin import BUILTIN
from tests.live.agent import EATER, Running, agent, eventually, limit_memory
from tests.live.conftest import Group, cgroup
from tests.live.profiling import compiled
from tests.store.disk import small_disk

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

TRIED = [t.name for t in BUILTIN if t.per in ("container", "victim") or t.name == "fork-storm"]
QUIET = 9.0  # seconds until there is a time before
SECONDS = 30.0  # within which an incident must be complete
IDLE = "import time\ntime.sleep(600)"
CALM_SECONDS = 60.0
CALM = """import os, tempfile, time
with tempfile.TemporaryFile() as file:
    while True:
        end = time.monotonic() + 0.005
        while time.monotonic() < end:
            pass
        file.seek(0)
        file.write(bytearray(1 << 20))
        if not os.fork():
            os._exit(0)
        os.wait()
        time.sleep(0.1)
"""
STORM = "import os\nfd = os.open('/dev/zero', os.O_RDONLY)\nwhile True: os.read(fd, 65536)"
SPIN = "while True: pass"
FORKS = "import os\nwhile True:\n  p = os.fork()\n  if not p: os._exit(0)\n  os.waitpid(p, 0)"


def config(more: str = "") -> str:
    """All triggers about containers, for ours only, and one about the host; a shorter past."""
    lines = ['[agent]\ninterval = "1s"', '[capture]\nduration = "3s"\ncpu = "50%"',
             '[governor]\ncpu = "100%"\nmemory = "1GiB"', more]  # fmt: skip
    for trigger in BUILTIN:
        if trigger.name not in TRIED:
            lines.append(f'[[trigger]]\nname = "{trigger.name}"\nenabled = false')
            continue
        when, suspects = (
            re.sub(r"\b(10|5|1)m\)", "12s)", t) for t in (trigger.when, trigger.suspects)
        )
        lines.append(f"[[trigger]]\nname = '{trigger.name}'\nwhen = '{when}'\n"
                     f"suspects = '{suspects}'\nfor = '{min(trigger.hold // 10**9, 2)}s'\n"
                     "include = '|.*huatuo-tracing.*'")  # fmt: skip
    return "\n".join(lines)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with agent(tmp_path_factory.mktemp("tracing") / "store", config()) as started:
        time.sleep(QUIET)
        yield started


def incidents(running: Running, trigger: str, target: str = "") -> list[dict[str, Any]]:
    return [
        one
        for one in running.get("/api/v1/incidents?limit=100")
        if one["trigger"] == trigger and one["target"].endswith(target)
    ]


def complete(running: Running, trigger: str, target: str = "") -> dict[str, Any]:
    """The incident, once its capture has ended."""

    def ended() -> dict[str, Any] | None:
        for one in incidents(running, trigger, target):
            if one["capture"] and one["capture"]["status"] in ("done", "failed", "refused"):
                return one
        return None

    found = eventually(ended, SECONDS)
    assert found, f"{trigger} did not fire: {running.get('/api/v1/incidents?limit=100')}"
    return dict(found)


class Member:
    """A process in one cgroup of each of several hierarchies, as a container's are."""

    def __init__(self, program: str, groups: list[Group], cpu: int | None = None) -> None:
        enter = "".join(f"echo $$ > {group.directory}/cgroup.procs; " for group in groups)
        pin = f"taskset -c {cpu} " if cpu is not None else ""
        command = f'{enter} exec {pin}"$@"'
        self.process = subprocess.Popen(["sh", "-c", command, "sh", sys.executable, "-c", program])

    def __enter__(self) -> Member:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(10)


def container(stack: ExitStack, name: str) -> list[Group]:
    found = {}
    for controller in ("memory", "cpu", "cpuacct"):
        try:
            group = stack.enter_context(cgroup(name, controller))
        except (FileExistsError, pytest.skip.Exception):
            continue
        found[group.directory.resolve()] = group
    return list(found.values())


def test_nothing_fires_in_a_minute_of_steady_work(running: Running) -> None:
    """A container that computes, forks, allocates and writes a little, always the same."""
    with ExitStack() as stack:
        groups = container(stack, "tracing-calm")
        with Member(CALM, groups):
            time.sleep(CALM_SECONDS)
            name = groups[0].directory.name
            assert name in running.text("/api/v1/containers")
            found = running.get("/api/v1/incidents?limit=100")
    # of the host others may make a storm; nobody else is in this container
    assert [one["summary"] for one in found if one["target"].endswith(name)] == []


def test_a_syscall_storm_names_its_container_and_the_kernels_function(running: Running) -> None:
    with ExitStack() as stack:
        groups = container(stack, "tracing-storm")
        name = groups[0].directory.name
        stack.enter_context(Member(IDLE, groups))
        time.sleep(QUIET)
        with Member(STORM, groups):
            began = time.time()
            found = eventually(lambda: incidents(running, "container-system-cpu", name), 15)
            took = time.time() - began
            one = complete(running, "container-system-cpu", name)
    assert found, "nothing fired"
    assert one["target"].endswith(name)
    assert took < 8, "a sampling interval, and some to be sure on a loaded machine"
    functions = [f["function"] for f in one["capture"]["profiles"]["cpu"][:3]]
    assert any("clear_user" in f or "rep_stos" in f or "zero" in f for f in functions), functions
    grown = [f["function"] for f in one["before"][:3]]
    assert set(grown) & set(functions), "the always-on profile knows it, too"
    value = one["metrics"][0]
    assert value["unit"] == "%"
    assert any(value["marked"])
    assert name in one["summary"]
    assert "cpu.pb.gz" in one["files"]


def test_contention_names_victim_and_culprit(running: Running) -> None:
    with ExitStack() as stack:
        # without groups of their own in the cpu hierarchy of v1: each task counts alike
        victim, hog = (
            [stack.enter_context(cgroup(f"tracing-{name}"))] for name in ("victim", "hog")
        )
        stack.enter_context(Member(IDLE, victim))
        time.sleep(QUIET)
        stack.enter_context(Member(SPIN, victim, cpu=0))
        weight = hog[0].directory / "cpu.weight"
        if weight.exists():
            weight.write_text("1000")
        for _ in range(6):
            stack.enter_context(Member(SPIN, hog, cpu=0))
        one = complete(running, "contention", victim[0].directory.name)
        suspects = [suspect["name"] for suspect in one["suspects"]]
    assert suspects[0].endswith(hog[0].directory.name), suspects
    assert hog[0].directory.name in one["summary"]


def test_a_fork_storm_is_the_hosts_and_names_the_container(running: Running) -> None:
    with ExitStack() as stack:
        groups = container(stack, "tracing-forks")
        stack.enter_context(Member(IDLE, groups))
        time.sleep(QUIET)
        with Member(FORKS, groups):
            one = complete(running, "fork-storm")
    assert one["target"] == ""
    assert any(s["name"].endswith(groups[0].directory.name) for s in one["suspects"]), one
    assert groups[0].directory.name in one["summary"]
    assert one["capture"]["status"] == "done", one["capture"]["reason"]


def test_sleepers_in_state_d_are_named_with_where_they_sleep(
    running: Running, tmp_path: Path
) -> None:
    """vfork() keeps the parent in that state until its child ends."""
    program = compiled(tmp_path, "sleepers.c", "-O1", "-pthread")
    with ExitStack() as stack:
        groups = container(stack, "tracing-sleep")
        name = groups[0].directory.name
        stack.enter_context(Member(IDLE, groups))
        time.sleep(QUIET)
        for _ in range(7):
            process = groups[0].start([program, "vfork", "30000"])
            stack.callback(process.communicate)
            stack.callback(process.kill)
        one = complete(running, "blocked-tasks", name)
    assert one["target"].endswith(name)
    assert one["capture"]["plan"] == "tasks"
    ours = [task for task in one["capture"]["tasks"] if task["comm"] == "sleepers"]
    assert len(ours) == 7
    assert all(any("fork" in frame for frame in task["stack"]) for task in ours), ours


def test_an_event_starts_a_capture(running: Running) -> None:
    """An OOM kill: the incident is its container's, and the event is in it."""
    with ExitStack() as stack:
        group = stack.enter_context(cgroup("tracing-oom", "memory"))
        limit_memory(group)
        time.sleep(QUIET)
        group.run([sys.executable, "-c", EATER])
        one = complete(running, "oom-kill", group.directory.name)
    assert one["capture"]["plan"] == "memory"
    assert [e["probe"] for e in one["events"] if e["probe"] == "memory.oom"] == ["memory.oom"]
    fired = running.text("/metrics")
    assert 'huatuo_triggers_fired_total{trigger="oom-kill"} 1' in fired
    assert re.search(r'huatuo_captures_total{outcome="done",plan="memory"}|'
                     r'huatuo_captures_total{plan="memory",outcome="done"}', fired)  # fmt: skip


def test_each_fired_once_and_the_report_is_one_file(running: Running, tmp_path: Path) -> None:
    """The condition held for many intervals; the cool-down kept it to one incident for each."""
    found = running.get("/api/v1/incidents?limit=100")
    pairs = [(one["trigger"], one["target"]) for one in found]
    assert len(pairs) == len(set(pairs)) >= 3
    file = tmp_path / "incident.html"
    number = found[0]["id"]
    words = [sys.executable, "-m", "huatuo", "incident", str(number), "--store",
             str(running.store), "--html", str(file)]  # fmt: skip
    subprocess.run(words, check=True, timeout=60)
    page = file.read_text()
    assert found[0]["summary"][:40] in page.replace("&gt;", ">").replace("&quot;", '"')
    assert "<svg" in page


def test_capture_by_hand_of_one_container(running: Running) -> None:
    with ExitStack() as stack:
        groups = container(stack, "tracing-hand")
        with Member(SPIN, groups), Member(STORM, []):
            time.sleep(2)
            words = [sys.executable, "-m", "huatuo", "capture", "--agent", running.address,
                     "--container", f"/{groups[0].directory.name}", "--json"]  # fmt: skip
            told = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    state = json.loads(told.stdout)
    assert state["status"] == "done"
    found = eventually(lambda: running.get(f"/api/v1/incidents/{state['incident']}")["files"], 10)
    assert "cpu.pb.gz" in found
    one = running.get(f"/api/v1/incidents/{state['incident']}")
    functions = " ".join(f["function"] for f in one["capture"]["profiles"]["cpu"])
    assert "PyEval" in functions
    assert "read_zero" not in functions, "the neighbour's"


def post(running: Running, path: str) -> Any:
    request = urllib.request.Request(f"http://{running.address}/api/v1/{path}", b"")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def test_limits_refuse_and_say_so_and_an_interrupted_capture_is_told(tmp_path: Path) -> None:
    text = '[capture]\nduration = "60s"\nper_hour = 2\n[governor]\ncpu = "100%"\nmemory = "1GiB"'
    store = tmp_path / "store"
    with agent(store, text) as first:
        jobs = [post(first, "captures/start?plan=cpu") for _ in range(3)]
        assert [job["status"] for job in jobs] == ["queued", "queued", "refused"]
        assert "2 captures in an hour" in jobs[2]["reason"]
        running = eventually(lambda: first.get("/api/v1/captures")[2]["status"] == "running", 10)
        assert running
        assert first.get("/api/v1/captures")[1]["status"] == "queued", "one at a time"
        stored = eventually(
            lambda: first.get(f"/api/v1/incidents/{jobs[0]['incident']}")["capture"]
        )
        assert stored
        first.process.send_signal(signal.SIGKILL)
        first.process.wait(10)
    with agent(store, text) as second:
        path = f"/api/v1/incidents/{jobs[0]['incident']}"
        ended = eventually(lambda: second.get(path)["capture"]["status"] == "failed", 10)
        assert ended
        one = second.get(path)
        assert "the agent ended during the capture" in one["summary"]
        began = time.monotonic()
        post(second, "captures/start?plan=cpu")
        assert eventually(lambda: second.get("/api/v1/captures")[0]["status"] == "running", 10)
        os.kill(second.process.pid, signal.SIGTERM)
        second.process.wait(15)
        assert time.monotonic() - began < 20, "a capture does not hold the agent up"


def test_a_disk_that_fills_up_during_a_capture(tmp_path: Path) -> None:
    """The agent lives, says what was lost, and once there is room captures work again."""
    text = '[capture]\nduration = "3s"\ncpu = "50%"\n[governor]\ncpu = "100%"\nmemory = "1GiB"'
    small = contextmanager(small_disk)
    with small(tmp_path, 96) as here, agent(here / "store", text) as running:
        post(running, "captures/start?plan=cpu")
        assert eventually(lambda: running.get("/api/v1/captures")[0]["status"] == "running", 10)
        fill(here / "filler")
        over = eventually(
            lambda: running.get("/api/v1/captures")[0]["status"] in ("done", "failed"), 30
        )
        assert over, running.get("/api/v1/captures")
        assert eventually(lambda: running.get("/api/v1/health")["status"] == "degraded", 20)
        problems = running.get("/api/v1/health")["problems"]
        assert any("disk is full" in one or "lost" in one for one in problems), problems
        (here / "filler").unlink()
        assert eventually(lambda: can_capture(running), 30)


def fill(path: Path) -> None:
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def can_capture(running: Running) -> bool:
    number = post(running, "captures/start?plan=tasks")["incident"]

    def is_done() -> bool:
        capture = running.get(f"/api/v1/incidents/{number}")["capture"]
        return bool(capture) and capture["status"] == "done"

    return bool(eventually(is_done, 20))


def test_the_governor_refuses(tmp_path: Path) -> None:
    text = '[governor]\ncpu = "0.0001%"\nevery = "2s"\nwindow = "500ms"\n[agent]\ninterval = "1s"'
    with agent(tmp_path / "store", text) as running:
        over = eventually(lambda: running.get("/api/v1/health")["cpu_ratio"] > 0, 30)
        assert over
        job = post(running, "captures/start?plan=cpu")
        assert job["status"] == "refused"
        assert "over its budget" in job["reason"]
        path = f"/api/v1/incidents/{job['incident']}"
        assert eventually(lambda: "was refused" in running.get(path)["summary"], 10)
    store = EmbeddedStore.open_readonly(tmp_path / "store")
    (kept,) = store.incidents.list()
    store.close()
    assert kept.capture is not None and kept.capture.status == "refused"
