"""Made-up packets and filters of packets, and what libpcap says of the ones with the others."""

from __future__ import annotations

import ctypes as c
import random
import struct
from collections.abc import Sequence
from socket import AF_INET6, inet_aton, inet_pton

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

__all__ = ["chosen_by_libpcap", "expressions", "packet"]

HOSTS = ("10.0.0.1", "10.0.0.2", "10.0.1.7", "192.168.4.4", "224.0.0.5", "255.255.255.255")
HOSTS6 = ("2001:db8::1", "2001:db8::2", "fe80::1", "ff02::1", "::1")
MACS = ("00:11:22:33:44:55", "02:00:00:00:00:01", "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01")
PORTS = (20, 22, 53, 80, 443, 1023, 1024, 8080, 65535)
VLANS = (0, 1, 10, 100, 4095)
PROTOCOLS = (1, 2, 6, 17, 41, 47, 50, 51, 58, 89, 112, 132)
_WORDS = (
    *("ip", "ip6", "arp", "rarp", "tcp", "udp", "icmp", "icmp6"),
    *("igmp", "vrrp", "broadcast", "multicast", "vlan", "mpls", "pppoes", "stp", "llc"),
    "ip multicast",
    "ip6 multicast",
    "ether multicast",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "ip[6:2] & 0x1fff = 0",
    "icmp[icmptype] = icmp-echo",
    "icmp[icmptype] != icmp-echo",
    "icmp6[icmp6type] = icmp6-echo",
    "icmp6[icmp6type] = 135",
)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _transport(rng: random.Random, protocol: int) -> bytes:
    ports = struct.pack(">HH", rng.choice(PORTS), rng.choice(PORTS))
    payload = rng.choice((b"", b"GET / HTTP/1.1", rng.randbytes(rng.randrange(200))))
    if protocol == 6:
        flags = rng.choice((2, 18, 16, 17, 4, 24, rng.randrange(256)))
        words = rng.choice((5, 5, 8, 15))
        header = struct.pack(">IIBBHHH", rng.getrandbits(32), 0, words << 4, flags, 1000, 0, 0)
        return ports + header + rng.randbytes(words * 4 - 20) + payload
    if protocol == 17:
        return ports + struct.pack(">HH", 8 + len(payload), 0) + payload
    if protocol in (1, 58):
        kinds = (0, 3, 5, 8, 11) if protocol == 1 else (1, 3, 128, 129, 135, 136)
        return struct.pack(">BBHI", rng.choice(kinds), rng.randrange(5), 0, 7) + payload
    return ports + payload


def _ipv4(rng: random.Random) -> bytes:
    protocol = rng.choice((6, 6, 17, 17, 1, rng.choice(PROTOCOLS)))
    body, words = _transport(rng, protocol), rng.choice((5, 5, 5, 6, 15, rng.randrange(16)))
    fragment = rng.choice((0, 0, 0x4000, 0x2000, 0x2010, 185))
    header = struct.pack(
        ">BBHHHBBH4s4s", 0x40 | words, rng.choice((0, 0xB8)), words * 4 + len(body),
        rng.getrandbits(16), fragment, rng.choice((1, 64, 255)), protocol, 0,
        inet_aton(rng.choice(HOSTS)), inet_aton(rng.choice(HOSTS)),
    )  # fmt: skip
    return header + rng.randbytes(max(words * 4 - 20, 0)) + body


def _ipv6(rng: random.Random) -> bytes:
    protocol = rng.choice((6, 17, 58, rng.choice(PROTOCOLS)))
    body = _transport(rng, protocol)
    for kind in rng.choices((0, 43, 44, 51, 60), k=rng.choice((0, 0, 0, 1, 3))):
        body = struct.pack(">BBHI", protocol, 1 if kind == 51 else 0, 0, 1) + body
        protocol = kind
        if kind == 51:
            body = body[:8] + bytes(4) + body[8:]
    header = struct.pack(
        ">IHBB16s16s", 0x60000000 | rng.getrandbits(20), len(body), protocol, 64,
        inet_pton(AF_INET6, rng.choice(HOSTS6)), inet_pton(AF_INET6, rng.choice(HOSTS6)),
    )  # fmt: skip
    return header + body


def _arp(rng: random.Random) -> bytes:
    one, other = inet_aton(rng.choice(HOSTS)), inet_aton(rng.choice(HOSTS))
    operation = rng.choice((1, 2))
    return struct.pack(">HHBBH6s4s6s4s", 1, 0x0800, 6, 4, operation, bytes(6), one, bytes(6), other)


_NETWORK = {0x0800: _ipv4, 0x86DD: _ipv6, 0x0806: _arp}


def packet(rng: random.Random) -> bytes:
    """An Ethernet frame: most are well-formed, with few different values; some are cut or noise."""
    kind = rng.choice((0x0800,) * 5 + (0x86DD,) * 3 + (0x0806, 0x88CC, 0x0806, 46, 0x8847))
    make = _NETWORK.get(kind, lambda rng: rng.randbytes(rng.randrange(60)))
    body = make(rng)
    tags = rng.choices((0x8100, 0x88A8, 0x9100), k=rng.choice((0, 0, 0, 1, 2)))
    link = _mac(rng.choice(MACS)) + _mac(rng.choice(MACS))
    for tag in tags:
        link += struct.pack(">HH", tag, rng.choice(VLANS) | rng.choice((0, 0xE000)))
    frame = link + struct.pack(">H", kind) + body
    if rng.random() < 0.1:
        frame = frame[: rng.randrange(1, len(frame) + 1)]
    if rng.random() < 0.05:
        at = rng.randrange(len(frame))
        frame = frame[:at] + rng.randbytes(len(frame) - at)
    return frame


class _Program(c.Structure):
    """struct bpf_program of pcap/bpf.h."""

    _fields_ = (("length", c.c_uint), ("instructions", c.c_char_p))


class _Header(c.Structure):
    """struct pcap_pkthdr of pcap/pcap.h."""

    _fields_ = (
        ("seconds", c.c_long),
        ("microseconds", c.c_long),
        ("captured", c.c_uint32),
        ("length", c.c_uint32),
    )


def chosen_by_libpcap(
    program: npt.NDArray[np.void], packets: Sequence[tuple[bytes, int]]
) -> list[bool]:
    """What libpcap's interpreter says of each packet: what was captured, its length on the wire."""
    library = c.CDLL("libpcap.so.0.8")
    library.pcap_offline_filter.argtypes = [c.c_void_p, c.c_void_p, c.c_char_p]
    asked = _Program(len(program), program.tobytes())
    found = []
    for data, length in packets:
        header = _Header(0, 0, len(data), length)
        found.append(bool(library.pcap_offline_filter(c.byref(asked), c.byref(header), data)))
    return found


def _with(words: Sequence[str], values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds("{} {}".format, st.sampled_from(words), values)


def _primitives() -> st.SearchStrategy[str]:
    direction = st.sampled_from(("", "src ", "dst ", "src or dst ", "src and dst "))
    kind = st.sampled_from(("", "tcp ", "udp ", "sctp "))
    port = st.sampled_from(PORTS).map(str)
    host, host6 = st.sampled_from(HOSTS), st.sampled_from(HOSTS6)
    nets = st.sampled_from(("10.0.0.0/8", "10.0.0", "192.168.4.0 mask 255.255.255.0", "224.0.0.0/4",
                            "2001:db8::/32", "fe80::/10", "ff02::/16"))  # fmt: skip
    headers = st.sampled_from(("ether", "ip", "ip6", "tcp", "udp", "icmp", "icmp6", "arp"))
    at, size = st.integers(0, 120).map(str), st.sampled_from(("", ":1", ":2", ":4"))
    field = st.builds("{}[{}{}]".format, headers, at, size)
    indirect = st.sampled_from(
        (
            "tcp[(tcp[12] & 0xf0) >> 2:4]",
            "ip[(ip[0] & 15) << 2:2]",
            "ether[ether[14] & 63]",
            "udp[udp[5] % 11:2]",
            "ether[len - 1]",
            "ether[len / 2:4]",
        )
    )
    number = st.sampled_from((0, 1, 2, 6, 8, 17, 64, 80, 0x1FFF, 0x4745, 0xFF, 0x47455420)).map(str)
    operator = st.sampled_from(("+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"))
    value = st.one_of(
        field,
        indirect,
        st.just("len"),
        st.builds("({} {} {})".format, field, operator, number),
        st.builds("({} {} {})".format, field, operator, field),
        st.builds("(-{})".format, field),
    )
    relation = st.sampled_from(("=", "!=", ">", "<", ">=", "<="))
    return st.one_of(
        st.sampled_from(_WORDS),
        st.builds("{}{}host {}".format, st.sampled_from(("", "ip ", "arp ")), direction, host),
        st.builds("{}host {}".format, direction, host6),
        st.builds("{}net {}".format, direction, nets),
        st.builds("{}{}port {}".format, kind, direction, port),
        st.builds("{}{}portrange {}-{}".format, kind, direction, port, port),
        st.builds("ether {}host {}".format, direction.filter(bool), st.sampled_from(MACS)),
        _with(("less", "greater"), st.integers(10, 300).map(str)),
        _with(("ip proto", "ip6 proto", "proto"), st.sampled_from(PROTOCOLS).map(str)),
        _with(("ether proto",), st.sampled_from(("0x0800", "0x86dd", "0x8100", "46"))),
        _with(("vlan", "mpls"), st.sampled_from(VLANS).map(str)),
        st.builds("{} {} {}".format, value, relation, st.one_of(number, value)),
    )


def expressions() -> st.SearchStrategy[str]:
    """In tcpdump's language. Some are refused, for example for rejecting everything."""
    return st.recursive(
        _primitives(),
        lambda inner: st.one_of(
            st.builds("({} and {})".format, inner, inner),
            st.builds("({} or {})".format, inner, inner),
            st.builds("not ({})".format, inner),
        ),
        max_leaves=6,
    )
