"""Whether profiles add up, as the agent says it, compared with what the kernel says to us."""

from __future__ import annotations

import json
import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.live.agent import Running, agent, eventually
from tests.live.conftest import HOST, Group, cgroup, emulated
from tests.live.profiling import compiled

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

SECONDS = 8.0
# on an emulated CPU an agent with all probes cannot keep up
PROBES = ["cpu.usage", "cpu.cgroup", "memory.info", "memory.cgroup", "profile.cpu"]
CONFIG = f"""
probes = {json.dumps([*(PROBES if emulated() else ["auto"]), "profile.resident"])}
[agent]
interval = "1s"
[governor]
cpu = "90%"
profiling = "80%"
memory = "4GiB"
[profile.cpu]
samples_per_second = 49
[profile.resident]
look_every = "1s"
"""
MIB = 1 << 20


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with agent(tmp_path_factory.mktemp("store"), CONFIG) as started:
        if started.state("profile.cpu")["status"] != "running":
            pytest.skip(f"profile.cpu: {started.state('profile.cpu')['reason']}")
        yield started


def flame(running: Running, type_: str, start: float, end: float, **labels: str) -> Any:
    q = ",".join(f'{name}="{value}"' for name, value in labels.items())
    asked = {"type": type_, "start": start, "end": end, "q": f"{{{q}}}", "max_nodes": 100}
    return running.get(f"/api/v1/profiles/flame?{urlencode(asked)}")


def burned(group: Group, program: Path) -> tuple[int, float, float, float]:
    """(pid, CPU seconds of it, start, end)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.time()
    with group.start([str(program), str(SECONDS)]) as process:
        process.communicate(timeout=120)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = sum(getattr(after, f) - getattr(before, f) for f in ("ru_utime", "ru_stime"))
    return process.pid, used, start, time.time()


def test_cpu_time_adds_up_to_what_a_process_used(running: Running, tmp_path: Path) -> None:
    """For its container and its pid alike; the host's adds up to /proc/stat's but for losses."""
    program = compiled(tmp_path, "chain.c", "-O2")
    time.sleep(2)  # so that metrics of the time before are there
    with cgroup("audit-cpu") as group:
        name = "/" + group.directory.name
        pid, used, start, end = burned(group, program)
        stored = eventually(lambda: flame(running, "cpu", end, end + 10)["total"], 20)
        assert stored, "the time after is stored, so all of it is"
    allowed = 0.5 if emulated() else 0.1
    start, end = start - 1, end + 1
    mine = flame(running, "cpu", start, end, container=name)
    assert mine["total"] / 1e9 == pytest.approx(used, rel=allowed)
    assert mine["audit"]["accounted_ratio"] == pytest.approx(1, abs=2 * allowed)
    of_pid = flame(running, "cpu", start, end, pid=str(pid))
    assert of_pid["total"] == pytest.approx(mine["total"], rel=0.05)
    assert of_pid["audit"]["accounted_ratio"] is None
    host = flame(running, "cpu", start, end)
    assert host["total"] >= mine["total"]
    arrived = host["samples"] / (host["samples"] + host["audit"]["lost"])
    assert host["audit"]["accounted_ratio"] / arrived == pytest.approx(1, abs=2 * allowed)
    print(f"process {used:.2f} s; container {mine['audit']}; host {host['audit']}")


def test_lost_is_what_the_probe_says(running: Running) -> None:
    start = running.get("/api/v1/health")["started"]
    families = {f.name: f for f in text_string_to_metric_families(running.text("/metrics"))}
    counted = sum(
        sample.value
        for sample in families["huatuo_probe_lost"].samples
        if sample.labels["probe"] == "profile.cpu"
    )
    asked = urlencode({"type": "cpu", "start": start, "max_nodes": 10})
    found = running.get(f"/api/v1/profiles/flame?{asked}")["audit"]["lost"]
    assert found <= counted, "what was lost before the first interval ended is not seen"
    assert found == pytest.approx(counted, abs=0.1 * counted + 50)


def test_resident_memory_adds_up_to_the_cgroups(running: Running, tmp_path: Path) -> None:
    """A program that keeps 300 MiB, touched while it was looked at; then memory.stat knows it."""
    if running.state("profile.resident")["status"] != "running":
        pytest.skip(running.state("profile.resident")["reason"])
    program = compiled(tmp_path, "memory.c", "-O2")
    with cgroup("audit-memory") as group:
        name = "/" + group.directory.name
        enter = f"echo $$ > {group.directory}/cgroup.procs && exec {program}"
        pipe = subprocess.PIPE
        with subprocess.Popen(["sh", "-c", enter], stdin=pipe, stdout=pipe, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            start = time.time() + 1
            time.sleep(8)
            end = time.time() - 1
            pages = int(HOST.read(HOST.proc / f"{process.pid}/statm").split()[1])
            process.communicate()
        found = flame(running, "resident", start, end, container=name)
    rss = pages * HOST.page_size
    print(f"RSS {rss / MIB:.0f} MiB, profile {found['total'] / MIB:.0f} MiB, {found['audit']}")
    assert found["total"] == pytest.approx(rss, rel=0.2)
    assert found["audit"]["accounted_ratio"] == pytest.approx(1, abs=0.25)
