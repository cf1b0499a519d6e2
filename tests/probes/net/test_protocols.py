"""net.protocols on a tree of files with known numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from huatuo.probes.net.protocols import Protocols
from tests.probes.tree import mangled, reader, samples, survives


def test_important_counters_have_families() -> None:
    found = samples(reader(Protocols, "net_protocols"))
    assert found["tcp_retransmitted_segments_total"][()] == 9
    assert found["tcp_segments_total"] == {("receive",): 14671, ("transmit",): 8115}
    assert found["tcp_opened_connections_total"] == {("active",): 43, ("passive",): 2}
    assert found["tcp_established"][()] == 7
    assert found["tcp_listen_overflows_total"][()] == 2
    assert found["tcp_listen_drops_total"][()] == 3
    assert found["tcp_timeouts_total"][()] == 11
    assert found["tcp_aborts_total"]["data",] == 19
    assert found["tcp_out_of_order_segments_total"][()] == 13
    assert found["tcp_closed_windows_total"][()] == 0
    assert found["tcp_memory_pressure_seconds_total"][()] == pytest.approx(1.5)
    assert found["udp_buffer_errors_total"]["ipv4", "receive"] == 3
    assert found["mptcp_established"][()] == 2


def test_both_families() -> None:
    found = samples(reader(Protocols, "net_protocols"))
    assert found["ip_packets_total"]["ipv4", "receive"] == 14767
    assert found["ip_packets_total"]["ipv6", "receive"] == 8
    assert found["ip_bytes_total"]["ipv4", "receive"] == 744701673
    assert found["ip_bytes_total"]["ipv6", "receive"] == 900
    assert found["ip_group_bytes_total"] == {("ipv4", "receive", "multicast"): 77}
    assert found["ip_forwarded_packets_total"] == {("ipv6",): 4}
    assert found["udp_closed_port_total"] == {("ipv4",): 1, ("ipv6",): 6}
    assert found["icmp_messages_total"]["ipv6", "receive"] == 2


def test_everything_else_that_happened_and_no_constants() -> None:
    found = samples(reader(Protocols, "net_protocols"))
    assert found["events_total"] == {
        ("IcmpMsg", "InType3"): 5,
        ("TcpExt", "TCPLossProbes"): 422,
        ("MPTcpExt", "MPCapableSYNRX"): 1,
        ("Ip6", "InNoECTPkts"): 8,
        ("Icmp6", "OutType133"): 4,
        ("UdpLite6", "InErrors"): 1,
        ("Xfrm", "InNoStates"): 21,
        ("Tls", "TxSw"): 17,
    }


@settings(deadline=None)
@given(mangled())
def test_garbage_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(Protocols, "net_protocols", how)
    assert survives(Protocols, "net_protocols", (0, 1, "garbage !", True)) > 0
