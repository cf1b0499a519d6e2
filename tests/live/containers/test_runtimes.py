"""Real containers of runc, crun, podman, Docker and containerd: what we say is what the runtime
says.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from huatuo.enrich.containers.base import Kept
from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.containers.sources.asking import Answers, Asking
from huatuo.enrich.containers.sources.chosen import sources_of
from huatuo.enrich.enricher import Enricher
from huatuo.kernel.cgroup_events import CgroupEvents
from huatuo.kernel.host import Host
from huatuo.probes.cpu.sched import Sched
from huatuo.settings import ContainerSettings
from tests.live.conftest import emulated, need, running
from tests.live.containers.cri import ask
from tests.live.containers.runtimes import BURN, PODMAN_RUN, end, exists, real, tool, wait

pytestmark = pytest.mark.live


def same_second(ours: str, theirs: str) -> bool:
    """Runtimes print the same instant with more or fewer digits and in other zones."""
    first, second = (datetime.fromisoformat(text[:19] + "+00:00") for text in (ours, theirs))
    return abs((first - second).total_seconds()) <= 1


@pytest.mark.parametrize("runtime", ["runc", "crun", "podman", "docker", "containerd"])
def test_container_is_what_its_runtime_says(
    runtime: str, host: Host, rootfs: Path, tmp_path: Path
) -> None:
    inventory = Inventory(host)
    inventory.refresh()
    with real(runtime, host, rootfs, tmp_path) as container:
        identity = container.inode(host, "memory")
        block = container.inode(host, "blkio")
        owner = inventory.owner(identity)
        if not owner.started:  # state may follow the cgroup
            inventory.refresh()
            owner = inventory.owner(identity)
        assert (owner.kind, owner.name, owner.id) == ("container", container.name, container.id)
        assert owner.runtime == container.runtime
        assert same_second(owner.started, container.started)
        assert inventory.owner_of_blkcg(block) == owner
        netns = (Path(f"/proc/{container.pid}/ns/net")).stat().st_ino
        assert inventory.owner_of_netns(netns) == owner
        assert owner in inventory.containers()
        assert [c.path for c in inventory.cgroups() if inventory.owner(c.id) == owner] == [
            owner.cgroup
        ]
        container.stop()
        wait(lambda: not exists(host, owner.cgroup), "the end of the cgroup")
        inventory.refresh()
        after = inventory.owner(identity)
        assert (after.name, after.id) == (container.name, container.id)
        assert after.gone
        assert inventory.owner_of_blkcg(block).id == container.id


@pytest.mark.usefixtures("need_bpf")
@pytest.mark.parametrize("runtime", ["runc", "podman", "containerd"])
def test_container_that_lives_for_a_moment_is_named(
    runtime: str, host: Host, rootfs: Path, tmp_path: Path
) -> None:
    """By what the kernel tells alone: nobody asks for it, and state may follow the cgroup."""
    inventory = Inventory(host)
    events = CgroupEvents(host)
    inventory.follow(events)

    def live_and_die() -> tuple[str, str, int]:
        moment = ["/bin/sleep", "10" if emulated() else "0.8"]
        with real(runtime, host, rootfs, tmp_path, moment) as container:
            return container.name, container.id, container.inode(host, "memory")

    with ThreadPoolExecutor(1) as pool:
        brief = pool.submit(live_and_die)
        poller = select.poll()
        poller.register(events.fd, select.POLLIN)
        pause = 0.5
        while not brief.done():
            poller.poll(pause * 1000)
            time.sleep(0.04)  # as the agent does
            pause = inventory.look_again() or 0.5
        name, container_id, inode = brief.result()
    inventory.look_again()
    owner = inventory.owner(inode)
    assert owner.gone
    assert (owner.kind, owner.name, owner.id) == ("container", name, container_id)
    assert owner.started
    events.close()


@pytest.mark.parametrize("runtime", ["runc", "podman", "docker", "containerd"])
def test_container_made_after_the_scan_is_found_at_once(
    runtime: str, host: Host, rootfs: Path, tmp_path: Path
) -> None:
    inventory = Inventory(host)
    inventory.refresh()
    inventory.refresh()
    with real(runtime, host, rootfs, tmp_path) as container:
        began = time.monotonic()
        owner = inventory.owner(container.inode(host, "memory"))
        assert owner.name == container.name
        assert time.monotonic() - began < 1


def test_docker_container_has_its_labels_and_its_limits(
    host: Host, rootfs: Path, tmp_path: Path
) -> None:
    inventory = Inventory(host)
    with real("docker", host, rootfs, tmp_path) as container:
        inode = container.inode(host, "memory")
        assert inventory.owner(inode).labels == {"app": "shop"}
        assert inventory.owner(inode).image == "huatuo-busybox:1"

        def is_limited() -> bool:
            inventory.refresh()
            return bool(inventory.owner(inode).memory_limit_bytes)

        wait(is_limited, "its limits")
        assert inventory.owner(inode).memory_limit_bytes == 64 << 20
        assert inventory.owner(inode).cpu_limit == 0.5
        assert container.rename is not None
        container.rename("other")
        inventory.refresh()
        assert (inventory.owner(inode).name, inventory.owner(inode).id) == ("other", container.id)
        container.rename(container.name)


def test_containerd_says_what_ctr_was_told(host: Host, rootfs: Path, tmp_path: Path) -> None:
    """Labels are in containerd's database only."""
    kept, answers = Kept("app"), Answers()
    inventory = Inventory(host, kept=kept, answers=answers)
    asking = Asking(sources_of(host, ContainerSettings(), kept), answers, inventory)
    with real("containerd", host, rootfs, tmp_path) as container:
        inventory.refresh()
        inode = container.inode(host, "memory")
        assert inventory.owner(inode).labels == {}
        ask(asking)
        owner = inventory.owner(inode)
        assert (owner.labels, owner.name) == ({"app": "shop"}, container.name)


@pytest.mark.usefixtures("need_bpf")
@pytest.mark.parametrize("runtime", ["runc", "podman"])
def test_metrics_of_the_scheduler_carry_the_containers_name(
    runtime: str, host: Host, rootfs: Path, tmp_path: Path
) -> None:
    """From sched_switch to the label: a container that burns a CPU shows up by its name."""
    enricher = Enricher(host)
    with running(Sched) as probe, real(runtime, host, rootfs, tmp_path, BURN) as container:
        time.sleep(1.5)
        found = {metric.name: metric for metric in enricher.metrics(probe.collect())}
        run = found["huatuo_cpu_sched_run_seconds_total"]
        row = list(run.labels["container"].values).index(container.name)
        used = int(Path(f"/proc/{container.pid}/schedstat").read_text().split()[0]) / 1e9
        assert float(np.asarray(run.values)[row]) == pytest.approx(used, rel=0.5)


@pytest.mark.usefixtures("need_bpf")
def test_a_container_that_dies_at_once_is_known_by_name_to_trace(rootfs: Path) -> None:
    """`podman run --rm` whose only process is OOM-killed within a moment of its start."""
    name = f"huatuo-brief-{os.getpid()}"
    tool("runc")
    base = [tool("podman"), "--runtime", "runc"]
    grow = 'x=0123456789; while :; do x="$x$x"; done'
    options = ["--rm", "--name", name, "--memory", "20m", *PODMAN_RUN]
    trace = [sys.executable, "-m", "huatuo", "trace", "memory.oom", "--json", "--count", "1"]
    pipe = subprocess.PIPE
    try:
        with subprocess.Popen(
            [*trace, "--duration", "30s"], stdout=pipe, stderr=pipe, text=True
        ) as tracer:
            assert tracer.stderr is not None
            assert "memory.oom" in tracer.stderr.readline()  # it is attached
            end(*base, "run", *options, "--rootfs", rootfs, "/bin/sh", "-c", grow)
            output, _ = tracer.communicate(timeout=60)
    finally:
        end(*base, "rm", "--force", "--time", "0", name)
    need(output, "podman cannot limit the memory of a container here")
    (event,) = [json.loads(line) for line in output.splitlines()]
    assert event["container"]["name"] == name
    assert event["container"]["runtime"] == "podman"
