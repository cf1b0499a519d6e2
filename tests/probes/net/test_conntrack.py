"""net.conntrack on a tree of files with known numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from huatuo.probes.net.conntrack import Conntrack
from tests.probes.tree import host, mangled, reader, samples, survives


def test_table_and_events() -> None:
    found = samples(reader(Conntrack, "net_conntrack"))
    assert found["entries"][()] == 17
    assert found["limit_entries"][()] == 65536
    assert found["events_total"]["invalid",] == 16
    assert found["events_total"]["drop",] == 4
    assert found["events_total"]["insert_failed",] == 2
    assert found["events_total"]["clashres",] == pytest.approx(1)


def test_without_conntrack_it_says_so() -> None:
    assert "not loaded" in Conntrack.unavailable(host("net_sockets"))


@settings(deadline=None)
@given(mangled())
def test_garbage_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(Conntrack, "net_conntrack", how)
    assert survives(Conntrack, "net_conntrack", (0, 1, "garbage !", True)) > 0
