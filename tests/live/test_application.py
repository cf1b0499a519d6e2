"""What runs in a container, of real processes: compared with ps, ss and what the test started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from huatuo.enrich.application import Applications
from huatuo.model.application import ContainerApplication
from huatuo.model.event import Container
from tests.live.agent import agent, events_of, eventually
from tests.live.conftest import HOST, Group, cgroup, need
from tests.live.test_watched import WATCHED, container

pytestmark = [pytest.mark.live]

# A parent with a child that listens on both protocols and says on which ports.
SERVER = """
import ctypes, os, socket, sys, time
child = os.fork()
if child == 0:
    ctypes.CDLL(None).prctl(15, b"x) S 1 (\\x1b[31m", 0, 0, 0)
    tcp = socket.create_server(("127.0.0.1", 0))
    wide = socket.create_server(("::", 0), family=socket.AF_INET6)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    connected = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    connected.connect(("127.0.0.1", 9))
    print(os.getpid(), *(s.getsockname()[1] for s in (tcp, wide, udp)), flush=True)
    time.sleep(60)
os.waitpid(child, 0)
"""


def of(group: Group) -> ContainerApplication:
    path = f"/{group.directory.parent.name}/{group.directory.name}"
    return Applications(HOST, "APP_*").of_container(Container("x", "container", path))


@pytest.fixture(params=["host", "own"])
def served(request: pytest.FixtureRequest) -> Iterator[tuple[Group, list[int], str]]:
    """(cgroup, [child, its ports], network namespace)"""
    words = [sys.executable, "-c", SERVER, "--password", "hunter2"]
    if request.param == "own":
        need(os.geteuid() == 0 and shutil.which("unshare"), "needs root and unshare")
        words = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *words]
    with container(WATCHED) as group:
        os.environ["APP_MODE"] = "fast"
        with group.start(words) as process:
            del os.environ["APP_MODE"]
            assert process.stdout
            line = process.stdout.readline()
            try:
                yield group, list(map(int, line.split())), request.param
            finally:
                for pid in (group.directory / "cgroup.procs").read_text().split():
                    os.kill(int(pid), 9)


def test_processes_and_ports(served: tuple[Group, list[int], str]) -> None:
    group, (child, tcp, wide, udp), space = served
    found = of(group)
    parent, shown = found.processes
    ps = subprocess.run(
        ["ps", "-o", "pid=,ppid=,nlwp=", "-p", f"{parent.pid},{child}"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert [shown.pid, shown.parent, shown.threads] == list(map(int, ps[3:6]))
    assert parent.parent == 0
    assert "hunter2" not in json.dumps(list(map(str, found.processes)))
    assert parent.command.endswith("--password '***'")
    version = f"python {sys.version_info[0]}.{sys.version_info[1]}"
    assert parent.runtime in (version, "python 3", "python")
    assert parent.environment == shown.environment == {"APP_MODE": "fast"}
    assert "\x1b" not in shown.comm
    assert shown.comm.startswith("x) S 1 (")
    assert found.notes == []
    ports = {(p.protocol, p.address, p.port, p.pid) for p in found.ports}
    assert ports == {
        ("tcp", "127.0.0.1", tcp, child),
        ("tcp", "::", wide, child),
        ("udp", "127.0.0.1", udp, child),
    }  # fmt: skip
    need(shutil.which("ss"), "ss is not installed")
    enter = [] if space == "host" else ["nsenter", "-n", "-t", str(child)]
    said = subprocess.run([*enter, "ss", "-ltunpH"], capture_output=True, text=True, check=True)
    lines = [line for line in said.stdout.splitlines() if f"pid={child}," in line]
    assert len(lines) == len(ports)
    for protocol, _, port, _ in ports:
        assert any(line.startswith(protocol) and f":{port} " in line for line in lines)


def test_when_it_started(served: tuple[Group, list[int], str]) -> None:
    group, (child, *_), _ = served
    shown = next(one for one in of(group).processes if one.pid == child)
    ps = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(child)], capture_output=True, text=True, check=True,
        env={"TZ": "UTC", "LC_ALL": "C", "PATH": os.environ["PATH"]},
    ).stdout.strip()  # fmt: skip
    ours = time.mktime(time.strptime(shown.started, "%Y-%m-%dT%H:%M:%SZ"))
    theirs = time.mktime(time.strptime(ps, "%a %b %d %H:%M:%S %Y"))
    assert abs(ours - theirs) <= 1


def test_a_go_program(tmp_path: Path) -> None:
    go = shutil.which("go")
    need(go, "go is not installed")
    source = tmp_path / "main.go"
    source.write_text('package main\nimport "time"\nfunc main() { time.Sleep(time.Minute) }\n')
    environment = {**os.environ, "GOCACHE": str(tmp_path / "cache"), "GOFLAGS": "-mod=mod"}
    subprocess.run([str(go), "build", "-ldflags=-s -w", "-o", "app", "main.go"], cwd=tmp_path,
                   check=True, env=environment)  # fmt: skip
    with container(WATCHED) as group, group.start([str(tmp_path / "app")]) as process:
        try:
            found = eventually(lambda: [p for p in of(group).processes if p.comm == "app"])
            assert found[0].runtime == "go"
        finally:
            process.kill()


# Nearly as many open files as it may have: an event whose process lives on.
HOARD = """
import resource, time
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
files = [open("/dev/null") for _ in range(94)]
time.sleep(60)
"""


@pytest.mark.usefixtures("need_bpf")
def test_an_event_says_what_its_process_is(tmp_path: Path) -> None:
    """Through the agent, the store and the API; and the container's page has the same process."""
    config = '[agent]\ninterval = "1s"\n'
    with agent(tmp_path / "store", config) as running, container(WATCHED) as group:
        words = [sys.executable, "-c", HOARD, "--api-key=hunter2"]
        with group.start(["sh", "-c", '"$@"; true', "sh", *words]):
            found = eventually(lambda: events_of(running, "task.state", WATCHED[:12]), 30)
            page = running.get(f"/api/v1/containers/application?name={WATCHED[:12]}")
            for pid in (group.directory / "cgroup.procs").read_text().split():
                os.kill(int(pid), 9)
    assert len(found) == 1
    application = found[0]["application"]
    assert application["command"].endswith("'--api-key=***'")
    assert application["runtime"].startswith("python")
    assert [one["comm"] for one in application["ancestors"]] == ["sh"]
    assert "hunter2" not in json.dumps(found)
    assert page["processes"][0]["comm"] == "sh"
    assert found[0]["process"]["pid"] in [one["pid"] for one in page["processes"]]
    assert "hunter2" not in json.dumps(page)


def test_a_container_without_processes_is_empty() -> None:
    with cgroup("application-empty") as outer:
        found = Applications(HOST).of_container(
            Container("x", "container", f"/{outer.directory.name}")
        )
    assert (found.processes, found.ports, found.notes) == ([], [], [])
