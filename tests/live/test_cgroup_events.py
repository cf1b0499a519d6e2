"""What the kernel tells of cgroups that come and go, beside what is in the hierarchy."""

from __future__ import annotations

import random
import select
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.containers.tree import Change, Tree
from huatuo.kernel.cgroup_events import CgroupEvents
from huatuo.kernel.cgroupfs import hierarchies, walk
from tests.live.conftest import HOST, cgroup, emulated, need

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]


def test_a_tree_that_only_listens_is_the_one_that_a_walk_finds() -> None:
    """Hundreds of cgroups, nested, removed, made again under the same name, with long names."""
    choose = random.Random(6)
    with cgroup("events") as group:
        tree = Tree(group.directory)
        tree.scan()
        events = CgroupEvents(HOST)
        living = [group.directory]
        for number in range(600):
            if choose.random() < 0.6 or len(living) < 5:
                name = choose.choice(["a", "b", f"job-{number}", f"long-{number}" + "x" * 200])
                path = choose.choice(living) / name
                if not path.exists():
                    path.mkdir()
                    living.append(path)
            else:
                leaves = [p for p in living[1:] if not any(q.parent == p for q in living)]
                gone = choose.choice(leaves)
                gone.rmdir()
                living.remove(gone)
            if number % 50 == 0:
                take(tree, events)
        take(tree, events)
        try:
            assert {(n.path or "/", n.id) for n in tree.nodes()} == {
                (each.path, each.id) for each in walk(group.directory)
            }
            assert len(living) > 20
        finally:
            events.close()
            for path in sorted(living[1:], key=lambda p: -len(p.parts)):
                path.rmdir()


def take(tree: Tree, events: CgroupEvents) -> None:
    changes: list[Change] = []
    told, whole = events.drain()
    assert whole
    for change in told:
        if change.is_identity:
            tree.apply(change, changes)


def test_a_new_cgroup_wakes_the_reader_and_is_known_at_once() -> None:
    inventory = Inventory(HOST)
    events = CgroupEvents(HOST)
    inventory.follow(events)
    with cgroup("known") as group:
        began = time.monotonic()
        assert select.select([events.fd], [], [], 5)[0]
        inventory.look_again()
        owner = inventory.owner(group.id)
        took = time.monotonic() - began
        assert owner.name == f"/{group.directory.name}"
        assert took < (2 if emulated() else 0.1)
        inode = group.id
    inventory.look_again()
    assert inventory.owner(inode).gone
    events.close()


def test_a_cgroup_that_lives_for_a_moment_only_is_known_afterwards() -> None:
    inventory = Inventory(HOST)
    events = CgroupEvents(HOST)
    inventory.follow(events)
    with cgroup("moments") as group:
        inner = [group.directory / f"brief-{number}" for number in range(20)]
        inodes = {}
        for path in inner:
            path.mkdir()
            inodes[path.name] = path.stat().st_ino
            path.rmdir()
        for name, inode in inodes.items():
            owner = inventory.owner(inode)
            assert owner.name == f"/{group.directory.name}/{name}"
            assert owner.gone
    events.close()


def test_container_that_nobody_describes_has_started_when_its_cgroup_came() -> None:
    inventory = Inventory(HOST)
    events = CgroupEvents(HOST)
    inventory.follow(events)
    with cgroup("started") as group:
        container = group.directory / ("d" * 64)
        began = datetime.now(UTC)
        container.mkdir()
        inventory.look_again()
        owner = inventory.owner(container.stat().st_ino)
        container.rmdir()
    assert owner.kind == "container"
    came = datetime.fromisoformat(owner.started[:26] + "+00:00")
    assert -0.1 < (came - began).total_seconds() < (2 if emulated() else 0.2)
    events.close()


def test_more_than_the_ring_holds_is_found_by_looking() -> None:
    inventory = Inventory(HOST)
    events = CgroupEvents(HOST)
    inventory.follow(events)
    with cgroup("many") as group:
        for number in range(900):
            (group.directory / f"brief-{number}").mkdir()
            (group.directory / f"brief-{number}").rmdir()
        last = group.directory / "last"
        last.mkdir()
        inventory.look_again()
        assert inventory.owner(last.stat().st_ino).name == f"/{group.directory.name}/last"
        last.rmdir()
    events.close()


def test_block_hierarchy_is_followed_too() -> None:
    found = hierarchies(HOST)
    need("blkio" in found.v1, "blkio has no hierarchy of its own")
    inventory = Inventory(HOST)
    events = CgroupEvents(HOST)
    inventory.follow(events)
    inventory.owner_of_blkcg(Path(str(found.v1["blkio"])).stat().st_ino)
    with cgroup("block", "blkio") as group:
        owner = inventory.owner_of_blkcg(group.id)
        assert owner.name == f"/{group.directory.name}"
    events.close()


def test_renamed_cgroup() -> None:
    found = hierarchies(HOST)
    need("memory" in found.v1, "only v1 renames cgroups")
    inventory = Inventory(HOST)
    events = CgroupEvents(HOST)
    inventory.follow(events)
    with cgroup("renamed") as group:
        (group.directory / "old").mkdir()
        inode = (group.directory / "old").stat().st_ino
        assert inventory.owner(inode).name.endswith("/old")
        (group.directory / "old").rename(group.directory / "new")
        inventory.look_again()
        assert inventory.owner(inode).name.endswith("/new")
        assert not inventory.owner(inode).gone
        (group.directory / "new").rmdir()
    events.close()
