"""The receive queue of each CPU, from /proc/net/softnet_stat."""

from __future__ import annotations

from collections.abc import Iterator

from huatuo.probes.reader import Reader, Reading, counter, gauge

__all__ = ["Softnet"]

_COLUMNS = {
    0: counter("processed_packets", "packets taken from the receive queues", "cpu"),
    1: counter("dropped_packets", "packets dropped because the CPU's backlog was full", "cpu"),
    2: counter("squeezes", "times that work was left when budget or time was used up", "cpu"),
    9: counter("steered_packets", "packets handed over by other CPUs (RPS)", "cpu"),
    10: counter("flow_limited_packets", "packets dropped by the flow limit", "cpu"),
    11: gauge("backlog_packets", "packets that wait in the CPU's backlog", "cpu"),
}
_CPU = 12


class Softnet(Reader):
    """Whether the CPUs keep up with received packets.

    Drops say that net.core.netdev_max_backlog is too small or one CPU does all the work, squeezes
    that NET_RX runs out of its time slice.
    Reads: /proc/net/softnet_stat (net/core/net-procfs.c).
    Kernels: backlog and CPU number since commit 7d58e6555870 ("net-sysfs: add backlog len and CPU
    id to softnet data"), v5.10; before, lines are numbered.
    Cost: one read.
    """

    priority = 70
    files = ("proc/net/softnet_stat",)

    def parts(self) -> Iterator[Iterator[Reading]]:
        yield self._softnet()

    def _softnet(self) -> Iterator[Reading]:
        lines = self.text(self.paths["proc/net/softnet_stat"]).splitlines()
        for number, line in enumerate(lines):
            row = [int(word, 16) for word in line.split()]
            cpu = str(row[_CPU] if len(row) > _CPU else number)
            for column, family in _COLUMNS.items():
                if column < len(row):
                    yield family, (cpu,), row[column]
