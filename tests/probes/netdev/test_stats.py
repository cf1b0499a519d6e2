"""netdev.stats on a tree of files with known numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from huatuo.probes.netdev.stats import Stats
from tests.probes.tree import mangled, reader, samples, survives


def test_traffic() -> None:
    found = samples(reader(Stats, "netdev_stats"))
    assert found["bytes_total"]["eth0", "receive"] == 744905248
    assert found["bytes_total"]["eth0", "transmit"] == 647133
    assert found["errors_total"]["eth0", "receive"] == 1
    assert found["dropped_packets_total"]["eth0", "transmit"] == 8
    assert found["fifo_errors_total"]["eth0", "receive"] == 3
    assert found["frame_errors_total"]["eth0",] == 4
    assert found["multicast_packets_total"]["eth0",] == 6
    assert found["collisions_total"]["eth0",] == 10
    assert found["carrier_errors_total"]["eth0",] == 11


def test_links() -> None:
    probe = reader(Stats, "netdev_stats")
    found = samples(probe)
    assert found["up"] == {("lo",): 1, ("eth0",): 1, ("eth1",): 0}
    assert found["carrier"]["eth1",] == 0
    assert found["carrier_changes_total"]["eth0",] == 3
    assert found["mtu_bytes"]["eth1",] == 9000
    assert found["speed_bytes_per_second"] == {("eth0",): pytest.approx(1.25e9)}
    assert probe.collect_errors == 0


def test_idle_devices_are_left_out_first() -> None:
    probe = reader(Stats, "netdev_stats", settings={"max_devices": 2})
    assert set(samples(probe)["up"]) == {("lo",), ("eth0",)}
    assert probe.notes == ["1 more devices are left out: see max_devices"]


@settings(deadline=None)
@given(mangled())
def test_garbage_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(Stats, "netdev_stats", how)
    assert survives(Stats, "netdev_stats", (0, 1, "garbage !", True)) > 0
