"""memory.cgroup on a tree of files with known numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from huatuo.probes.memory.cgroup import MemoryCgroup
from tests.probes.tree import APP, FREE, host, mangled, reader, samples, survives

SAME = {
    "used_bytes": 1000000,
    "working_set_bytes": 600000,
    "peak_bytes": 1500000,
    "limit_bytes": 2097152,
    "anon_bytes": 300000,
    "file_bytes": 500000,
    "shmem_bytes": 8192,
    "file_mapped_bytes": 12288,
    "dirty_bytes": 20480,
    "kernel_bytes": 150000,
    "swap_bytes": 4096,
}


@pytest.mark.parametrize("tree", ["memory_cgroup/v1", "memory_cgroup/v2"])
def test_both_versions_tell_the_same(tree: str) -> None:
    assert MemoryCgroup.unavailable(host(tree)) == ""
    probe = reader(MemoryCgroup, tree)
    found = samples(probe)
    for name, value in SAME.items():
        assert found[name][APP.id,] == value, name
    assert found["faults_total"][APP.id, "major"] == 9
    assert found["faults_total"][APP.id, "minor"] == 891
    assert found["refaulted_pages_total"][APP.id, "file"] == 22
    assert found["events_total"][APP.id, "max"] == 40
    assert found["events_total"][APP.id, "oom_kill"] == 2
    assert (FREE.id,) not in found["limit_bytes"]
    assert probe.collect_errors == 0


def test_what_only_v2_knows() -> None:
    found = samples(reader(MemoryCgroup, "memory_cgroup/v2"))
    assert found["swap_limit_bytes"][APP.id,] == 0
    assert "throttle_limit_bytes" not in found
    assert found["slab_bytes"][APP.id, "reclaimable"] == 50000
    assert found["scanned_pages_total"][APP.id,] == 70
    assert found["events_total"][APP.id, "oom"] == 3


def test_one_bad_cgroup_does_not_hide_the_others() -> None:
    bad = "app/free/memory.stat"
    assert survives(MemoryCgroup, "memory_cgroup/v1", (0, 1, "?", True), only=bad) == 1


@settings(deadline=None)
@given(mangled())
def test_garbage_v1_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(MemoryCgroup, "memory_cgroup/v1", how)
    assert survives(MemoryCgroup, "memory_cgroup/v1", (0, 1, "garbage !", True)) > 0


@settings(deadline=None)
@given(mangled())
def test_garbage_v2_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(MemoryCgroup, "memory_cgroup/v2", how)
    assert survives(MemoryCgroup, "memory_cgroup/v2", (0, 1, "garbage !", True)) > 0
