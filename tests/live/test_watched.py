"""Containers that are left out: a real agent, real drops, and an account that adds up.

Each sender is in a cgroup that is called as a container is; what it did is counted by itself.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from huatuo.kernel.cgroupfs import hierarchies
from huatuo.probes.memory.oom import Oom
from huatuo.probes.profile.cpu import Cpu
from huatuo.profilers.native.unwinder import Unwinder
from tests.live.agent import (
    EATER,
    Running,
    agent,
    command,
    events_of,
    eventually,
    limit_memory,
)
from tests.live.conftest import HOST, Group, cgroup, emulated, events, need, running

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

WATCHED, LEFT_OUT = "a" * 64, "b" * 64
KILLS, SENT = 2, 7
WAIT = 60.0 if emulated() else 8.0
CONFIG = """
probes = ["memory.oom", "net.drop"]
[containers]
exclude = "name=bbbb*"
[net.drop]
max_per_second_per_container = 1000
max_per_second = 100000
[agent]
interval = "1s"
"""
# To a port where nobody listens, in a network namespace of its own: as many drops as packets.
SEND = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
time.sleep(2.5)  # namespaces are looked for once a second
for _ in range(int(sys.argv[1])):
    s.sendto(b"x", ("127.0.0.1", 9))
time.sleep(3)
"""
BURN = "import time\nend = time.monotonic() + 2\nwhile time.monotonic() < end: pass"


@contextmanager
def container(name: str) -> Iterator[Group]:
    """A cgroup that every runtime could have made."""
    with cgroup(f"watched-{name[:4]}") as outer:
        inner = outer.directory / f"docker-{name}.scope"
        inner.mkdir()
        try:
            yield Group(inner)
        finally:
            for _ in range(100):
                try:
                    inner.rmdir()
                    break
                except OSError:
                    time.sleep(0.05)


def kill(group: Group) -> None:
    """By the kernel, for want of memory: one event each."""
    with suppress(OSError):
        (group.directory.parent / "cgroup.subtree_control").write_text("+memory")
    limit_memory(group)
    for _ in range(KILLS):
        assert group.run([sys.executable, "-c", EATER]).returncode in (-9, 137)


def test_the_kernel_does_not_produce_what_is_not_wanted() -> None:
    with container(WATCHED) as a, container(LEFT_OUT) as b, running(Oom) as probe:
        probe.stop()
        probe.exclude({b.id})
        probe.start()
        kill(a)
        kill(b)
        drained = events(probe, "oom_kills")["victim_cgroup"].tolist()
        account = probe.account()
        assert [c for c in drained if c in (a.id, b.id)] == [a.id] * KILLS
        assert account.suppressed["excluded"] == KILLS
        held = sum(account.suppressed.values()) + sum(account.lost.values())
        assert account.produced == account.delivered + held
        probe.exclude(set())  # while it runs
        kill(b)
        assert events(probe, "oom_kills")["victim_cgroup"].tolist().count(b.id) == KILLS


def test_samples_of_others_are_not_taken() -> None:
    need(not Cpu.unavailable(HOST), Cpu.unavailable(HOST))
    Cpu.name = "profile.cpu"
    with container(WATCHED) as a, container(LEFT_OUT) as b, ExitStack() as stack:
        probe = Cpu(HOST, {"samples_per_second": 99})
        probe.unwinder = Unwinder(HOST)
        stack.callback(probe.unwinder.close)
        probe.exclude({b.id})
        probe.start()
        stack.callback(probe.stop)
        burner = [sys.executable, "-c", BURN]
        with a.start(burner), b.start(burner):
            pass  # to their ends
        cgroups = [c for batch in probe.drain() for c in batch.rows["cgroup"].tolist()]
        account = probe.account()
        assert cgroups.count(a.id) > 20
        assert b.id not in cgroups
        assert account.suppressed["excluded"] > 20
        held = sum(account.suppressed.values()) + sum(account.lost.values())
        assert 0 <= account.produced - account.delivered - held <= 20  # taken since


@pytest.fixture(scope="module")
def watching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    need(hierarchies(HOST).identity, "no cgroup hierarchy is mounted")
    with agent(tmp_path_factory.mktemp("store"), CONFIG) as started:
        yield started


def excluded(running: Running, probe: str) -> int:
    """How many of its records were; all are accounted for but those still in the ring."""
    found = running.state(probe)
    held = sum(found["suppressed"].values()) + sum(found["lost"].values())
    assert 0 <= found["produced"] - found["delivered"] - held <= 20 + found["produced"] // 100
    return int(found["suppressed"]["excluded"])


def test_of_the_others_there_is_only_a_sum(watching: Running) -> None:
    """First before the agent can have told the kernel of the new cgroup, then after that."""
    before = excluded(watching, "memory.oom")
    with container(WATCHED) as a, container(LEFT_OUT) as b:
        for round_ in (1, 2):
            kill(a)
            kill(b)
            wanted = round_ * KILLS
            seen = eventually(
                lambda wanted=wanted: len(events_of(watching, "memory.oom", WATCHED[:12])) == wanted
            )
            assert seen, round_
            time.sleep(2.5)
        rows = watching.get("/api/v1/containers?start=-1m")
        metrics = watching.text("/metrics")
    assert events_of(watching, "memory.oom", LEFT_OUT[:12]) == []
    assert eventually(lambda: excluded(watching, "memory.oom") - before == 2 * KILLS)
    assert WATCHED[:12] in str(rows)
    assert LEFT_OUT[:12] not in str(rows)
    assert LEFT_OUT[:12] not in metrics

    def kills(name: str) -> float:
        lines = [x for x in metrics.splitlines() if x.startswith("huatuo_memory_oom_kills_total{")]
        return sum(float(x.split()[-1]) for x in lines if f'container="{name}"' in x)

    assert kills(WATCHED[:12]) == 2 * KILLS
    assert kills("other") >= 2 * KILLS


def test_the_agent_leaves_out_what_the_kernel_cannot_tell(watching: Running) -> None:
    """A received packet has a network namespace; whose that is, only the agent knows."""
    need(shutil.which("unshare") and shutil.which("ip"), "needs unshare and ip")
    before = excluded(watching, "net.drop")
    up = 'ip link set lo up && exec "$@"'
    send = ["unshare", "-n", "sh", "-c", up, "sh", sys.executable, "-c", SEND, str(SENT)]
    with container(WATCHED) as a, container(LEFT_OUT) as b, a.start(send), b.start(send):
        seen = eventually(lambda: len(events_of(watching, "net.drop", WATCHED[:12])) == SENT, WAIT)
        assert seen
        assert eventually(lambda: excluded(watching, "net.drop") - before == SENT, WAIT)
    assert events_of(watching, "net.drop", LEFT_OUT[:12]) == []


def test_a_mistake_in_the_rules_ends_the_agent_with_one_line(tmp_path: Path) -> None:
    file = tmp_path / "huatuo.toml"
    file.write_text('[net.drop]\ncontainers = "namspace=prod-*"\n')
    words = command(tmp_path / "store", "--config", str(file))
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    expected = '[net.drop] containers: "namspace": unknown; did you mean namespace?'
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
