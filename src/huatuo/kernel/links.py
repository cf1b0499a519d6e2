"""Network devices as rtnetlink tells of them (linux/if_link.h), with what bonding adds."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from huatuo.errors import Malformed
from huatuo.kernel.netlink import Netlink, attributes, text

__all__ = ["DELETED_LINK", "LINKS", "NEW_LINK", "Bond", "Link", "Slave", "links", "parse_link"]

NEW_LINK, DELETED_LINK, _GET_LINK = 16, 17, 18
LINKS = 1  # the group that is told of changes: RTNLGRP_LINK
_INFO = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_IFNAME, _MTU, _MASTER, _OPERSTATE, _LINKINFO, _STATS64 = 3, 4, 10, 16, 18, 23
_CARRIER, _CARRIER_UP, _CARRIER_DOWN = 33, 47, 48
_KIND, _DATA, _SLAVE_KIND, _SLAVE_DATA = 1, 2, 4, 5
_STATES = ("unknown", "not_present", "down", "lower_layer_down", "testing", "dormant", "up")
_UP = 1  # IFF_UP: the administrator wants it

# struct rtnl_link_stats64, whose end grew with time
STATISTICS = (
    "rx_packets",
    "tx_packets",
    "rx_bytes",
    "tx_bytes",
    "rx_errors",
    "tx_errors",
    "rx_dropped",
    "tx_dropped",
    "multicast",
    "collisions",
    "rx_length_errors",
    "rx_over_errors",
    "rx_crc_errors",
    "rx_frame_errors",
    "rx_fifo_errors",
    "rx_missed_errors",
    "tx_aborted_errors",
    "tx_carrier_errors",
    "tx_fifo_errors",
    "tx_heartbeat_errors",
    "tx_window_errors",
    "rx_compressed",
    "tx_compressed",
    "rx_nohandler",
    "rx_otherhost_dropped",
)


@dataclass(frozen=True, slots=True)
class Bond:
    """What a bonding device says of itself (IFLA_BOND_…). `active` is the index of its slave."""

    mode: int
    active: int = 0
    aggregator: int = 0  # of 802.3ad; 0 if it has none
    ports: int = 0
    partner: str = ""  # MAC address; 00:00:00:00:00:00 if nobody answers


@dataclass(frozen=True, slots=True)
class Slave:
    """What a slave of a bond says (IFLA_BOND_SLAVE_…). LACP states are the bits of 802.3ad."""

    active: bool
    mii_up: bool
    failures: int
    aggregator: int = 0
    actor_state: int = 0
    partner_state: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    """One device. `statistics` is empty in notices of a change."""

    index: int
    name: str
    is_up: bool  # the administrator wants it
    carrier: bool
    state: str
    mtu: int = 0
    master: int = 0
    kind: str = ""
    carrier_ups: int = -1  # -1: this kernel does not count them
    carrier_downs: int = -1
    statistics: Mapping[str, int] = field(default_factory=dict)
    bond: Bond | None = None
    slave: Slave | None = None


def links(netlink: Netlink) -> Iterator[Link]:
    """All devices of the socket's namespace."""
    for kind, payload in netlink.dump(_GET_LINK, bytes(_INFO.size)):
        if kind == NEW_LINK:
            yield parse_link(payload)


def parse_link(payload: bytes) -> Link:
    """The payload of a NEW_LINK or DELETED_LINK. Raises Malformed."""
    if len(payload) < _INFO.size:
        raise Malformed("rtnetlink", "a link without a header")
    _, _, index, flags, _ = _INFO.unpack_from(payload)
    found = attributes(payload[_INFO.size :])
    info = attributes(found.get(_LINKINFO, b""))
    kind, slave_kind = text(info.get(_KIND, b"")), text(info.get(_SLAVE_KIND, b""))
    state = _byte(found, _OPERSTATE)
    return Link(
        index=index,
        name=text(found.get(_IFNAME, b"")),
        is_up=bool(flags & _UP),
        carrier=bool(_byte(found, _CARRIER)),
        state=_STATES[state] if state < len(_STATES) else str(state),
        mtu=_word(found, _MTU),
        master=_word(found, _MASTER),
        kind=kind,
        carrier_ups=_word(found, _CARRIER_UP, -1),
        carrier_downs=_word(found, _CARRIER_DOWN, -1),
        statistics=_statistics(found.get(_STATS64, b"")),
        bond=_bond(info.get(_DATA, b"")) if kind == "bond" else None,
        slave=_slave(info.get(_SLAVE_DATA, b"")) if slave_kind == "bond" else None,
    )


def _statistics(data: bytes) -> dict[str, int]:
    values = struct.unpack_from(f"={len(data) // 8}Q", data)
    return dict(zip(STATISTICS, values, strict=False))


_BOND_MODE, _BOND_ACTIVE, _BOND_AD = 1, 2, 23
_AD_AGGREGATOR, _AD_PORTS, _AD_PARTNER = 1, 2, 5


def _bond(data: bytes) -> Bond:
    found = attributes(data)
    aggregate = attributes(found.get(_BOND_AD, b""))
    return Bond(
        _byte(found, _BOND_MODE),
        _word(found, _BOND_ACTIVE),
        _half(aggregate, _AD_AGGREGATOR),
        _half(aggregate, _AD_PORTS),
        aggregate.get(_AD_PARTNER, b"").hex(":"),
    )


_SLAVE_STATE, _SLAVE_MII, _SLAVE_FAILURES, _SLAVE_AGGREGATOR = 1, 2, 3, 6
_SLAVE_ACTOR, _SLAVE_PARTNER = 7, 8


def _slave(data: bytes) -> Slave:
    found = attributes(data)
    return Slave(
        active=_byte(found, _SLAVE_STATE) == 0,  # BOND_STATE_ACTIVE
        mii_up=_byte(found, _SLAVE_MII) in (0, 1),  # up, or about to fail
        failures=_word(found, _SLAVE_FAILURES),
        aggregator=_half(found, _SLAVE_AGGREGATOR),
        actor_state=_byte(found, _SLAVE_ACTOR),
        partner_state=_half(found, _SLAVE_PARTNER),
    )


def _byte(found: Mapping[int, bytes], kind: int) -> int:
    value = found.get(kind, b"")
    return value[0] if value else 0


def _half(found: Mapping[int, bytes], kind: int) -> int:
    return int.from_bytes(found.get(kind, b"")[:2], "little")


def _word(found: Mapping[int, bytes], kind: int, missing: int = 0) -> int:
    value = found.get(kind)
    return missing if value is None else int.from_bytes(value[:4], "little")
