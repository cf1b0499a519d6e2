"""Containers whose cgroup may have any name, whose ids are their users' choice, or that run inside
others: who is who when names repeat and state comes, changes and goes.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from huatuo.enrich.containers.base import Kept
from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.containers.state import Listing, State
from tests.enrich.conftest import Layout

A, B = "a" * 64, "b" * 64
TASKS = "run/containerd/io.containerd.runtime.v2.task"


def runc_state(
    layout: Layout, path: str, created: str = "2026-01-02T03:04:05Z"
) -> dict[str, object]:
    """As runc writes it: directories below the mount points, by controller; "" on v2."""
    mounted = {
        controller: f"/{layout.mount(controller).relative_to(layout.host.root)}{path}"
        for controller in ("memory", "blkio")
    }
    paths = {"": mounted["memory"]} if layout.version == "v2" else mounted
    return {"cgroup_paths": paths, "created": created}


def test_same_id_in_two_namespaces_is_two_containers(layout: Layout) -> None:
    for scope, label in (("default", "one"), ("build", "two")):
        layout.file(
            f"{TASKS}/{scope}/job/config.json",
            {
                "annotations": {"nerdctl/name": label},
                "linux": {"cgroupsPath": f"/{scope}/job"},
            },
        )
        state = runc_state(layout, f"/{scope}/job", f"2026-01-0{len(scope) - 4}T00:00:00Z")
        layout.file(f"run/containerd/runc/{scope}/job/state.json", state)
    inventory = Inventory(layout.host)
    first = inventory.owner(layout.cgroup("/default/job"))
    second = inventory.owner(layout.cgroup("/build/job"))
    assert (first.name, first.started) == ("one", "2026-01-03T00:00:00Z")
    assert (second.name, second.started) == ("two", "2026-01-01T00:00:00Z")
    block = layout.mount("blkio")
    assert inventory.owner_of_blkcg((block / "default/job").stat().st_ino).name == "one"
    assert inventory.owner_of_blkcg((block / "build/job").stat().st_ino).name == "two"


def test_lxc_container_is_not_the_runc_container_of_that_name(layout: Layout) -> None:
    layout.file("run/runc/web/state.json", runc_state(layout, "/batch/web"))
    inventory = Inventory(layout.host)
    system = inventory.owner(layout.cgroup("/lxc.payload.web"))
    batch = inventory.owner(layout.cgroup("/batch/web"))
    assert (system.runtime, system.started) == ("lxc", "")
    assert (batch.runtime, batch.started) == ("runc", "2026-01-02T03:04:05Z")


def test_cgroup_that_another_container_takes_over(layout: Layout) -> None:
    """The same path, first of one container, then of another, without a look in between."""
    layout.file("run/runc/first/state.json", runc_state(layout, "/batch/slot"))
    inode = layout.cgroup("/batch/slot")
    inventory = Inventory(layout.host)
    inventory.refresh()
    assert inventory.owner(inode).name == "first"
    for controller in ("memory", "blkio"):  # keeps its inode from being used again
        away = layout.host.root / f"away-{controller}"
        if (layout.mount(controller) / "batch/slot").exists():
            (layout.mount(controller) / "batch/slot").rename(away)
    (layout.host.root / "run/runc/first/state.json").unlink()
    (layout.host.root / "run/runc/first").rmdir()
    layout.file("run/runc/second/state.json", runc_state(layout, "/batch/slot"))
    again = layout.cgroup("/batch/slot")
    inventory.refresh()
    assert (inventory.owner(again).name, inventory.owner(again).gone) == ("second", "")
    assert inventory.owner(inode).name == "first"
    assert inventory.owner(inode).gone


def test_container_stays_the_same_when_another_is_declared(layout: Layout) -> None:
    """Everything is classified again then; what is known and still to be read must not be lost."""
    inode = layout.cgroup(f"/docker/{A}")
    other = layout.cgroup("/batch/late")
    inventory = Inventory(layout.host)
    inventory.refresh()
    layout.file("run/runc/late/state.json", runc_state(layout, "/batch/late"))
    inventory.refresh()
    assert inventory.owner(other).name == "late"
    state = {"Name": "/web", "Config": {"Image": "nginx:1"}, "State": {}}
    layout.file(f"var/lib/docker/containers/{A}/config.v2.json", state)
    name = "memory.max" if layout.version == "v2" else "memory.limit_in_bytes"
    for limit in (64 << 20, 32 << 20):
        (layout.mount() / f"docker/{A}" / name).write_text(f"{limit}\n")
        layout.host.pass_seconds(100)
        inventory.refresh()
        assert inventory.owner(inode).name == "web"
        assert inventory.owner(inode).memory_limit_bytes == limit
    (layout.mount() / f"docker/{A}").rename(layout.host.root / "away")
    inventory.refresh()
    assert inventory.owner(inode).gone


@pytest.mark.parametrize(
    ("quota", "cores"), [("50000 100000", 0.5), ("max 100000", 0.0), ("150000 50000", 3.0)]
)
def test_limits_are_those_of_the_cgroup(layout: Layout, quota: str, cores: float) -> None:
    inode = layout.cgroup(f"/docker/{A}")
    memory = layout.mount() / f"docker/{A}"
    if layout.version == "v2":
        (memory / "cpu.max").write_text(quota + "\n")
        (memory / "memory.max").write_text("max\n")
    elif layout.version == "v1":
        cpu = layout.mount("cpu,cpuacct") / f"docker/{A}"
        cpu.mkdir(parents=True)
        allowed, period = quota.replace("max", "-1").split()
        (cpu / "cpu.cfs_quota_us").write_text(allowed)
        (cpu / "cpu.cfs_period_us").write_text(period)
        (memory / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    else:  # hybrid: the cpu controller is in the unified tree
        cpu = layout.host.root / f"sys/fs/cgroup/unified/docker/{A}"
        cpu.mkdir(parents=True)
        (cpu / "cpu.max").write_text(quota)
        (memory / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    inventory = Inventory(layout.host)
    inventory.refresh()
    assert inventory.owner(inode).cpu_limit == cores
    assert inventory.owner(inode).memory_limit_bytes == 0


def test_docker_in_a_container_is_read_in_that_containers_own_tree(layout: Layout) -> None:
    state = {"Name": "/inner", "Config": {"Image": "job:1"}, "State": {"StartedAt": "2026-01-02"}}
    outside = {"Name": "/wrong", "Config": {"Image": "x"}, "State": {}}
    layout.file(f"proc/77/root/data/docker/containers/{B}/config.v2.json", state)
    layout.file(f"var/lib/docker/containers/{B}/config.v2.json", outside)
    tree = layout.host.proc / "77/root"
    (tree / "var/lib").mkdir(parents=True)
    (tree / "var/lib/docker").symlink_to("/data/docker")  # as the container sees it
    layout.cgroup(f"/docker/{A}")
    (layout.mount() / f"docker/{A}/cgroup.procs").write_text("77\n78\n")
    inner = layout.cgroup(f"/docker/{A}/docker/{B}")
    owner = Inventory(layout.host).owner(inner)
    assert (owner.name, owner.image, owner.runtime) == ("inner", "job:1", "docker")


def test_links_in_state_lead_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("1")
    root = tmp_path / "root"
    (root / "var").mkdir(parents=True)
    (root / "var/up").symlink_to("../../secret")
    (root / "var/absolute").symlink_to(tmp_path / "secret")
    (root / "var/loop").symlink_to("loop")
    os.mkfifo(root / "var/fifo")
    (root / "var/inside").symlink_to("/real")
    (root / "real").write_text("2")
    state = State(root)
    for name in ("up", "absolute", "loop", "fifo", "", "none"):
        with pytest.raises(OSError, match="var"):
            state.read(f"var/{name}")
    assert state.read("var/inside") == b"2"
    state.close()


def test_file_that_is_too_large_to_be_state(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(33 << 20)
    state = State(tmp_path)
    assert state.load("large", dict[str, str]) is None
    state.close()


def test_listing_follows_a_directory_that_comes_changes_and_goes(tmp_path: Path) -> None:
    state = State(tmp_path)
    listing = Listing(state, "a")
    assert listing.names() == frozenset()
    (tmp_path / "a/one").mkdir(parents=True)
    assert listing.names() == {"one"}
    (tmp_path / "a/two").mkdir()
    (tmp_path / "a/file").write_text("")
    assert listing.names() == {"one", "two"}
    assert listing.names() is listing.names()
    for name in ("one", "two"):
        (tmp_path / "a" / name).rmdir()
    assert listing.names() == frozenset()
    state.close()


def test_kept_labels() -> None:
    kept = Kept("app team/*", "")
    found = {"app": "x" * 1000, "team/name": "shop", "team": "no", "application": "no"}
    assert kept.labels(found) == {"app": "x" * 256, "team/name": "shop"}
    assert kept.annotations(found) == {}
    assert Kept("").labels(found) == {}
    assert Kept("*").labels(None) == {}
    assert len(Kept("*").labels({str(number): "" for number in range(100)})) == 32
