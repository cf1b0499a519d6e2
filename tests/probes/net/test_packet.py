"""Decoding of headers: packets written out by hand, and whatever bytes may come."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from huatuo.probes.net.packet import decode, summary

ETHERNET = bytes.fromhex("020000000001 020000000002".replace(" ", ""))
IPV4, IPV6, ARP, VLAN = 0x0800, 0x86DD, 0x0806, 0x8100


def ipv4(protocol: int, payload: bytes, fragment: int = 0, options: bytes = b"") -> bytes:
    length = 20 + len(options) + len(payload)
    return (
        struct.pack(">BBHHHBBH", 0x45 + len(options) // 4, 0, length, 7, fragment, 61, protocol, 0)
        + ip_address("10.0.0.1").packed
        + ip_address("10.0.0.2").packed
        + options
        + payload
    )


def ipv6(following: int, payload: bytes) -> bytes:
    return (
        struct.pack(">IHBB", 0x60000005, len(payload), following, 64)
        + ip_address("2001:db8::1").packed
        + ip_address("2001:db8::2").packed
        + payload
    )


def udp(source: int, target: int, payload: bytes = b"") -> bytes:
    return struct.pack(">HHHH", source, target, 8 + len(payload), 0) + payload


def tcp(flags: int) -> bytes:
    return struct.pack(">HHIIBBHHH", 443, 5555, 1000, 2000, 0x50, flags, 512, 0, 0)


def test_tcp_behind_ethernet() -> None:
    frame = ETHERNET + struct.pack(">H", IPV4) + ipv4(6, tcp(0x12))
    layers = decode(frame, IPV4, 14)
    assert layers["ethernet"] == {
        "dst": "02:00:00:00:00:01",
        "src": "02:00:00:00:00:02",
        "type": "0x0800",
    }
    assert layers["ipv4"]["src"] == "10.0.0.1"
    assert layers["ipv4"]["ttl"] == 61
    assert layers["tcp"] == {
        "src_port": 443,
        "dst_port": 5555,
        "seq": 1000,
        "ack": 2000,
        "flags": ["SYN", "ACK"],
        "window": 512,
    }
    assert summary(layers) == "TCP SYN+ACK 10.0.0.1:443 → 10.0.0.2:5555"


def test_ip_options_move_the_ports() -> None:
    layers = decode(ipv4(17, udp(1, 2), options=bytes(8)), IPV4, 0)
    assert layers["udp"] == {"src_port": 1, "dst_port": 2, "length": 8}


def test_only_the_first_fragment_has_ports() -> None:
    assert "udp" in decode(ipv4(17, udp(1, 2), fragment=0x2000), IPV4, 0)
    later = decode(ipv4(17, udp(1, 2), fragment=0x2000 | 185), IPV4, 0)
    assert "udp" not in later
    assert later["ipv4"]["fragment_offset"] == 1480
    assert later["ipv4"]["more_fragments"]
    assert summary(later) == "UDP 10.0.0.1 → 10.0.0.2"


def test_vlan_tags_before_and_in_place_of_the_network_header() -> None:
    tag = struct.pack(">HH", 0x6000 | 42, IPV4)
    before = decode(ETHERNET + struct.pack(">H", VLAN) + tag + ipv4(17, udp(1, 2)), IPV4, 18)
    within = decode(tag + ipv4(17, udp(1, 2)), VLAN, 0)
    for layers in (before, within):
        assert layers["vlan"] == [{"id": 42, "priority": 3}]
        assert layers["udp"]["dst_port"] == 2


def test_ipv6_extension_headers() -> None:
    hops = bytes([60, 0]) + bytes(6)
    options = bytes([44, 1]) + bytes(14)
    fragment = bytes([17, 0]) + struct.pack(">HI", 1, 99)
    layers = decode(ipv6(0, hops + options + fragment + udp(53, 1024)), IPV6, 0)
    assert layers["ipv6"]["extensions"] == ["hop_by_hop", "destination", "fragment"]
    assert layers["ipv6"]["protocol"] == "udp"
    assert layers["ipv6"]["flow_label"] == 5
    assert layers["udp"]["src_port"] == 53
    assert summary(layers) == "UDP [2001:db8::1]:53 → [2001:db8::2]:1024"


def test_arp() -> None:
    packet = (
        struct.pack(">HHBBH", 1, IPV4, 6, 4, 1)
        + ETHERNET[6:]
        + ip_address("10.0.0.1").packed
        + bytes(6)
        + ip_address("10.0.0.9").packed
    )
    assert summary(decode(packet, ARP, 0)) == "ARP request 10.0.0.1 → 10.0.0.9"


def test_icmp_error_says_what_it_is_about() -> None:
    error = struct.pack(">BBHI", 3, 3, 0, 0) + ipv4(17, udp(40000, 9))
    layers = decode(ipv4(1, error), IPV4, 0)
    assert layers["icmp"]["name"] == "port unreachable"
    assert layers["icmp"]["about"]["udp"]["dst_port"] == 9
    assert summary(layers) == "ICMP port unreachable 10.0.0.1 → 10.0.0.2"


def test_icmpv6_neighbour_solicitation() -> None:
    message = struct.pack(">BBHI", 135, 0, 0, 0) + ip_address("fe80::1").packed
    layers = decode(ipv6(58, message), IPV6, 0)
    assert layers["icmpv6"]["target"] == "fe80::1"
    assert summary(layers).startswith("ICMPv6 neighbour solicitation")


def test_what_is_cut_off_is_left_out() -> None:
    packet = ipv4(6, tcp(0x02))
    for size in range(len(packet)):
        layers = decode(packet[:size], IPV4, 0)
        assert ("ipv4" in layers) == (size >= 20)
        assert ("tcp" in layers) == (size >= 34)
        assert bool(layers.get("truncated")) == (0 < size < 34)


def test_another_link_layer_is_not_ethernet() -> None:
    infiniband = bytes(24)
    layers = decode(infiniband + ipv4(17, udp(1, 2)), IPV4, 24)
    assert "ethernet" not in layers
    assert layers["udp"]["src_port"] == 1


@given(
    st.binary(max_size=128),
    st.sampled_from([IPV4, IPV6, ARP, VLAN, 0x88A8, 0, 4, 0xFFFF]),
    st.integers(0, 80),
)
def test_no_bytes_are_too_strange(packet: bytes, protocol: int, offset: int) -> None:
    summary(decode(packet, protocol, offset))


@given(st.sampled_from([4, 6]), st.integers(0, 255), st.binary(max_size=120), st.integers(0, 120))
def test_no_transport_is_too_strange(
    version: int, protocol: int, payload: bytes, size: int
) -> None:
    if version == 4:
        summary(decode(ipv4(protocol, payload)[:size], IPV4, 0))
    else:
        summary(decode(ipv6(protocol, payload)[:size], IPV6, 0))
