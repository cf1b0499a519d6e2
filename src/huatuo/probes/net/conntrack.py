"""The connection tracking table, from /proc/sys/net/netfilter and /proc/net/stat/nf_conntrack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from huatuo.kernel import procfs
from huatuo.kernel.cgroupfs import root_id
from huatuo.kernel.host import Host
from huatuo.kernel.netns import Namespace, namespaces, namespaces_readable
from huatuo.kernel.procfs import parse_per_cpu
from huatuo.probes.reader import Reading, counter, gauge
from huatuo.probes.watcher import Watcher, named, notice

__all__ = ["Conntrack"]

_ENTRIES = gauge("entries", "connections in the table")
_LIMIT = gauge("limit_entries", "connections that the table may hold")
_EVENTS = counter("events", "what happened in the table, as the kernel names it", "event")
_OF_CONTAINER = gauge(
    "container_entries",
    "connections in the container's own table; same limit",
    "container",
)
_DROPS = counter(
    "container_dropped_packets", "packets dropped by the container's own table", "container"
)
_FILES = (
    "proc/sys/net/netfilter/nf_conntrack_count",
    "proc/sys/net/netfilter/nf_conntrack_max",
    "proc/net/stat/nf_conntrack",
)
# columns that are still counted; drop and insert_failed lose packets
_COUNTED = (
    "found",
    "invalid",
    "insert_failed",
    "drop",
    "early_drop",
    "icmp_error",
    "search_restart",
    "clashres",
    "chaintoolong",
)
_NEARLY = 0.9  # of the limit: a drop is because the table is full


class Conntrack(Watcher):
    """How full the connection tracking table is, and the packets lost because of it.

    A full table drops the first packet of new connections, which looks like a network problem: an
    event, of the host within a second, of a container with its own network namespace within an
    interval.
    Reads: nf_conntrack_count and _max in /proc/sys/net/netfilter, /proc/net/stat/nf_conntrack
    (net/netfilter/nf_conntrack_standalone.c), that of the host and of one process per container.
    Kernels: with CONFIG_NF_CONNTRACK, loaded.
    Cost: one read per drain, three per interval, and three per container.
    """

    priority = 60
    files = _FILES
    without = "connection tracking is not loaded"
    ring: ClassVar[str] = "conntrack_drops"
    titles: ClassVar[Mapping[str, str]] = {
        "conntrack_drops": "connection tracking dropped {packets} packets ({cause}): "
        "{entries} of {limit} connections"
    }
    schema = notice(
        "conntrack_drop",
        ("cgroup", "cgroup_id_t", "container whose table it is"),
        named("cause", ("table_full", "other"), "why"),
        ("packets", "count_t", "packets dropped since it was last looked at"),
        ("entries", "count_t", "connections in the table now"),
        ("limit", "count_t", "connections that the table may hold"),
    )

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self._drops: dict[int, int] = {}  # cgroup id, 0 for the host → packets dropped so far

    def watch(self) -> None:
        self._look(0, parse_per_cpu(self.text(self.paths[_FILES[2]])))

    def parts(self) -> Iterator[Iterator[Reading]]:
        yield self._table()
        yield self._statistics()
        if not namespaces_readable(self.host):
            for namespace in namespaces(self.host, self.targets()):
                yield self._container(namespace)

    def _limit(self) -> int:
        return int(self.text(self.paths[_FILES[1]]))

    def _table(self) -> Iterator[Reading]:
        yield _ENTRIES, (), int(self.text(self.paths[_FILES[0]]))
        yield _LIMIT, (), self._limit()

    def _statistics(self) -> Iterator[Reading]:
        for name, values in parse_per_cpu(self.text(self.paths[_FILES[2]])).items():
            if name in _COUNTED:
                yield _EVENTS, (name,), sum(values)

    def _container(self, namespace: Namespace) -> Iterator[Reading]:
        found = parse_per_cpu(procfs.read(namespace.net + "stat/nf_conntrack"))
        self._look(namespace.cgroup.id, found)
        yield _OF_CONTAINER, (namespace.cgroup.id,), found["entries"][0]
        yield _DROPS, (namespace.cgroup.id,), sum(found["drop"])

    def _look(self, cgroup: int, found: Mapping[str, list[int]]) -> None:
        drops, entries = sum(found["drop"]), found["entries"][0]
        before = self._drops.get(cgroup, drops)
        self._drops[cgroup] = drops
        if drops > before and self.is_started:
            limit = self._limit()
            cause = "table_full" if entries >= limit * _NEARLY else "other"
            owner = cgroup or root_id(self.host)
            self.notices.add(
                cgroup=owner, cause=cause, packets=drops - before, entries=entries, limit=limit
            )
