"""The connection tracking table, from /proc/sys/net/netfilter and /proc/net/stat/nf_conntrack."""

from __future__ import annotations

from collections.abc import Iterator

from huatuo.probes.reader import Reader, Reading, counter, gauge

__all__ = ["Conntrack"]

_ENTRIES = gauge("entries", "connections in the table")
_LIMIT = gauge("limit_entries", "connections that the table may hold")
_EVENTS = counter("events", "what happened in the table, as the kernel names it", "event")
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


class Conntrack(Reader):
    """How full the connection tracking table is, and the packets lost because of it.

    A full table drops the first packet of new connections, which looks like a network problem.
    Reads: nf_conntrack_count and _max in /proc/sys/net/netfilter, /proc/net/stat/nf_conntrack
    (net/netfilter/nf_conntrack_standalone.c).
    Kernels: with CONFIG_NF_CONNTRACK, loaded.
    Cost: three reads.
    """

    priority = 60
    files = _FILES
    without = "connection tracking is not loaded"

    def parts(self) -> Iterator[Iterator[Reading]]:
        entries, limit, statistics = (self.paths[file] for file in _FILES)
        yield self._table(entries, limit)
        yield self._statistics(statistics)

    def _table(self, entries: str, limit: str) -> Iterator[Reading]:
        yield _ENTRIES, (), int(self.text(entries))
        yield _LIMIT, (), int(self.text(limit))

    def _statistics(self, path: str) -> Iterator[Reading]:
        head, *cpus = self.text(path).splitlines()
        names = head.split()
        rows = [[int(word, 16) for word in line.split()] for line in cpus]
        for name, values in zip(names, zip(*rows, strict=True), strict=True):
            if name in _COUNTED:
                yield _EVENTS, (name,), sum(values)
