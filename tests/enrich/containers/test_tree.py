"""The scan that lists only what has changed."""

from __future__ import annotations

import shutil
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from huatuo.enrich.containers.tree import Tree
from huatuo.kernel.cgroup_events import CgroupChange
from huatuo.kernel.cgroupfs import walk


def paths(tree: Tree) -> dict[str, int]:
    return {node.cgroup.path: node.id for node in tree.nodes()}


def test_first_scan_reports_parents_first(tmp_path: Path) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    changes = Tree(tmp_path).scan()
    assert [change.cgroup.path for change in changes] == ["/", "/a", "/a/b", "/a/b/c"]
    assert all(change.alive for change in changes)


def test_replaced_child_is_noticed_although_the_count_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "kept").mkdir()
    tree = Tree(tmp_path)
    tree.scan()
    (tmp_path / "new").mkdir()
    (tmp_path / "old").rmdir()
    changed = {(change.cgroup.path, change.alive) for change in tree.scan()}
    assert changed == {("/old", False), ("/new", True)}


def test_same_name_with_another_inode_is_another_cgroup(tmp_path: Path) -> None:
    (tmp_path / "job/inner").mkdir(parents=True)
    tree = Tree(tmp_path)
    tree.scan()
    (tmp_path / "job").rename(tmp_path / "moved")  # keeps the inode from being reused
    (tmp_path / "job").mkdir()
    changes = [(change.cgroup.path, change.alive) for change in tree.scan()]
    assert ("/job", False) in changes
    assert ("/job/inner", False) in changes
    assert ("/job", True) in changes
    assert ("/moved/inner", True) in changes


def test_missing_hierarchy_has_no_cgroups(tmp_path: Path) -> None:
    assert Tree(tmp_path / "none").scan() == []


PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from(["make", "remove", "scan"]), PATHS), max_size=25))
def test_after_any_history_the_tree_is_what_a_full_walk_finds(
    tmp_path: Path, steps: list[tuple[str, str]]
) -> None:
    shutil.rmtree(tmp_path / "root", ignore_errors=True)
    root = tmp_path / "root"
    root.mkdir()
    tree = Tree(root)
    tree.scan()
    for action, path in steps:
        if action == "make":
            (root / path).mkdir(parents=True, exist_ok=True)
        elif action == "remove":
            shutil.rmtree(root / path, ignore_errors=True)
        else:
            tree.scan()
    tree.scan()
    assert paths(tree) == {cgroup.path: cgroup.id for cgroup in walk(root)}


class Kernel:
    """Tells of what it does to directories, as the kernel does to cgroups."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.told: list[CgroupChange] = []

    def _tell(self, path: Path, kind: str) -> None:
        parent = path.parent.stat().st_ino
        name = path.name if len(path.name) < 159 else ""
        self.told.append(CgroupChange(path.stat().st_ino, parent, kind, name, True, True))

    def make(self, path: Path) -> None:
        for each in reversed([path, *path.parents]):
            if self.root in each.parents and not each.exists():
                each.mkdir()
                self._tell(each, "made")

    def remove(self, path: Path) -> None:
        for each in sorted(path.rglob("*"), reverse=True):
            self._tell(each, "removed")
            each.rmdir()
        if path.exists():
            self._tell(path, "removed")
            path.rmdir()


NAMES = st.lists(st.sampled_from(["a", "b", "c" * 200]), min_size=1, max_size=3).map("/".join)
ACTIONS = st.sampled_from(["make", "make", "remove", "scan", "take"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=st.lists(st.tuples(ACTIONS, NAMES), max_size=40))
def test_what_the_kernel_tells_makes_the_same_tree_whenever_it_is_taken(
    tmp_path: Path, steps: list[tuple[str, str]]
) -> None:
    """A scan may be ahead of what is told; a name that is too long is looked up."""
    shutil.rmtree(tmp_path / "root", ignore_errors=True)
    root = tmp_path / "root"
    root.mkdir()
    kernel, tree = Kernel(root), Tree(root)
    tree.scan()

    def take() -> None:
        told, kernel.told = kernel.told, []
        for change in told:
            tree.apply(change, [])

    for action, path in steps:
        if action == "make":
            kernel.make(root / path)
        elif action == "remove":
            kernel.remove(root / path)
        elif action == "scan":
            tree.scan()
        else:
            take()
    take()
    assert paths(tree) == {cgroup.path: cgroup.id for cgroup in walk(root)}
    assert len(tree) == len(paths(tree))
