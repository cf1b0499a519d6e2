"""Sockets in use and their memory, from /proc/net/sockstat."""

from __future__ import annotations

from collections.abc import Iterator

from huatuo.kernel.procfs import parse_sockstat
from huatuo.probes.reader import Reader, Reading, gauge

__all__ = ["Sockets"]

_USED = gauge("used", "sockets of all kinds")
_IN_USE = gauge("in_use", "sockets in use; TCP without TIME_WAIT", "protocol", "family")
_ORPHANS = gauge("tcp_orphans", "TCP sockets that no process holds any more")
_TIME_WAIT = gauge("tcp_time_wait", "TCP connections in TIME_WAIT")
_ALLOCATED = gauge("tcp_allocated", "TCP sockets allocated, in any state")
_MEMORY = gauge("memory_bytes", "memory of socket buffers, and of fragments", "protocol")
_PRESSURE = gauge("tcp_pressure_bytes", "TCP memory above which buffers shrink")
_LIMIT = gauge("tcp_limit_bytes", "TCP memory above which nothing more is accepted")
_FILES = ("proc/net/sockstat", "proc/net/sockstat6", "proc/sys/net/ipv4/tcp_mem")
_TCP = {"orphan": _ORPHANS, "tw": _TIME_WAIT, "alloc": _ALLOCATED}


class Sockets(Reader):
    """How many sockets there are, and how near TCP is to its memory limit.

    Orphans and TIME_WAIT grow with connections that are closed fast; memory_bytes of tcp above
    tcp_pressure_bytes makes every connection slower.
    Reads: /proc/net/sockstat and sockstat6 (net/ipv4/proc.c), tcp_mem in /proc/sys/net/ipv4.
    Cost: three reads.
    """

    priority = 70
    files = _FILES

    def parts(self) -> Iterator[Iterator[Reading]]:
        sockstat, sockstat6, tcp_mem = (self.paths[file] for file in _FILES)
        yield self._sockstat(sockstat, "ipv4")
        yield self._sockstat(sockstat6, "ipv6")
        yield self._tcp_memory(tcp_mem)

    def _sockstat(self, path: str, family: str) -> Iterator[Reading]:
        for name, values in parse_sockstat(self.optional(path)).items():
            protocol = name.removesuffix("6").lower()
            if protocol == "sockets":
                yield _USED, (), values["used"]
            if "inuse" in values:
                yield _IN_USE, (protocol, family), values["inuse"]
            if "mem" in values:
                yield _MEMORY, (protocol,), values["mem"] * self.host.page_size
            if "memory" in values:
                fragments = "frag" if family == "ipv4" else "frag6"
                yield _MEMORY, (fragments,), values["memory"]
            if protocol == "tcp" and family == "ipv4":
                for column, of_tcp in _TCP.items():
                    yield of_tcp, (), values[column]

    def _tcp_memory(self, path: str) -> Iterator[Reading]:
        _, pressure, limit = map(int, self.text(path).split())
        yield _PRESSURE, (), pressure * self.host.page_size
        yield _LIMIT, (), limit * self.host.page_size
