"""The headers of a captured packet as plain data: Ethernet, VLAN, ARP, IP, TCP, UDP, ICMP.

Captures are short, and packets that the kernel drops may be damaged. Whatever is missing is left
out: a layer that does not fit is the last one and says `truncated`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any

__all__ = ["captured_layers", "decode", "summary"]

Layers = dict[str, Any]
_Network = Callable[[bytes, Layers], None]
_Transport = Callable[[bytes], Layers]

_ARP, _IPV4, _IPV6, _VLAN, _QINQ = 0x0806, 0x0800, 0x86DD, 0x8100, 0x88A8
_NOT_ETHERTYPE = 0x0600  # smaller numbers are lengths of 802.3 frames
_TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")
_FRAGMENT, _AUTHENTICATION = 44, 51
_EXTENSIONS = {0: "hop_by_hop", 43: "routing", 44: "fragment", 51: "ah", 60: "destination"}
_PROTOCOLS = {
    1: "icmp",
    2: "igmp",
    4: "ipip",
    6: "tcp",
    17: "udp",
    41: "ipv6",
    47: "gre",
    50: "esp",
    51: "ah",
    58: "icmpv6",
    89: "ospf",
    112: "vrrp",
    132: "sctp",
}
_ICMP = {0: "echo reply", 3: "unreachable", 5: "redirect", 8: "echo request", 11: "time exceeded"}
_ICMP_UNREACHABLE = {0: "net", 1: "host", 2: "protocol", 3: "port", 4: "fragmentation needed"}
_ICMPV6 = {
    1: "unreachable",
    2: "packet too big",
    3: "time exceeded",
    4: "parameter problem",
    128: "echo request",
    129: "echo reply",
    130: "listener query",
    131: "listener report",
    133: "router solicitation",
    134: "router advertisement",
    135: "neighbour solicitation",
    136: "neighbour advertisement",
    143: "listener report v2",
}
_ICMPV6_UNREACHABLE = {0: "no route", 1: "prohibited", 3: "address", 4: "port"}


class _TruncatedError(Exception):
    """The layer does not fit into what was captured, or is not what it should be."""


def decode(packet: bytes, protocol: int, network_offset: int) -> Layers:
    """Layer name → its header's fields. `protocol` is the EtherType of the network header."""
    layers: Layers = {}
    link = packet[:network_offset]
    if len(link) >= 14:
        _ethernet(link, protocol, layers)
    _network(packet[network_offset:], protocol, layers)
    return layers


def captured_layers(fields: dict[str, Any]) -> Layers:
    """Takes what a record has captured out of its fields and puts the headers in its place."""
    packet, captured = fields.pop("packet", b""), fields.pop("captured", 0)
    raw = bytes.fromhex(packet) if isinstance(packet, str) else bytes(packet)
    protocol = fields.get("protocol", 0)
    fields["headers"] = decode(raw[:captured], protocol, fields.pop("network_offset", 0))
    fields["protocol"] = f"{protocol:#06x}"
    return fields["headers"]  # type: ignore[no-any-return]


def _ethernet(link: bytes, protocol: int, layers: Layers) -> None:
    kind = _u16(link, 12)
    if kind not in (protocol, _VLAN, _QINQ) and (protocol >= _NOT_ETHERTYPE or kind > 1500):
        return  # some other kind of link
    layers["ethernet"] = {
        "dst": link[:6].hex(":"),
        "src": link[6:12].hex(":"),
        "type": f"{kind:#06x}",
    }
    at = 12
    while kind in (_VLAN, _QINQ) and len(link) >= at + 6:
        _add_vlan(link, at + 2, layers)
        at += 4
        kind = _u16(link, at)


def _add_vlan(data: bytes, at: int, layers: Layers) -> None:
    tag = _u16(data, at)
    layers.setdefault("vlan", []).append({"id": tag & 0xFFF, "priority": tag >> 13})


def _network(data: bytes, protocol: int, layers: Layers) -> None:
    for _ in range(4):  # tags that stand where the network header is expected
        if protocol not in (_VLAN, _QINQ) or len(data) < 4:
            break
        _add_vlan(data, 0, layers)
        protocol, data = _u16(data, 2), data[4:]
    decoder = _NETWORK.get(protocol)
    if decoder is None or not data:
        return
    try:
        decoder(data, layers)
    except _TruncatedError:
        layers["truncated"] = True


def _arp(data: bytes, layers: Layers) -> None:
    _need(data, 28)
    hardware, protocol, hardware_size, protocol_size, operation = struct.unpack_from(">HHBBH", data)
    if (hardware, protocol, hardware_size, protocol_size) != (1, _IPV4, 6, 4):
        raise _TruncatedError
    layers["arp"] = {
        "operation": {1: "request", 2: "reply"}.get(operation, str(operation)),
        "sender": data[8:14].hex(":"),
        "src": str(IPv4Address(data[14:18])),
        "target": data[18:24].hex(":"),
        "dst": str(IPv4Address(data[24:28])),
    }


def _ipv4(data: bytes, layers: Layers) -> None:
    _need(data, 20)
    if data[0] >> 4 != 4:
        raise _TruncatedError
    length, identification, fragment = struct.unpack_from(">HHH", data, 2)
    offset = (fragment & 0x1FFF) * 8
    layers["ipv4"] = {
        "src": str(IPv4Address(data[12:16])),
        "dst": str(IPv4Address(data[16:20])),
        "protocol": _protocol_name(data[9]),
        "ttl": data[8],
        "length": length,
        "id": identification,
        "dont_fragment": bool(fragment & 0x4000),
        "more_fragments": bool(fragment & 0x2000),
        "fragment_offset": offset,
    }
    header = (data[0] & 15) * 4
    if header < 20:
        raise _TruncatedError
    if not offset:
        _transport(data[header:], data[9], layers)


def _ipv6(data: bytes, layers: Layers) -> None:
    _need(data, 40)
    if data[0] >> 4 != 6:
        raise _TruncatedError
    ip: Layers = {
        "src": str(IPv6Address(data[8:24])),
        "dst": str(IPv6Address(data[24:40])),
        "protocol": _protocol_name(data[6]),
        "hop_limit": data[7],
        "payload_length": _u16(data, 4),
        "flow_label": int.from_bytes(data[1:4], "big") & 0xFFFFF,
    }
    layers["ipv6"] = ip
    following, rest = data[6], data[40:]
    while following in _EXTENSIONS:
        _need(rest, 8)
        ip.setdefault("extensions", []).append(_EXTENSIONS[following])
        if following == _FRAGMENT:
            ip["fragment_offset"] = _u16(rest, 2) & 0xFFF8
        units = (rest[1] + 2) * 4 if following == _AUTHENTICATION else (rest[1] + 1) * 8
        size = 8 if following == _FRAGMENT else units
        following, rest = rest[0], rest[size:]
        ip["protocol"] = _protocol_name(following)
    if not ip.get("fragment_offset"):
        _transport(rest, following, layers)


def _transport(data: bytes, protocol: int, layers: Layers) -> None:
    decoder = _TRANSPORT.get(protocol)
    if decoder is not None:
        layers[_PROTOCOLS[protocol]] = decoder(data)


def _tcp(data: bytes) -> Layers:
    _need(data, 14)  # to the flags; the window may be cut off
    source, target, sequence, acknowledged = struct.unpack_from(">HHII", data)
    flags = [name for bit, name in enumerate(_TCP_FLAGS) if data[13] >> bit & 1]
    header = {
        "src_port": source,
        "dst_port": target,
        "seq": sequence,
        "ack": acknowledged,
        "flags": flags,
    }
    if len(data) >= 16:
        header["window"] = _u16(data, 14)
    return header


def _udp(data: bytes) -> Layers:
    _need(data, 8)
    source, target, length = struct.unpack_from(">HHH", data)
    return {"src_port": source, "dst_port": target, "length": length}


def _sctp(data: bytes) -> Layers:
    _need(data, 8)
    source, target, tag = struct.unpack_from(">HHI", data)
    return {"src_port": source, "dst_port": target, "tag": tag}


def _icmp(data: bytes) -> Layers:
    _need(data, 4)
    kind, code = data[0], data[1]
    header: Layers = {"type": kind, "code": code, "name": _ICMP.get(kind, f"type {kind}")}
    if kind == 3 and code in _ICMP_UNREACHABLE:
        header["name"] = f"{_ICMP_UNREACHABLE[code]} unreachable"
    if kind in (0, 8):
        header |= _echo(data)
    elif kind in (3, 5, 11, 12):
        header |= _about(data[8:], _IPV4)
    return header


def _icmpv6(data: bytes) -> Layers:
    _need(data, 4)
    kind, code = data[0], data[1]
    header: Layers = {"type": kind, "code": code, "name": _ICMPV6.get(kind, f"type {kind}")}
    if kind == 1 and code in _ICMPV6_UNREACHABLE:
        header["name"] = f"{_ICMPV6_UNREACHABLE[code]} unreachable"
    if kind in (128, 129):
        header |= _echo(data)
    elif kind in (135, 136) and len(data) >= 24:
        header["target"] = str(IPv6Address(data[8:24]))
    elif kind < 128:
        header |= _about(data[8:], _IPV6)
    return header


def _echo(data: bytes) -> Layers:
    return {"id": _u16(data, 4), "seq": _u16(data, 6)} if len(data) >= 8 else {}


def _about(data: bytes, protocol: int) -> Layers:
    """The packet that an ICMP error is about; an error about an error is not followed."""
    inner: Layers = {}
    nested = len(data) > 9 and (data[9] == 1 if protocol == _IPV4 else data[6] == 58)
    if data and not nested:
        _network(data, protocol, inner)
    return {"about": inner} if inner else {}


_NETWORK: Mapping[int, _Network] = {_ARP: _arp, _IPV4: _ipv4, _IPV6: _ipv6}
_TRANSPORT: Mapping[int, _Transport] = {
    1: _icmp,
    6: _tcp,
    17: _udp,
    58: _icmpv6,
    132: _sctp,
}


def _need(data: bytes, size: int) -> None:
    if len(data) < size:
        raise _TruncatedError


def _u16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def _protocol_name(number: int) -> str:
    return _PROTOCOLS.get(number, str(number))


def summary(layers: Mapping[str, Any]) -> str:
    """One phrase: `TCP SYN 10.0.0.1:443 → 10.0.0.2:5555`; empty if nothing was recognised."""
    if arp := layers.get("arp"):
        return f"ARP {arp['operation']} {arp['src']} → {arp['dst']}"
    ip = layers.get("ipv4") or layers.get("ipv6")
    if not ip:
        return ""
    for name in ("tcp", "udp", "sctp"):
        if ports := layers.get(name):
            source = _endpoint(ip["src"], ports["src_port"])
            target = _endpoint(ip["dst"], ports["dst_port"])
            flags = "+".join(ports.get("flags", []))
            return " ".join(part for part in (name.upper(), flags, source, "→", target) if part)
    message = layers.get("icmp") or layers.get("icmpv6")
    kind = ip["protocol"].upper().replace("V6", "v6") + (f" {message['name']}" if message else "")
    return f"{kind} {ip['src']} → {ip['dst']}"


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
