"""netdev.softnet on a tree of files with known numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from huatuo.probes.netdev.softnet import Softnet
from tests.probes.tree import mangled, reader, samples, survives


def test_columns_are_hexadecimal_and_name_their_cpu() -> None:
    found = samples(reader(Softnet, "netdev_softnet"))
    assert found["processed_packets_total"] == {("0",): 16, ("3",): 0x39B2}
    assert found["dropped_packets_total"]["0",] == 2
    assert found["squeezes_total"] == {("0",): 3, ("3",): 1}
    assert found["steered_packets_total"]["0",] == 5
    assert found["flow_limited_packets_total"]["0",] == 6
    assert found["backlog_packets"]["0",] == pytest.approx(7)


@settings(deadline=None)
@given(mangled())
def test_garbage_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(Softnet, "netdev_softnet", how)
    assert survives(Softnet, "netdev_softnet", (0, 1, "garbage !", True)) > 0
