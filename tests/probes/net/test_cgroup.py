"""net.cgroup on a tree of files with known numbers."""

from __future__ import annotations

from hypothesis import given, settings

from huatuo.probes.net.cgroup import NetCgroup
from tests.probes.tree import APP, mangled, reader, samples, survives


def test_sockets_and_tcp() -> None:
    found = samples(reader(NetCgroup, "net_cgroup"))
    assert found["sockets_in_use"] == {
        (APP.id, "tcp"): 3,
        (APP.id, "udp"): 1,
        (APP.id, "raw"): 0,
    }
    assert found["tcp_time_wait"] == {(APP.id,): 2}
    assert found["tcp_established"] == {(APP.id,): 7}
    assert found["tcp_retransmitted_segments_total"] == {(APP.id,): 9}
    assert found["tcp_listen_drops_total"] == {(APP.id,): 3}
    assert found["tcp_out_of_order_segments_total"] == {(APP.id,): 13}
    assert found["tcp_closed_windows_total"] == {(APP.id,): 5}
    assert found["tcp_reset_connections_total"] == {(APP.id,): 4}


def test_udp_is_that_of_both_families() -> None:
    found = samples(reader(NetCgroup, "net_cgroup"))
    assert found["udp_received_datagrams_total"] == {(APP.id,): 95 + 5}
    assert found["udp_sent_datagrams_total"] == {(APP.id,): 96 + 4}
    assert found["udp_closed_port_total"] == {(APP.id,): 1 + 6}
    assert found["udp_receive_buffer_errors_total"] == {(APP.id,): 3 + 1}


@settings(deadline=None)
@given(mangled())
def test_garbage_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(NetCgroup, "net_cgroup", how)
    assert survives(NetCgroup, "net_cgroup", (0, 1, "garbage !", True), only="net/snmp") > 0
