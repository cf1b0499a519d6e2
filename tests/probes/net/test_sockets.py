"""net.sockets on a tree of files with known numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from huatuo.probes.net.sockets import Sockets
from tests.probes.tree import mangled, reader, samples, survives


def test_counts_and_memory() -> None:
    found = samples(reader(Sockets, "net_sockets"))
    assert found["used"][()] == 115
    assert found["in_use"]["tcp", "ipv4"] == 10
    assert found["in_use"]["udp", "ipv6"] == 7
    assert found["tcp_orphans"][()] == 1
    assert found["tcp_time_wait"][()] == 2
    assert found["tcp_allocated"][()] == 14
    assert found["memory_bytes"] == {
        ("tcp",): 3 * 4096,
        ("udp",): 5 * 4096,
        ("frag",): 4352,
        ("frag6",): 1000,
    }
    assert found["tcp_pressure_bytes"][()] == 200 * 4096
    assert found["tcp_limit_bytes"][()] == pytest.approx(300 * 4096)


@settings(deadline=None)
@given(mangled())
def test_garbage_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(Sockets, "net_sockets", how)
    assert survives(Sockets, "net_sockets", (0, 1, "garbage !", True)) > 0
