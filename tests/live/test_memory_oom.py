"""memory.oom against kills provoked by cgroup limits and against the kernel's own count of them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from huatuo.kernel.object import BpfObject
from huatuo.probes.memory.oom import Oom
from tests.live.conftest import HOST, Group, cgroup, events, metric, need, row, running
from tests.live.memory import MIB, child, limit, need_disposable_host

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

LIMIT = 64 * MIB
RING, KILLS = "oom_kills", "huatuo_memory_oom_kills_total"
TAKE = "import sys, time; hold = bytearray(int(sys.argv[1])); print(1, flush=True); time.sleep(60)"
TAKE_SLOWLY = """
import sys, time
hold = [bytearray(1 << 20) for _ in range(int(sys.argv[1]) >> 20)]
time.sleep(60)
"""


def taking(size: int, program: str = TAKE) -> list[str]:
    return [sys.executable, "-c", program, str(size)]


def kernels_count(group: Group) -> int:
    """Kills in the cgroup by the kernel's own account."""
    for name in ("memory.events", "memory.oom_control"):
        path = group.directory / name
        if path.exists():
            pairs = dict(line.split() for line in path.read_text().splitlines())
            need("oom_kill" in pairs, f"{name} of this kernel does not count kills")
            return int(pairs["oom_kill"])
    raise FileNotFoundError(group.directory)


def kills_in(probe: Oom, group: Group) -> npt.NDArray[np.void]:
    found = events(probe, RING, 0.5)
    return found[found["victim_cgroup"] == group.id]


@pytest.fixture(params=["fentry", "kprobe", "inferred"])
def rung(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Leave only one of the ways to know whose memory ran out; skips where the kernel lacks it."""
    load = BpfObject.load

    def load_one(opened: BpfObject) -> None:
        for form in {"fentry", "kprobe", "inferred"} - {request.param}:
            opened._missing[f"cause__{form}"] = "left out by the test"
        load(opened)

    monkeypatch.setattr(BpfObject, "load", load_one)
    return str(request.param)


@pytest.mark.usefixtures("rung")
def test_one_kill_is_one_event_about_the_right_process() -> None:
    with cgroup("oom") as group, running(Oom) as probe:
        limit(group, LIMIT)
        with group.start(taking(2 * LIMIT)) as process:
            process.communicate(timeout=60)
        assert process.returncode == -9
        found = kills_in(probe, group)
        assert len(found) == 1
        kill = found[0]
        assert kill["victim_tgid"] == kill["trigger_tgid"] == process.pid
        assert kill["victim_comm"].decode() == Path(sys.executable).name[:15]
        assert kill["trigger_cgroup"] == kill["domain_cgroup"] == group.id
        assert kill["scope"] == 3
        assert kill["domain_limit"] == LIMIT
        assert LIMIT - MIB <= kill["domain_usage"] <= LIMIT
        assert LIMIT // 2 < kill["victim_anon"] <= LIMIT
        assert kill["victim_virtual"] > 2 * LIMIT
        kills = metric(probe, KILLS)
        assert kills.values[row(kills, container=group.id, scope="memcg")].sum() == 1
        assert kernels_count(group) == 1
        assert b"oom_kill 1" in kill["victim_memory_events"]
        assert kill["domain_memory_stat"].splitlines()[0]


def test_three_kills_are_three() -> None:
    with cgroup("oom3") as group, running(Oom) as probe:
        limit(group, LIMIT)
        pids = []
        for _ in range(3):
            with group.start(taking(2 * LIMIT)) as process:
                process.communicate(timeout=60)
                pids.append(process.pid)
        assert kills_in(probe, group)["victim_tgid"].tolist() == pids
        kills = metric(probe, KILLS)
        assert kills.values[row(kills, container=group.id)].sum() == kernels_count(group) == 3


@pytest.mark.usefixtures("rung")
def test_victim_trigger_and_limit_may_be_three_cgroups() -> None:
    """The larger of two siblings dies because the other one allocates beyond their parent's."""
    with (
        cgroup("oomp") as parent,
        child(parent, "large") as large,
        child(parent, "small") as small,
        running(Oom) as probe,
    ):
        limit(parent, LIMIT)
        with large.start(taking(LIMIT * 5 // 8)) as victim:
            assert victim.stdout
            assert victim.stdout.readline() == "1\n"
            with small.start(taking(LIMIT * 4 // 8, TAKE_SLOWLY)) as trigger:
                try:
                    assert victim.wait(60) == -9
                    (kill,) = kills_in(probe, large)
                finally:
                    trigger.kill()
        assert (kill["victim_tgid"], kill["trigger_tgid"]) == (victim.pid, trigger.pid)
        assert kill["trigger_cgroup"] == small.id
        assert kill["domain_cgroup"] == parent.id
        assert kill["domain_limit"] == LIMIT


def test_an_ordinary_kill_is_none() -> None:
    with cgroup("oomno") as group, running(Oom) as probe:
        limit(group, LIMIT)
        with group.start(taking(LIMIT // 4)) as process:
            assert process.stdout
            process.stdout.readline()
            process.kill()
        assert len(kills_in(probe, group)) == 0
        assert kernels_count(group) == 0


def test_title_names_victim_and_limit() -> None:
    from huatuo.enrich.enricher import Enricher

    with cgroup("oomt") as group, running(Oom) as probe:
        limit(group, LIMIT)
        with group.start(taking(2 * LIMIT)) as process:
            process.communicate(timeout=60)
        enricher = Enricher(HOST)
        time.sleep(0.2)
        found = [e for batch in probe.drain() for e in enricher.events(batch, Oom)]
        (event,) = [e for e in found if e.process and e.process.pid == process.pid]
        assert "its memory limit of 64 MiB was reached" in event.title
        assert event.fields["victim_memory_after_kill"]["events"]["oom_kill"] == 1
        assert event.fields["scope"] == "memcg"
        assert any("oom_kill_process" in frame for frame in event.stack)


@pytest.mark.usefixtures("rung")
def test_host_out_of_memory() -> None:
    """The whole machine's memory is taken, so it must be one that nobody needs."""
    need_disposable_host("takes all memory")
    total = HOST.read_pairs(HOST.proc / "meminfo")["MemTotal"] * 1024
    with running(Oom) as probe:
        process = subprocess.Popen(taking(2 * total, TAKE_SLOWLY))
        assert process.wait(120) == -9
        (kill,) = [k for k in events(probe, RING, 0.5) if k["victim_tgid"] == process.pid]
        assert (kill["scope"], kill["domain_cgroup"], kill["domain_limit"]) == (0, 0, 0)
