"""task.cgroup on a tree of files with known numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from huatuo.probes.task.cgroup import TaskCgroup
from tests.probes.tree import APP, FREE, host, mangled, reader, samples, survives


@pytest.mark.parametrize("tree", ["task_cgroup/v1", "task_cgroup/v2"])
def test_tasks_and_their_limit(tree: str) -> None:
    assert TaskCgroup.unavailable(host(tree)) == ""
    found = samples(reader(TaskCgroup, tree))
    assert found["tasks"] == {(APP.id,): 12, (FREE.id,): 1}
    assert found["tasks_limit"] == {(APP.id,): 100}
    assert found["refused_forks_total"] == {(APP.id,): 7}


def test_a_controller_that_is_not_enabled_is_a_reason() -> None:
    assert "pids controller" in TaskCgroup.unavailable(host("netdev_cgroup"))


@settings(deadline=None)
@given(mangled())
def test_garbage_v1_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(TaskCgroup, "task_cgroup/v1", how)
    assert survives(TaskCgroup, "task_cgroup/v1", (0, 1, "garbage !", True)) > 0


@settings(deadline=None)
@given(mangled())
def test_garbage_v2_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(TaskCgroup, "task_cgroup/v2", how)
    assert survives(TaskCgroup, "task_cgroup/v2", (0, 1, "garbage !", True)) > 0
