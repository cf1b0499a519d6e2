"""The neighbour tables (ARP and IPv6 neighbour discovery), from /proc/net/stat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from huatuo.kernel import procfs
from huatuo.kernel.host import Host
from huatuo.kernel.netns import Namespace, namespaces, namespaces_readable
from huatuo.kernel.procfs import parse_per_cpu
from huatuo.probes.reader import Reading, counter, gauge
from huatuo.probes.watcher import Watcher, named, notice

__all__ = ["Neighbour"]

_ENTRIES = gauge("entries", "neighbours in the table, of all namespaces", "family")
_LIMIT = gauge("limit_entries", "neighbours that the table may hold (gc_thresh3)", "family")
_EVENTS = counter("events", "what happened in the table, as the kernel names it", "family", "event")
_OF_CONTAINER = gauge("container_arp_entries", "neighbours that the container has", "container")
_TABLES = {  # family → statistics, and limit
    "ipv4": ("proc/net/stat/arp_cache", "proc/sys/net/ipv4/neigh/default/gc_thresh3"),
    "ipv6": ("proc/net/stat/ndisc_cache", "proc/sys/net/ipv6/neigh/default/gc_thresh3"),
}
_COUNTED = (
    "allocs",
    "destroys",
    "res_failed",
    "forced_gc_runs",
    "unresolved_discards",
    "table_fulls",
)


class Neighbour(Watcher):
    """How full the neighbour tables are, and the neighbours that did not fit.

    A full table makes hosts in the same network unreachable while others still are: an event. One
    table serves all network namespaces. unresolved_discards are packets dropped because their
    neighbour did not answer in time; net.drop has them with reason neigh_failed or neigh_queuefull.
    Reads: arp_cache and ndisc_cache in /proc/net/stat (net/core/neighbour.c), gc_thresh3 in
    /proc/sys/net/ipv*/neigh/default, /proc/PID/net/arp of one process per container.
    Cost: two reads per drain, two more per interval, and three per container.
    """

    priority = 60
    files = tuple(file for files in _TABLES.values() for file in files)
    ring: ClassVar[str] = "table_overflows"
    titles: ClassVar[Mapping[str, str]] = {
        "table_overflows": "the {family} neighbour table is full: {entries} of {limit} entries, "
        "{refused} were refused"
    }
    schema = notice(
        "table_overflow",
        named("family", list(_TABLES), "which table"),
        ("refused", "count_t", "neighbours that did not fit since it was last looked at"),
        ("entries", "count_t", "neighbours in the table now"),
        ("limit", "count_t", "neighbours that the table may hold (gc_thresh3)"),
    )

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self._fulls: dict[str, int] = {}

    def watch(self) -> None:
        for family, (file, limit) in _TABLES.items():
            statistics = self.optional(self.paths[file])
            if statistics:
                self._look(family, parse_per_cpu(statistics), limit)

    def _look(self, family: str, found: Mapping[str, list[int]], limit: str) -> None:
        fulls = sum(found["table_fulls"])
        before = self._fulls.get(family, fulls)
        self._fulls[family] = fulls
        if fulls > before:
            self.notices.add(
                family=family,
                refused=fulls - before,
                entries=found["entries"][0],
                limit=int(self.text(self.paths[limit])),
            )

    def parts(self) -> Iterator[Iterator[Reading]]:
        for family, (file, limit) in _TABLES.items():
            yield self._table(family, file, limit)
        if not namespaces_readable(self.host):
            for namespace in namespaces(self.host, self.targets()):
                yield self._container(namespace)

    def _table(self, family: str, file: str, limit: str) -> Iterator[Reading]:
        statistics = self.optional(self.paths[file])
        if not statistics:
            return  # no IPv6
        found = parse_per_cpu(statistics)
        yield _ENTRIES, (family,), found["entries"][0]
        yield _LIMIT, (family,), int(self.text(self.paths[limit]))
        for name in _COUNTED:
            yield _EVENTS, (family, name), sum(found[name])

    def _container(self, namespace: Namespace) -> Iterator[Reading]:
        lines = procfs.read(namespace.net + "arp").count("\n")
        yield _OF_CONTAINER, (namespace.cgroup.id,), max(lines - 1, 0)  # without the head
