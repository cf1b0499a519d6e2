"""The whole way, as a user goes it: a real agent, real facts in a container's cgroup, the API."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.live.agent import EATER, Running, agent, command, events_of, eventually, limit_memory
from tests.live.conftest import cgroup

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with agent(tmp_path_factory.mktemp("store")) as started:
        yield started


def test_an_oom_kill_is_seen_at_once_with_its_owner(running: Running) -> None:
    with cgroup("agent-oom") as group:
        limit_memory(group)
        result = group.run([sys.executable, "-c", EATER])
        assert result.returncode == -signal.SIGKILL or result.returncode == 137
        found = eventually(lambda: events_of(running, "memory.oom", group.directory.name))
    assert len(found) == 1
    event = found[0]
    assert event["container"]["cgroup"].endswith(group.directory.name)
    assert event["process"]["comm"].startswith("python")
    assert group.directory.name in json.dumps(event)


def test_a_cgroup_that_lives_for_a_moment_is_known_by_its_path(running: Running) -> None:
    """Killed and gone between two intervals of the agent; its name is in the event all the same."""
    with cgroup("agent-brief") as group:
        name = group.directory.name
        limit_memory(group)
        group.run([sys.executable, "-c", EATER])
    found = eventually(lambda: events_of(running, "memory.oom", name))
    assert len(found) == 1
    assert found[0]["container"]["cgroup"].endswith(name)


def test_a_dropped_packet_is_seen_at_once_with_its_reason(running: Running) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("127.0.0.1", 0))
        port = sender.getsockname()[1]
        sender.sendto(b"nobody listens", ("127.0.0.1", 9))
    found = eventually(lambda: events_of(running, "net.drop", f"127.0.0.1:{port}"))
    assert len(found) == 1
    assert "no_socket" in found[0]["title"] or "location" in found[0]["fields"]
    assert found[0]["stack"], "the kernel's frames are there"


def test_the_stream_carries_the_whole_event(running: Running) -> None:
    request = urllib.request.Request(
        f"http://{running.address}/api/v1/events/stream?probe=net.drop"
    )
    with (
        urllib.request.urlopen(request, timeout=10) as stream,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        time.sleep(0.3)
        sender.sendto(b"streamed", ("127.0.0.1", 9))
        for line in stream:
            if line.startswith(b"data:"):
                event = json.loads(line[5:])
                break
    assert event["probe"] == "net.drop"
    assert event["fields"]
    assert event["id"] > 0


def test_metrics_are_valid_and_accounts_add_up(running: Running) -> None:
    time.sleep(2)
    families = {f.name: f for f in text_string_to_metric_families(running.text("/metrics"))}
    assert "huatuo_cpu_sched_wait_seconds" in families
    assert families["huatuo_cpu_sched_wait_seconds"].type == "histogram"

    def total(name: str, probe: str) -> float:
        family = families.get(name)
        return (
            sum(s.value for s in family.samples if s.labels.get("probe") == probe) if family else 0
        )

    for probe in ("net.drop", "memory.oom"):
        produced = total("huatuo_probe_records_produced", probe)
        delivered = total("huatuo_probe_records_delivered", probe)
        suppressed = total("huatuo_probe_records_suppressed", probe)
        lost = sum(
            s.value
            for s in families["huatuo_probe_lost"].samples
            if s.labels["probe"] == probe and s.labels["reason"] == "ring_full"
        )
        assert produced >= 1
        assert produced == pytest.approx(delivered + suppressed + lost, abs=5), probe


def test_a_second_agent_on_the_same_store_is_refused(running: Running) -> None:
    second = subprocess.run(
        command(running.store, "--listen", "127.0.0.1:0"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode == 1
    assert str(running.store) in second.stderr
    assert str(running.process.pid) in second.stderr
    assert "Traceback" not in second.stderr


def test_the_store_can_be_queried_while_the_agent_runs(running: Running) -> None:
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "huatuo",
            "query",
            "--store",
            str(running.store),
            "events",
            "--json",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert any(json.loads(line)["probe"] == "net.drop" for line in result.stdout.splitlines())


def test_kill_9_loses_no_event_that_was_seen(tmp_path: Path) -> None:
    with agent(tmp_path / "store") as first:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"before the kill", ("127.0.0.1", 9))
        seen = eventually(lambda: events_of(first, "net.drop"))
        assert seen
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait(10)
    with agent(tmp_path / "store") as second:
        assert {e["id"] for e in seen} <= {e["id"] for e in events_of(second, "net.drop")}
