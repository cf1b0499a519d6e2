"""`huatuo top` with its real probes: the number of a hog with a known limit; an agent beside it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from huatuo.cli import main
from huatuo.cli.top_sample import Between, Watch, of_container
from huatuo.cli.top_signals import containers
from huatuo.kernel.cgroupfs import hierarchies
from tests.live.agent import agent
from tests.live.conftest import HOST, Group, cgroup, need

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

LIMIT = 0.2  # cores
SPIN = "while True: pass"


@contextmanager
def limited() -> Iterator[tuple[Group, Path, Path]]:
    """A cgroup that may use LIMIT cores, the directory that limits and the one that accounts for
    its CPU time; on v1 they are cgroups of the same name in several hierarchies."""
    with cgroup("top") as group:
        trees = hierarchies(HOST)
        if trees.controller("cpu") == trees.v2:
            group.write("cpu.max", f"{int(LIMIT * 100_000)} 100000")
            yield group, group.directory, group.directory
            return
        need({"cpu", "cpuacct"} <= set(trees.v1), "no hierarchies for CPU limits and CPU time")
        limit, account = (trees.v1[name] / group.directory.name for name in ("cpu", "cpuacct"))
        for directory in {limit, account}:
            directory.mkdir()
        try:
            (limit / "cpu.cfs_quota_us").write_text(str(int(LIMIT * 100_000)))
            yield group, limit, account
        finally:
            for directory in {limit, account}:
                _left(directory).rmdir()


def _left(directory: Path) -> Path:
    """The directory, once nobody is in it."""
    for _ in range(100):
        if not (directory / "cgroup.procs").read_text().strip():
            break
        time.sleep(0.05)
    return directory


def used(limit: Path, account: Path) -> tuple[float, float]:
    """Seconds on CPU and seconds withheld so far, by the kernel's own account."""
    lines = (limit / "cpu.stat").read_text().splitlines()
    stat = {name: int(value) for name, value in map(str.split, lines)}
    if "usage_usec" in stat:
        return stat["usage_usec"] / 1e6, stat["throttled_usec"] / 1e6
    return int((account / "cpuacct.usage").read_text()) / 1e9, stat["throttled_time"] / 1e9


@contextmanager
def hog(group: Group) -> Iterator[None]:
    with group.start([sys.executable, "-c", SPIN]) as process:
        try:
            trees = hierarchies(HOST)
            for name in ("cpu", "cpuacct"):
                if name in trees.v1:
                    directory = trees.v1[name] / group.directory.name
                    (directory / "cgroup.procs").write_text(str(process.pid))
            yield
        finally:
            process.kill()


def test_a_hogs_share_is_that_of_its_cgroup_and_it_is_the_most_throttled() -> None:
    with limited() as (group, *places), Watch(HOST) as watch, hog(group):
        time.sleep(1)
        before, began = watch.look(), used(*places)
        time.sleep(3)
        after, ended = watch.look(), used(*places)
    between = Between(before, after)
    rows = containers(between, "throttled_cores")
    values = rows[0].values
    assert rows[0].container == f"/{group.directory.name}", [row.container for row in rows]
    ran, withheld = (
        (end - start) / between.seconds for start, end in zip(began, ended, strict=True)
    )
    assert values["cpu_cores"] == pytest.approx(ran, rel=0.1, abs=0.01)
    assert ran < LIMIT * 1.1
    assert values["throttled_cores"] == pytest.approx(withheld, rel=0.1, abs=0.02)
    assert withheld > 0.1
    assert values["cpu_limit_cores"] == LIMIT
    assert values["tasks"] == 1
    assert values["wait_p99_seconds"] > 0.01, "a throttled task waits for the rest of 100 ms"
    ordered = [row.values.get("cpu_cores", -1.0) for row in containers(between, "cpu_cores")]
    assert ordered == sorted(ordered, reverse=True)
    shown = {metric.name for metric in of_container(after.metrics, rows[0].container)}
    assert "huatuo_cpu_sched_wait_seconds" in shown


def test_an_agent_beside_it_goes_on_and_json_is_one_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with agent(tmp_path / "store") as running:
        before = {one["name"]: one for one in running.get("/api/v1/probes")}
        began = time.monotonic()
        assert main(["top", "--json", "--interval", "1s", "--sort", "wait_p99_seconds"]) == 0
        assert time.monotonic() - began > 1
        after = {one["name"]: one for one in running.get("/api/v1/probes")}
    found = json.loads(capsys.readouterr().out)
    assert sum(found["host"]["cpu_ratio"].values()) == pytest.approx(1)
    total = int(HOST.read_pairs(HOST.proc / "meminfo")["MemTotal"]) * 1024
    assert found["host"]["memory_bytes"]["total"] == total
    waits = [one.get("wait_p99_seconds", -1) for one in found["containers"]]
    assert waits == sorted(waits, reverse=True)
    assert waits[0] > 0
    for name, state in before.items():
        assert after[name]["status"] == state["status"], name
        assert after[name]["hooks"] == state["hooks"], name
    for reason in ("ring_full", "map_full"):
        assert after["cpu.sched"]["lost"].get(reason) == before["cpu.sched"]["lost"].get(reason)
    assert before["cpu.sched"]["status"] == "running"
