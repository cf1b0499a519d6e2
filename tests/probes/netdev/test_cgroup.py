"""netdev.cgroup on a tree of files with known numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from huatuo.kernel.cgroupfs import Cgroup
from huatuo.probes.netdev.cgroup import NetdevCgroup
from tests.probes.tree import mangled, reader, samples, survives

TARGETS = (
    Cgroup(12, "/app"),
    Cgroup(11, "/app"),  # two containers of one pod
    Cgroup(13, "/empty"),
    Cgroup(14, "/hidden"),
    Cgroup(15, "/gone"),
)


def test_a_namespace_is_reported_once() -> None:
    probe = reader(NetdevCgroup, "netdev_cgroup", TARGETS)
    found = samples(probe)
    assert found["bytes_total"] == {(11, "eth0", "receive"): 100, (11, "eth0", "transmit"): 500}
    assert found["packets_total"][11, "eth0", "transmit"] == 6
    assert found["errors_total"][11, "eth0", "receive"] == 3
    assert found["dropped_packets_total"][11, "eth0", "transmit"] == pytest.approx(8)
    assert probe.collect_errors == 0


@settings(deadline=None)
@given(mangled())
def test_garbage_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(NetdevCgroup, "netdev_cgroup", how)
    assert survives(NetdevCgroup, "netdev_cgroup", (0, 1, "garbage !", True), only="net/dev") > 0
