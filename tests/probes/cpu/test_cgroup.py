"""cpu.cgroup on a tree of files with known numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from huatuo.probes.cpu.cgroup import CpuCgroup
from tests.probes.tree import APP, host, mangled, reader, samples, survives


@pytest.mark.parametrize("tree", ["cpu_cgroup/v1", "cpu_cgroup/v2"])
def test_both_versions_tell_the_same(tree: str) -> None:
    assert CpuCgroup.unavailable(host(tree)) == ""
    probe = reader(CpuCgroup, tree)
    found = samples(probe)
    usage = found["usage_seconds_total"]
    assert usage[APP.id, "user"] == pytest.approx(4.0)
    assert usage[APP.id, "system"] == pytest.approx(1.5)
    assert found["limit_cores"] == {(APP.id,): 1.5}, "a container without limit has no sample"
    assert found["periods_total"][APP.id,] == 100
    assert found["throttled_periods_total"][APP.id,] == 25
    assert found["throttled_seconds_total"][APP.id,] == pytest.approx(3.5)
    assert found["bursts_total"] == {(APP.id,): 2}
    assert found["burst_seconds_total"] == {(APP.id,): pytest.approx(0.01)}
    assert probe.collect_errors == 0, "a cgroup that is gone is no error"


@settings(deadline=None)
@given(mangled())
def test_garbage_v1_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(CpuCgroup, "cpu_cgroup/v1", how)
    assert survives(CpuCgroup, "cpu_cgroup/v1", (0, 1, "garbage !", True)) > 0


@settings(deadline=None)
@given(mangled())
def test_garbage_v2_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(CpuCgroup, "cpu_cgroup/v2", how)
    assert survives(CpuCgroup, "cpu_cgroup/v2", (0, 1, "garbage !", True)) > 0
