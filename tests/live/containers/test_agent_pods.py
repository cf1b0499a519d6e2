"""A real agent beside a real containerd with CRI: a pod is in the API with its labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from huatuo.kernel.host import Host
from tests.live.agent import Running, agent, eventually
from tests.live.containers.cri import kubelet
from tests.live.containers.runtimes import BURN

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

UID = "1b2c3d4e-0000-4000-8000-1234567890ac"
CONFIG = """
probes = ["cpu.sched"]
[agent]
interval = "1s"
[containers]
sockets = "{socket}"
labels = "app"
"""


def test_pods_that_start_while_the_agent_runs(host: Host, rootfs: Path, tmp_path: Path) -> None:
    """Its state on disk is where the agent does not look: all is said by CRI."""
    socket = host.run / "containerd/containerd.sock"
    with agent(tmp_path / "store", CONFIG.format(socket=socket)) as running:
        problem = eventually(lambda: [p for p in problems(running) if str(socket) in p])
        assert problem, "a daemon that is named and not there is a problem"
        with kubelet(host, rootfs, tmp_path) as node:
            for name in ("web-a", "web-b"):
                sandbox = node.pod(name, "shop", f"{UID[:-1]}{name[-1]}", labels={"app": name})
                node.container(sandbox, "app", BURN, cores=0.1, memory=32 << 20)
            found = eventually(lambda: rows(running), 20)
            assert set(found) == {"web-a", "web-b"}
            for pod, row in found.items():
                container = row["container"]
                assert container["labels"] == {"app": pod}
                assert (container["name"], container["namespace"]) == ("app", "shop")
                assert container["cpu_limit"] == 0.1
                assert container["memory_limit_bytes"] == 32 << 20
                assert 0.01 < row["cpu_cores"] < 0.15
            assert problems(running) == []
            text = running.text("/metrics")
            labels = '{container="app",pod="web-a",namespace="shop"}'
            assert f"huatuo_cpu_sched_run_seconds_total{labels}" in text


def problems(running: Running) -> list[str]:
    return [str(problem) for problem in running.get("/api/v1/health").get("problems", [])]


def rows(running: Running) -> dict[str, Any]:
    """Of both pods, as soon as both have used CPU for some seconds."""
    answer = running.get("/api/v1/containers?start=-15s")
    apps = {r["container"]["pod"]: r for r in answer if r["container"]["name"] == "app"}
    return apps if len(apps) == 2 and all(row.get("cpu_cores") for row in apps.values()) else {}
