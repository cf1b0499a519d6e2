"""Traffic of containers that have a network namespace of their own."""

from __future__ import annotations

from collections.abc import Iterator

from huatuo.kernel import procfs
from huatuo.kernel.host import Host
from huatuo.kernel.netns import Namespace, namespaces, namespaces_readable
from huatuo.kernel.procfs import parse_netdev
from huatuo.probes.reader import Reader, Reading, counter

__all__ = ["NetdevCgroup"]

_LABELS = ("container", "device", "direction")
_FAMILIES = (
    counter("bytes", "bytes received and transmitted by the container", *_LABELS),
    counter("packets", "packets received and transmitted by the container", *_LABELS),
    counter("errors", "packets with errors", *_LABELS),
    counter("dropped_packets", "packets dropped by the container's device", *_LABELS),
)
_DIRECTIONS = (("receive", 0), ("transmit", 8))  # first column in /proc/net/dev


class NetdevCgroup(Reader):
    """Bytes, packets, errors and drops per container and device, as the container sees them.

    Containers of one pod share a namespace, which is reported once, for the oldest of them.
    Containers in the host's namespace are in netdev.stats.
    Reads: /proc/PID/net/dev of one process per container (net/core/net-procfs.c).
    Cost: two reads and a stat per container, one more read per namespace.
    """

    priority = 70

    @classmethod
    def unavailable(cls, host: Host) -> str:
        return namespaces_readable(host)

    @property
    def hooks(self) -> list[str]:
        return [f"{self.host.proc}/PID/net/dev"]

    def parts(self) -> Iterator[Iterator[Reading]]:
        for namespace in namespaces(self.host, self.targets()):
            yield self._devices(namespace)

    def _devices(self, namespace: Namespace) -> Iterator[Reading]:
        for device, row in parse_netdev(procfs.read(namespace.net + "dev")).items():
            if device == "lo" or not any(row):
                continue
            for direction, first in _DIRECTIONS:
                for column, family in enumerate(_FAMILIES, first):
                    yield family, (namespace.cgroup.id, device, direction), row[column]
