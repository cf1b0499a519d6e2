"""Listening TCP sockets whose queue is full: nobody accepts the connections in time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from huatuo.kernel import procfs
from huatuo.kernel.cgroupfs import identity_is_v1, root_id
from huatuo.kernel.host import Host
from huatuo.kernel.inet_diag import Listener, listeners
from huatuo.kernel.netns import in_host_netns, in_netns, namespaces, namespaces_readable
from huatuo.kernel.procfs import parse_headed
from huatuo.probes.net.flow import local
from huatuo.probes.reader import Reading, counter, gauge
from huatuo.probes.watcher import Watcher, notice

__all__ = ["Listen"]

_C = "container"
_OVERFLOWS = counter("overflows", "connections refused because the accept queue was full", _C)
_FULLEST = gauge(
    "fullest_ratio", "of the container's listening sockets the fullest, of its limit", _C
)


class Listen(Watcher):
    """Listening sockets that had to refuse connections because nobody accepted them in time.

    Clients see such a connection as slow, since they try again after a second, or as timed out.
    The kernel counts overflows per network namespace; when that count rises, all listening sockets
    there are looked at to find the one that refused. In the host's namespace that is within a
    second, in a container's within an interval.

    Reads: ListenOverflows in /proc/PID/net/netstat, of the host and of one process per container;
    sock_diag (net/ipv4/inet_diag.c).
    Kernels: containers in the host's namespace are told apart since 5.8, on cgroup v2.
    Cost: one read per drain; a dump of the listening sockets per namespace and interval.
    """

    priority = 75
    files = ("proc/net/netstat",)
    ring: ClassVar[str] = "listen_overflows"
    titles: ClassVar[Mapping[str, str]] = {"listen_overflows": "a listening socket overflowed"}
    schema = notice(
        "listen_overflow",
        ("cgroup", "cgroup_id_t", "container of the socket"),
        ("local_address", "ip_address_t", "where it listens"),
        ("local_port", "port", "where it listens"),
        ("refused", "count_t", "connections refused since it was last looked at"),
        ("waiting", "count_t", "connections that wait to be accepted now"),
        ("limit", "count_t", "connections that may wait: the smaller of backlog and somaxconn"),
    )

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self._overflows: dict[int, int] = {}  # cgroup of the namespace → ListenOverflows
        self._drops: dict[tuple[int, int], int] = {}  # and cookie of the socket → its drops
        self._host_id = 0  # whatever is in the host's namespace
        self._knows_cgroups = False

    @property
    def hooks(self) -> list[str]:
        return [*super().hooks, "sock_diag"]

    def start(self) -> None:
        super().start()
        self._host_id = root_id(self.host)
        self._knows_cgroups = not identity_is_v1(self.host)
        self._overflows[self._host_id] = self._count(self.paths[self.files[0]])
        self._remember(self._host_id, in_host_netns(self.host, listeners))

    def watch(self) -> None:
        """The host's namespace."""
        count = self._count(self.paths[self.files[0]])
        if count > self._overflows.get(self._host_id, count):
            self._report(self._host_id, in_host_netns(self.host, listeners))
        self._overflows[self._host_id] = count

    def _count(self, path: str) -> int:
        return parse_headed(procfs.read(path), "TcpExt")["TcpExt"]["ListenOverflows"]

    def _report(self, cgroup: int, found: list[Listener]) -> None:
        for each in found:
            refused = each.drops - self._drops.get((cgroup, each.cookie), 0)
            if refused > 0:
                self.notices.add(
                    cgroup=self._owner(cgroup, each),
                    local_address=each.address,
                    local_port=each.port,
                    refused=refused,
                    waiting=each.waiting,
                    limit=each.limit,
                )
        self._remember(cgroup, found)

    def _remember(self, cgroup: int, found: list[Listener]) -> None:
        for key in [key for key in self._drops if key[0] == cgroup]:
            del self._drops[key]
        self._drops |= {(cgroup, each.cookie): each.drops for each in found}

    def _owner(self, cgroup: int, listener: Listener) -> int:
        return listener.cgroup if self._knows_cgroups and listener.cgroup else cgroup

    def parts(self) -> Iterator[Iterator[Reading]]:
        yield self._namespace(self._host_id, self.paths[self.files[0]], "")
        if not namespaces_readable(self.host):
            for each in namespaces(self.host, self.targets()):
                path = each.net.removesuffix("net/") + "ns/net"
                yield self._namespace(each.cgroup.id, each.net + "netstat", path)

    def _namespace(self, cgroup: int, counts: str, path: str) -> Iterator[Reading]:
        count = self._count(counts)
        found = in_netns(path, listeners) if path else in_host_netns(self.host, listeners)
        if self.is_started and count > self._overflows.get(cgroup, count):
            self._report(cgroup, found)
        elif cgroup not in self._overflows:
            self._remember(cgroup, found)
        self._overflows[cgroup] = count
        yield _OVERFLOWS, (cgroup,), count
        fullest: dict[int, float] = {}
        for each in found:
            owner = self._owner(cgroup, each)
            filled = each.waiting / (each.limit + 1)
            fullest[owner] = max(fullest.get(owner, 0.0), filled)
        for owner, ratio in fullest.items():
            yield _FULLEST, (owner,), ratio

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        waiting, limit = fields["waiting"], fields["limit"]
        return (
            f"TCP {local(fields)} refused {fields['refused']} connections: "
            f"{waiting} wait to be accepted, {limit} may"
        )
