"""The scan that lists only what has changed."""

from __future__ import annotations

import shutil
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from huatuo.enrich.containers.tree import Tree
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
