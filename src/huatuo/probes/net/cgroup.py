"""Sockets and TCP trouble of containers that have a network namespace of their own."""

from __future__ import annotations

from collections.abc import Iterator

from huatuo.kernel import procfs
from huatuo.kernel.host import Host
from huatuo.kernel.netns import Namespace, namespaces, namespaces_readable
from huatuo.kernel.procfs import parse_headed, parse_pairs, parse_sockstat
from huatuo.probes.reader import Reader, Reading, counter, gauge

__all__ = ["NetCgroup"]

_C = "container"
_IN_USE = gauge("sockets_in_use", "sockets in use", _C, "protocol")
_TIME_WAIT = gauge("tcp_time_wait", "TCP connections in TIME_WAIT", _C)
_TCP = {
    ("snmp", "Tcp", "CurrEstab"): gauge("tcp_established", "established TCP connections", _C),
    ("snmp", "Tcp", "ActiveOpens"): counter("tcp_connects", "TCP connections begun", _C),
    ("snmp", "Tcp", "PassiveOpens"): counter("tcp_accepts", "TCP connections accepted", _C),
    ("snmp", "Tcp", "AttemptFails"): counter(
        "tcp_failed_connections", "TCP connections refused or timed out while opening", _C
    ),
    ("snmp", "Tcp", "OutSegs"): counter("tcp_sent_segments", "TCP segments sent", _C),
    ("snmp", "Tcp", "RetransSegs"): counter(
        "tcp_retransmitted_segments", "TCP segments sent again", _C
    ),
    ("snmp", "Tcp", "OutRsts"): counter("tcp_sent_resets", "TCP resets sent", _C),
    ("snmp", "Tcp", "EstabResets"): counter(
        "tcp_reset_connections", "open TCP connections that were reset", _C
    ),
    ("netstat", "TcpExt", "ListenDrops"): counter(
        "tcp_listen_drops", "connections dropped because nobody accepted them in time", _C
    ),
    ("netstat", "TcpExt", "TCPTimeouts"): counter("tcp_timeouts", "retransmission timeouts", _C),
    ("netstat", "TcpExt", "TCPOFOQueue"): counter(
        "tcp_out_of_order_segments", "TCP segments received before one that precedes them", _C
    ),
    ("netstat", "TcpExt", "TCPToZeroWindowAdv"): counter(
        "tcp_closed_windows", "times that TCP closed its window because nobody read", _C
    ),
}
_UDP = {  # of IPv4 and IPv6 together
    "InDatagrams": counter("udp_received_datagrams", "UDP datagrams received", _C),
    "OutDatagrams": counter("udp_sent_datagrams", "UDP datagrams sent", _C),
    "NoPorts": counter("udp_closed_port", "UDP datagrams to a port that is not open", _C),
    "RcvbufErrors": counter(
        "udp_receive_buffer_errors", "UDP datagrams dropped for a full socket buffer", _C
    ),
}
_PROTOCOLS = ("TCP", "UDP", "RAW")
_FILES = ("snmp", "snmp6", "netstat", "sockstat")


class NetCgroup(Reader):
    """TCP connections, retransmissions, resets, UDP and full queues per container, IPv4 and IPv6.

    Containers of one pod share a namespace, which is reported once, for the oldest of them.
    Containers in the host's namespace are in net.protocols and net.sockets.
    Reads: /proc/PID/net/snmp, snmp6, netstat, sockstat of one process per container
    (net/ipv4/proc.c, net/ipv6/proc.c).
    Cost: two reads and a stat per container, four more reads per namespace.
    """

    priority = 60

    @classmethod
    def unavailable(cls, host: Host) -> str:
        return namespaces_readable(host)

    @property
    def hooks(self) -> list[str]:
        return [f"{self.host.proc}/PID/net/{file}" for file in _FILES]

    def parts(self) -> Iterator[Iterator[Reading]]:
        for namespace in namespaces(self.host, self.targets()):
            yield self._protocols(namespace)
            yield self._sockets(namespace)

    def _protocols(self, namespace: Namespace) -> Iterator[Reading]:
        key = (namespace.cgroup.id,)
        files = {
            "snmp": parse_headed(procfs.read(namespace.net + "snmp"), "Tcp", "Udp"),
            "netstat": parse_headed(procfs.read(namespace.net + "netstat"), "TcpExt"),
        }
        for (file, group, name), family in _TCP.items():
            yield family, key, files[file][group][name]
        ipv6 = _ipv6(namespace.net + "snmp6")
        for name, family in _UDP.items():
            yield family, key, files["snmp"]["Udp"][name] + ipv6.get(f"Udp6{name}", 0)

    def _sockets(self, namespace: Namespace) -> Iterator[Reading]:
        sockstat = parse_sockstat(procfs.read(namespace.net + "sockstat"))
        for protocol in _PROTOCOLS:
            in_use = sockstat[protocol]["inuse"]
            yield _IN_USE, (namespace.cgroup.id, protocol.lower()), in_use
        yield _TIME_WAIT, (namespace.cgroup.id,), sockstat["TCP"]["tw"]


def _ipv6(path: str) -> dict[str, int]:
    try:
        return parse_pairs(procfs.read(path))
    except FileNotFoundError:
        return {}  # a kernel without IPv6
