"""block.cgroup on a tree of files with known numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from huatuo.probes.block.cgroup import BlockCgroup
from tests.probes.tree import APP, mangled, reader, samples, survives

VDA, SDB = 254 << 20, 8 << 20 | 16


@pytest.mark.parametrize("tree", ["block_cgroup/v1", "block_cgroup/v2"])
def test_both_versions_tell_the_same(tree: str) -> None:
    probe = reader(BlockCgroup, tree)
    found = samples(probe)
    assert found["bytes_total"][APP.id, VDA, "read"] == 4096
    assert found["bytes_total"][APP.id, VDA, "write"] == 8192
    assert found["operations_total"][APP.id, VDA, "read"] == 1
    assert found["operations_total"][APP.id, VDA, "write"] == 2
    assert probe.collect_errors == 0


def test_devices_without_statistics_and_hidden_ones_are_left_out() -> None:
    found = samples(reader(BlockCgroup, "block_cgroup/v2"))
    assert {key[1] for key in found["bytes_total"]} == {VDA, SDB}
    assert found["bytes_total"][APP.id, SDB, "discard"] == pytest.approx(30)


def test_device_is_an_identity() -> None:
    (metric, _) = reader(BlockCgroup, "block_cgroup/v2").collect()
    assert metric.labels["device"].meaning.name == "disk_t"


@settings(deadline=None)
@given(mangled())
def test_garbage_v1_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(BlockCgroup, "block_cgroup/v1", how)
    assert survives(BlockCgroup, "block_cgroup/v1", (0, 1, "garbage !", True)) > 0
