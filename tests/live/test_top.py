"""`huatuo top` with its real probes: the number of a hog with a known limit; an agent beside it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from huatuo.cli import main
from huatuo.cli.top_sample import Between, Watch, of_container
from huatuo.cli.top_signals import containers
from tests.live.agent import Running, agent
from tests.live.conftest import HOST
from tests.live.limited import Limited, limited_cpu

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

LIMIT = 0.2  # cores
SPIN = "while True: pass"


def used(limited: Limited) -> tuple[float, float]:
    """By the kernel's own account, seconds on CPU and seconds withheld."""
    return limited.used_seconds(), limited.stat()["throttled_time"] / 1e9


def test_a_hogs_share_is_that_of_its_cgroup_and_it_is_the_most_throttled() -> None:
    with (
        limited_cpu("top", LIMIT) as limited,
        Watch(HOST) as watch,
        limited.start([sys.executable, "-c", SPIN]) as hog,
    ):
        time.sleep(1)
        before, began = watch.look(), used(limited)
        time.sleep(3)
        after, ended = watch.look(), used(limited)
        hog.kill()
    between = Between(before, after)
    rows = containers(between, "throttled_cores")
    values = rows[0].values
    assert rows[0].container == f"/{limited.group.directory.name}", [row.container for row in rows]
    ran, withheld = (
        (end - start) / between.seconds for start, end in zip(began, ended, strict=True)
    )
    assert values["cpu_cores"] == pytest.approx(ran, rel=0.1, abs=0.01)
    assert ran < LIMIT * 1.1
    assert values["throttled_cores"] == pytest.approx(withheld, rel=0.1, abs=0.02)
    assert withheld > 0.1
    assert values["cpu_limit_cores"] == LIMIT
    assert values["tasks"] == 1
    assert values["wait_p99_seconds"] > 0
    ordered = [row.values.get("cpu_cores", -1.0) for row in containers(between, "cpu_cores")]
    assert ordered == sorted(ordered, reverse=True)
    shown = {metric.name for metric in of_container(after.metrics, rows[0].container)}
    assert "huatuo_cpu_sched_wait_seconds" in shown


def run_seconds(running: Running) -> float:
    """CPU time of all tasks, as the agent's own program counts it."""
    name = "huatuo_cpu_sched_run_seconds_total{"
    lines = running.text("/metrics").splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_an_agent_beside_it_goes_on_and_json_is_one_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with agent(tmp_path / "store") as running:
        before = {one["name"]: one for one in running.get("/api/v1/probes")}
        ran, own = run_seconds(running), time.process_time()
        began = time.monotonic()
        assert main(["top", "--json", "--interval", "1s", "--sort", "wait_p99_seconds"]) == 0
        assert time.monotonic() - began > 1
        after = {one["name"]: one for one in running.get("/api/v1/probes")}
        ran, own = run_seconds(running) - ran, time.process_time() - own
    found = json.loads(capsys.readouterr().out)
    assert sum(found["host"]["cpu_ratio"].values()) == pytest.approx(1)
    total = int(HOST.read_pairs(HOST.proc / "meminfo")["MemTotal"]) * 1024
    assert found["host"]["memory_bytes"]["total"] == total
    waits = [one.get("wait_p99_seconds", -1) for one in found["containers"]]
    assert waits == sorted(waits, reverse=True)
    assert waits[0] > 0
    for name, state in before.items():
        assert after[name]["status"] == state["status"], name
    for reason in ("ring_full", "map_full"):
        assert after["cpu.sched"]["lost"].get(reason) == before["cpu.sched"]["lost"].get(reason)
    assert before["cpu.sched"]["status"] == "running"
    assert own > 0.1
    assert ran > own * 0.9, "its program went on counting, this process's own time among others"
