"""Who is on this host: cgroup ids, blkio cgroup ids and network namespaces → their owner.

A cgroup belongs to the nearest cgroup above or at it that a runtime recognises as a container;
otherwise to its systemd unit; otherwise to itself. A known id costs one dict look-up.

Cgroups are known as soon as they are made where the kernel tells (`follow`). Elsewhere an unknown
id makes the hierarchy be scanned again, at most once in 100 ms. An id that is not found then is of
a cgroup that lived and died before anybody looked, and is not looked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from huatuo.enrich.containers.base import Kept, Runtime
from huatuo.enrich.containers.describing import Describing
from huatuo.enrich.containers.nested import Nested
from huatuo.enrich.containers.netns import Netns
from huatuo.enrich.containers.owner import Owner
from huatuo.enrich.containers.owners import Owners
from huatuo.enrich.containers.runtimes import nested_runtimes, runtimes_of
from huatuo.enrich.containers.units import UNATTRIBUTED, unknown
from huatuo.kernel.cgroup_events import CgroupEvents
from huatuo.kernel.cgroupfs import Cgroup, hierarchies, identity_is_v1
from huatuo.kernel.host import Host
from huatuo.model.event import Container
from huatuo.settings import ContainerSettings

__all__ = ["Inventory"]

_RESCAN_NS = 100_000_000
_RESCAN_DUTY = 20  # and no more than a twentieth of the time in scans, if that is shorter
_SCAN_ALL_THE_SAME_NS = 60_000_000_000  # although the kernel tells of every change
_DECLARED_NS = (100_000_000, 300_000_000, 1_000_000_000)  # runc writes state after the cgroup
_MISSING = 65536


class Inventory:
    """Everything is lazy: the first question scans, the blkio tree only if it is asked about.

    `answers` is what daemons say (sources/), beside what is on disk.
    """

    def __init__(
        self,
        host: Host,
        runtimes: Iterable[Runtime] | None = None,
        kept: Kept | None = None,
        answers: Runtime | None = None,
    ) -> None:
        self._host = host
        kept = kept or Kept(ContainerSettings().labels)
        found = [answers] if answers else []
        found += runtimes_of(host, kept) if runtimes is None else runtimes
        mounted = hierarchies(host)
        identity = mounted.identity or host.sys / "fs/cgroup/none"
        block = mounted.controller("blkio") or identity
        nested = Nested(host, str(identity), lambda state: nested_runtimes(state, kept))
        self._describing = Describing(host, found, nested)
        self._identity = _Side(Owners(identity, found, self._describing))
        if block == identity:
            self._block = self._identity
        else:
            follows = self._identity.owners
            self._block = _Side(Owners(block, found, self._describing, follows))
        controller = "memory" if identity_is_v1(host) else ""
        self._netns = Netns(host, controller, self._living_at)
        self._events: CgroupEvents | None = None
        self._stale = False  # changes were lost: a scan is due
        self._looks: list[int] = []  # when to look for declarations again, soonest first

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

    def host_netns(self) -> int:
        """The inode of the host's network namespace, 0 if it cannot be read."""
        return self._netns.host()

    def process_in_netns(self, inode: int) -> int:
        """Some process there, 0 if none is known or it is the host's own."""
        return 0 if self._netns.is_host(inode) else self._netns.process(inode)

    @property
    def epoch(self) -> tuple[int, ...]:
        """Changes whenever an answer may have changed."""
        sides = self._identity.owners.epoch, self._block.owners.epoch
        return (*sides, self._describing.epoch, self._netns.epoch)

    # lists

    def containers(self) -> list[Container]:
        """Owners that live or have been gone for less than ten minutes; containers first."""
        found = [owner.container for owner in self._identity.owners.all()]
        return sorted(
            (container for container in found if container.kind not in ("host", "slice")),
            key=lambda c: (c.kind != "container", bool(c.gone), c.namespace, c.pod, c.name),
        )

    def named(self, name: str) -> Container | None:
        """An owner by its full name; one that lives, if there is one."""
        found = (owner.container for owner in self._identity.owners.all())
        same = sorted((c for c in found if c.full_name == name), key=lambda c: bool(c.gone))
        return same[0] if same else None

    def living(self, *, block: bool = False) -> list[tuple[int, Container]]:
        """The id of every living cgroup and whose it is."""
        side = self._block if block else self._identity
        if not side.used:
            self._scan(side)
        return side.owners.living()

    def cgroups(self) -> list[Cgroup]:
        """One cgroup per owner, for readers of cgroup files; none lies inside another.

        Containers, outermost first: what runs inside a container counts for it. Units and user
        slices unless containers run below them. Of other cgroups those that have none below.
        """
        return [node.cgroup for node in self._identity.owners.outermost()]

    # what comes and goes

    def follow(self, events: CgroupEvents) -> None:
        """Be told of changes from now on, instead of looking for them."""
        self._events = events
        self._scan(self._identity)  # what was there before

    def refresh(self) -> None:
        """Look for what has come and gone; the agent calls it every interval."""
        now_ns = self._host.now_ns()
        side = self._sides()[-1]
        if self._events is None or now_ns - side.scanned_ns >= _SCAN_ALL_THE_SAME_NS:
            self._scan(side)
        else:
            self._take_events()
        self._describing.retry(now_ns)
        self._describing.look_again()
        self._netns.refresh()

    def look_again(self) -> float:
        """Something has come: take notice of it, unless that takes a scan that must wait.

        Returns after how many seconds there is something to do again; 0 if only when more comes.
        """
        if self._events is not None:
            self._take_events()
        elif self._identity.may_scan(self._host.now_ns()):
            self._scan(self._identity)
        now_ns, utc = self._times()
        if self._looks and self._looks[0] <= now_ns:
            self._looks = [due for due in self._looks if due > now_ns]
            for side in self._sides():
                side.owners.look_at_declarations(now_ns, utc)
        self._describing.retry(now_ns)
        due = [*self._looks[:1], *filter(None, [self._describing.next_ns])]
        if self._stale:
            due.append(now_ns + _RESCAN_NS)
        return max(min(due) - now_ns, 1_000_000) / 1e9 if due else 0.0

    def news(self, keys: Iterable[str]) -> None:
        """A runtime knows more about the containers with these Mark.key."""
        self._describing.news(keys)

    def tell_of_containers(self, wanted: Callable[[], None]) -> None:
        """Call this whenever a container has come; there may be some already."""
        self._describing.wanted = wanted

    # how

    def _resolve(self, side: _Side, cgroup_id: int, fresh: bool) -> Container:
        owner = side.owners.find(cgroup_id)
        if owner is None and cgroup_id == 0:
            return UNATTRIBUTED
        if owner is None and cgroup_id not in side.missing:
            owner = self._search(side, cgroup_id, fresh)
        return owner.container if owner else unknown(cgroup_id)

    def _search(self, side: _Side, cgroup_id: int, fresh: bool) -> Owner | None:
        if self._events is not None and side.used:
            self._take_events()
        elif fresh or side.may_scan(self._host.now_ns()):
            self._scan(side)
        else:
            return None
        owner = side.owners.find(cgroup_id)
        if owner is None:
            side.remember_missing(cgroup_id)
        return owner

    def _take_events(self) -> None:
        """What the kernel told since the last time; a scan where that is not all."""
        assert self._events is not None
        told, whole = self._events.drain()
        now_ns, utc = self._times()
        for side in self._sides() if told else ():
            is_identity = side is self._identity
            wanted = [c for c in told if (c.is_identity if is_identity else c.is_block)]
            side.owners.follow(wanted, now_ns, utc)
            self._looks = [now_ns + pause for pause in _DECLARED_NS]
        last = self._sides()[-1]
        self._stale |= not whole
        if self._stale and now_ns >= last.scanned_ns + last.took_ns * _RESCAN_DUTY:
            self._stale = False
            self._scan(last)

    def _sides(self) -> list[_Side]:
        """The hierarchies that are in use, that of identity first."""
        both = self._block is not self._identity and self._block.used
        return [self._identity, self._block] if both else [self._identity]

    def _scan(self, side: _Side) -> None:
        if side is not self._identity:
            self._scan(self._identity)  # which says whose a path is
        began_ns, utc = self._times()
        side.owners.scan(began_ns, utc)
        self._describing.retry(began_ns)
        side.used = True
        side.scanned_ns = self._host.now_ns()
        side.took_ns = side.scanned_ns - began_ns

    def _times(self) -> tuple[int, str]:
        """Now, as CLOCK_MONOTONIC and as RFC 3339."""
        now_ns = self._host.now_ns()
        return now_ns, f"{np.datetime64(now_ns + self._host.utc_offset_ns(), 'ns')}Z"

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
