"""Who is on this host: cgroup ids, blkio cgroup ids and network namespaces → their owner.

A cgroup belongs to the nearest cgroup above or at it that a runtime recognises as a container;
otherwise to its systemd unit; otherwise to itself. A known id costs one dict look-up. An unknown
one makes the hierarchy be scanned again, at most once in 100 ms; an id that a scan has not found
is of a cgroup that lived and died between two scans, and is not looked for again.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from huatuo.enrich.containers.base import Runtime
from huatuo.enrich.containers.containerd import Containerd
from huatuo.enrich.containers.docker import Docker
from huatuo.enrich.containers.machines import AnyFullId, Lxc, Nspawn
from huatuo.enrich.containers.netns import Netns
from huatuo.enrich.containers.oci import Crun, Runc
from huatuo.enrich.containers.owners import Owner, Owners
from huatuo.enrich.containers.podman import Podman
from huatuo.enrich.containers.units import UNATTRIBUTED, unknown
from huatuo.kernel.cgroupfs import Cgroup, hierarchies, identity_is_v1
from huatuo.kernel.host import Host
from huatuo.model.event import Container

__all__ = ["Inventory"]

_RESCAN_NS = 100_000_000
_RESCAN_DUTY = 20  # and no more than a twentieth of the time in scans, if that is shorter
_MISSING = 65536


class Inventory:
    """Everything is lazy: the first question scans, the blkio tree only if it is asked about."""

    def __init__(self, host: Host, runtimes: Iterable[Runtime] | None = None) -> None:
        self._host = host
        self._runtimes = list(_all(host) if runtimes is None else runtimes)
        mounted = hierarchies(host)
        identity = mounted.identity or host.sys / "fs/cgroup/none"
        block = mounted.controller("blkio") or identity
        self._identity = _Side(Owners(identity, self._runtimes))
        if block == identity:
            self._block = self._identity
        else:
            self._block = _Side(Owners(block, self._runtimes, self._identity.owners))
        controller = "memory" if identity_is_v1(host) else ""
        self._netns = Netns(host, controller, self._living_at)

    # ids → owners

    def owner(self, cgroup_id: int) -> Container:
        """Whoever owns the cgroup; always answers."""
        return self._resolve(self._identity, cgroup_id, fresh=False)

    def owner_of_blkcg(self, cgroup_id: int) -> Container:
        """The same for ids of the io (v1: blkio) controller's hierarchy."""
        return self._resolve(self._block, cgroup_id, fresh=False)

    def owners(
        self, ids: Iterable[int], *, block: bool = False, fresh: bool = False
    ) -> list[Container]:
        """The owner of each id. `fresh`: scan for unknown ids however recent the last scan is."""
        side = self._block if block else self._identity
        return [self._resolve(side, cgroup_id, fresh) for cgroup_id in ids]

    def has_forgotten(self, cgroup_id: int, *, block: bool = False) -> bool:
        """Whether the cgroup was known and has been gone for longer than we remember."""
        return (self._block if block else self._identity).owners.has_forgotten(cgroup_id)

    def owner_of_netns(self, inode: int) -> Container | None:
        """The only owner of processes in a network namespace; None for the host's own."""
        return self._netns.owner(inode)

    def is_host_netns(self, inode: int) -> bool:
        return self._netns.is_host(inode)

    def process_in_netns(self, inode: int) -> int:
        """Some process there, 0 if none is known or it is the host's own."""
        return 0 if self._netns.is_host(inode) else self._netns.process(inode)

    @property
    def epoch(self) -> tuple[int, int, int]:
        """Changes whenever an answer may have changed."""
        return self._identity.owners.epoch, self._block.owners.epoch, self._netns.epoch

    # lists

    def containers(self) -> list[Container]:
        """Owners that live or have been gone for less than ten minutes; containers first."""
        found = [owner.container for owner in self._identity.owners.all()]
        return sorted(
            (container for container in found if container.kind not in ("host", "slice")),
            key=lambda c: (c.kind != "container", bool(c.gone), c.namespace, c.pod, c.name),
        )

    def cgroups(self) -> list[Cgroup]:
        """One cgroup per owner, for readers of cgroup files; none lies inside another.

        Containers, outermost first: what runs inside a container counts for it. Units and user
        slices unless containers run below them. Of other cgroups those that have none below.
        """
        return [node.cgroup for node in self._identity.owners.outermost()]

    def refresh(self) -> None:
        """Look for what has come and gone; the agent calls it every interval."""
        self._scan(self._block if self._block.used else self._identity)
        self._netns.refresh()

    def look_again(self) -> None:
        """Something has come: scan now, unless a scan is so recent or so dear that it must wait."""
        if self._identity.may_scan(self._host.now_ns()):
            self._scan(self._identity)

    # how

    def _resolve(self, side: _Side, cgroup_id: int, fresh: bool) -> Container:
        owner = side.owners.find(cgroup_id)
        if owner is None and cgroup_id == 0:
            return UNATTRIBUTED
        if owner is None and cgroup_id not in side.missing:
            if not fresh and not side.may_scan(self._host.now_ns()):
                return unknown(cgroup_id)
            self._scan(side)
            owner = side.owners.find(cgroup_id)
            if owner is None:
                side.remember_missing(cgroup_id)
        return owner.container if owner else unknown(cgroup_id)

    def _scan(self, side: _Side) -> None:
        if side is not self._identity:
            self._scan(self._identity)  # which says whose a path is
        began_ns = self._host.now_ns()
        side.owners.refresh(began_ns, _rfc3339(began_ns + self._host.utc_offset_ns()))
        side.used = True
        side.scanned_ns = self._host.now_ns()
        side.took_ns = side.scanned_ns - began_ns

    def _living_at(self, path: str) -> Container | None:
        owner: Owner | None = self._identity.owners.at(path) if path else None
        return owner.container if owner else None


class _Side:
    """One hierarchy and when it was scanned."""

    def __init__(self, owners: Owners) -> None:
        self.owners = owners
        self.used = False
        self.scanned_ns = 0  # when the last scan ended, and how long it took
        self.took_ns = 0
        self.missing: dict[int, None] = {}  # ids that a scan has not found, oldest first

    def may_scan(self, now_ns: int) -> bool:
        pause_ns = min(_RESCAN_NS, self.took_ns * _RESCAN_DUTY)
        return not self.used or now_ns - self.scanned_ns >= pause_ns

    def remember_missing(self, cgroup_id: int) -> None:
        self.missing[cgroup_id] = None
        if len(self.missing) > _MISSING:
            del self.missing[next(iter(self.missing))]


def _all(host: Host) -> list[Runtime]:
    """In the order they are asked; the most telling first."""
    return [
        Docker(host),
        Podman(host),
        Containerd(host),
        Runc(host),
        Crun(host),
        Lxc(),
        Nspawn(),
        AnyFullId(),
    ]


def _rfc3339(utc_ns: int) -> str:
    return f"{np.datetime64(utc_ns, 'ns')}Z"
