"""Counters of the Internet protocols, from /proc/net/snmp, netstat and snmp6."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

from huatuo.kernel.procfs import parse_headed, parse_pairs
from huatuo.probes.reader import Family, Key, Reader, Reading, counter, gauge

__all__ = ["Protocols"]

_V4, _V6 = "ipv4", "ipv6"
_RECEIVE, _TRANSMIT = "receive", "transmit"

_IP_PACKETS = counter("ip_packets", "IP packets received and sent", "family", "direction")
_IP_BYTES = counter("ip_bytes", "bytes in IP packets", "family", "direction")
_IP_CAST_BYTES = counter(
    "ip_group_bytes", "bytes in multicast and broadcast packets", "family", "direction", "cast"
)
_IP_FORWARDED = counter("ip_forwarded_packets", "IP packets forwarded", "family")
_IP_DISCARDED = counter(
    "ip_discarded_packets", "IP packets dropped for want of memory", "family", "direction"
)
_IP_NO_ROUTE = counter("ip_unroutable_packets", "IP packets sent without a route", "family")
_IP_REASSEMBLY = counter("ip_failed_reassemblies", "packets with lost fragments", "family")
_ICMP = counter("icmp_messages", "ICMP messages received and sent", "family", "direction")
_UDP = counter("udp_datagrams", "UDP datagrams received and sent", "family", "direction")
_UDP_NO_PORT = counter("udp_closed_port", "UDP datagrams to a port that is not open", "family")
_UDP_ERRORS = counter("udp_receive_errors", "UDP datagrams that could not be received", "family")
_UDP_BUFFER = counter(
    "udp_buffer_errors", "UDP datagrams dropped for a full socket buffer", "family", "direction"
)
_TCP_OPENED = counter(
    "tcp_opened_connections", "TCP connections begun (active) and accepted (passive)", "side"
)
_TCP_SEGMENTS = counter("tcp_segments", "TCP segments received and sent", "direction")
_TCP_LISTEN = counter(
    "tcp_listen_drops", "connections dropped at a listening socket, for any reason"
)
_TCP_ABORTS = counter("tcp_aborts", "connections ended by this host with a reset", "reason")

_Named = Mapping[str, tuple[Family, Key]]


def _both(name: str, family: Family, *key: str) -> _Named:
    """The same counter of IPv4 and IPv6: Ip.InReceives and Ip6.InReceives."""
    group, _, rest = name.partition(".")
    return {
        f"{group}.{rest}": (family, (_V4, *key)),
        f"{group}6.{rest}": (family, (_V6, *key)),
    }


def _one(name: str, family: str, help: str) -> _Named:
    return {name: (counter(family, help), ())}


_NAMED: _Named = dict(
    chain.from_iterable(
        table.items()
        for table in (
            _both("Ip.InReceives", _IP_PACKETS, _RECEIVE),
            _both("Ip.OutRequests", _IP_PACKETS, _TRANSMIT),
            _both("Ip.InDiscards", _IP_DISCARDED, _RECEIVE),
            _both("Ip.OutDiscards", _IP_DISCARDED, _TRANSMIT),
            _both("Ip.OutNoRoutes", _IP_NO_ROUTE),
            _both("Ip.ReasmFails", _IP_REASSEMBLY),
            _both("Icmp.InMsgs", _ICMP, _RECEIVE),
            _both("Icmp.OutMsgs", _ICMP, _TRANSMIT),
            _both("Udp.InDatagrams", _UDP, _RECEIVE),
            _both("Udp.OutDatagrams", _UDP, _TRANSMIT),
            _both("Udp.NoPorts", _UDP_NO_PORT),
            _both("Udp.InErrors", _UDP_ERRORS),
            _both("Udp.RcvbufErrors", _UDP_BUFFER, _RECEIVE),
            _both("Udp.SndbufErrors", _UDP_BUFFER, _TRANSMIT),
            _one("Tcp.AttemptFails", "tcp_failed_connections", "TCP connections that never opened"),
            _one(
                "Tcp.EstabResets", "tcp_reset_connections", "open TCP connections that were reset"
            ),
            _one("Tcp.RetransSegs", "tcp_retransmitted_segments", "TCP segments sent again"),
            _one("Tcp.InErrs", "tcp_receive_errors", "TCP segments with errors"),
            _one("Tcp.OutRsts", "tcp_sent_resets", "TCP resets sent"),
            _one("TcpExt.TCPTimeouts", "tcp_timeouts", "TCP retransmission timeouts"),
            _one("TcpExt.TCPSynRetrans", "tcp_syn_retransmits", "TCP SYN and SYN-ACK sent again"),
            _one("TcpExt.TCPFastRetrans", "tcp_fast_retransmits", "TCP fast retransmits"),
            _one(
                "TcpExt.ListenOverflows",
                "tcp_listen_overflows",
                "connections dropped because the accept queue was full",
            ),
            _one(
                "TcpExt.TCPBacklogDrop",
                "tcp_backlog_drops",
                "TCP segments dropped because the socket was busy and its backlog full",
            ),
            _one(
                "TcpExt.TCPRcvQDrop",
                "tcp_receive_queue_drops",
                "TCP segments dropped because the socket's receive queue was full",
            ),
            _one(
                "TcpExt.TCPOFOQueue",
                "tcp_out_of_order_segments",
                "TCP segments received before one that precedes them",
            ),
            _one(
                "TcpExt.TCPToZeroWindowAdv",
                "tcp_closed_windows",
                "times that TCP closed its window because nobody read",
            ),
            _one(
                "TcpExt.TCPMemoryPressures",
                "tcp_memory_pressures",
                "times that TCP came into memory pressure",
            ),
        )
    )
) | {
    "Ip.ForwDatagrams": (_IP_FORWARDED, (_V4,)),
    "Ip6.OutForwDatagrams": (_IP_FORWARDED, (_V6,)),
    "Tcp.CurrEstab": (gauge("tcp_established", "TCP connections that are open"), ()),
    "MPTcpExt.MPCurrEstab": (gauge("mptcp_established", "MPTCP connections that are open"), ()),
    "Tcp.ActiveOpens": (_TCP_OPENED, ("active",)),
    "Tcp.PassiveOpens": (_TCP_OPENED, ("passive",)),
    "Tcp.InSegs": (_TCP_SEGMENTS, (_RECEIVE,)),
    "Tcp.OutSegs": (_TCP_SEGMENTS, (_TRANSMIT,)),
    "TcpExt.ListenDrops": (_TCP_LISTEN, ()),
    **{
        f"TcpExt.TCPAbortOn{reason}": (_TCP_ABORTS, (reason.lower(),))
        for reason in ("Data", "Close", "Memory", "Timeout", "Linger")
    },
    "TcpExt.TCPAbortFailed": (_TCP_ABORTS, ("failed",)),
    **{
        f"{group}.{way}{cast}Octets": (
            (_IP_CAST_BYTES, (family, direction, label))
            if label
            else (_IP_BYTES, (family, direction))
        )
        for group, family in (("IpExt", _V4), ("Ip6", _V6))
        for way, direction in (("In", _RECEIVE), ("Out", _TRANSMIT))
        for cast, label in (("", ""), ("Mcast", "multicast"), ("Bcast", "broadcast"))
    },
}
_PRESSURE_SECONDS = counter("tcp_memory_pressure_seconds", "time that TCP was in memory pressure")
_CONSTANTS = {
    "Ip.Forwarding",
    "Ip.DefaultTTL",
    "Tcp.RtoAlgorithm",
    "Tcp.RtoMin",
    "Tcp.RtoMax",
    "Tcp.MaxConn",
}
_EVENTS = counter(
    "events", "further events that happened since boot, named as in the file", "protocol", "event"
)
_GROUPS = ("Icmp6", "UdpLite6", "Udp6", "Ip6", "Xfrm", "Tls")


class _Place(NamedTuple):
    family: Family
    key: Key
    scale: float
    always: bool


class Protocols(Reader):
    """What IP, ICMP, UDP and TCP counted: traffic, retransmissions, drops, resets, aborts.

    Retransmissions against segments sent is the loss that TCP sees; listen overflows mean a
    program that accepts too slowly. Everything else in the files is in events_total, and what IPsec
    (Xfrm) and TLS in the kernel count.
    Reads: /proc/net/snmp, netstat, snmp6, xfrm_stat and tls_stat of the host's namespace
    (net/ipv4/proc.c, net/ipv6/proc.c, net/xfrm/xfrm_proc.c, net/tls/tls_proc.c).
    Cost: five reads, for which the kernel sums its per-CPU counts. Further events that never
    happened since boot have no series.
    """

    priority = 70
    files = (
        "proc/net/snmp",
        "proc/net/netstat",
        "proc/net/snmp6",
        "proc/net/xfrm_stat",
        "proc/net/tls_stat",
    )

    def parts(self) -> Iterator[Iterator[Reading]]:
        yield self._headed(self.paths["proc/net/snmp"])
        yield self._headed(self.paths["proc/net/netstat"])
        yield self._pairs(self.text(self.paths["proc/net/snmp6"]))
        yield self._pairs(self.optional(self.paths["proc/net/xfrm_stat"]))
        yield self._pairs(self.optional(self.paths["proc/net/tls_stat"]))

    def _headed(self, path: str) -> Iterator[Reading]:
        for protocol, counts in parse_headed(self.text(path)).items():
            for event, count in counts.items():
                place = _place(protocol, event)
                if place and (count or place.always):
                    yield place.family, place.key, count * place.scale

    def _pairs(self, text: str) -> Iterator[Reading]:
        for name, count in parse_pairs(text).items():
            place = _place_of(name)
            if place and (count or place.always):
                yield place.family, place.key, count * place.scale


@lru_cache(maxsize=4096)
def _place(protocol: str, event: str) -> _Place | None:
    """Where a counter goes, and whether it does so while it is 0, too; None if nowhere."""
    name = f"{protocol}.{event}"
    if named := _NAMED.get(name):
        return _Place(*named, 1.0, always=True)
    if name == "TcpExt.TCPMemoryPressuresChrono":  # milliseconds
        return _Place(_PRESSURE_SECONDS, (), 1e-3, always=True)
    if name in _CONSTANTS:
        return None
    return _Place(_EVENTS, (protocol, event), 1.0, always=False)


@lru_cache(maxsize=4096)
def _place_of(name: str) -> _Place | None:
    """Ip6InReceives → Ip6, InReceives. TlsCurr… are no counters, and nobody misses them."""
    protocol = next((group for group in _GROUPS if name.startswith(group)), "")
    return None if name.startswith("TlsCurr") else _place(protocol, name.removeprefix(protocol))
