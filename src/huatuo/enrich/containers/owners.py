"""Cgroup id → owner for one hierarchy, remembered for some minutes after the cgroup has gone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from huatuo.enrich.containers.base import Details, Mark, Runtime
from huatuo.enrich.containers.tree import Change, Node, Tree
from huatuo.enrich.containers.units import HOST, keeps_descendants, plain_owner
from huatuo.model.event import Container

__all__ = ["Owner", "Owners"]

_REMEMBERED_NS = 600 * 1_000_000_000
_DESCRIBED_WITHIN_NS = 60 * 1_000_000_000  # a runtime may write its state after the cgroup exists
_FORGOTTEN = 65536


class Owner:
    """One owner; all its cgroups share this object, so that it is described once."""

    __slots__ = ("container", "gone_ns", "home", "mark", "seen_ns")

    def __init__(self, home: Owners, container: Container, mark: Mark | None, seen_ns: int) -> None:
        self.home, self.container, self.mark, self.seen_ns = home, container, mark, seen_ns
        self.gone_ns = 0

    @property
    def path(self) -> str:
        return self.container.cgroup


class _Entry:
    """One cgroup."""

    __slots__ = ("owner", "path")

    def __init__(self, path: str, owner: Owner) -> None:
        self.path, self.owner = path, owner


class Owners:
    """The cgroups of the hierarchy at `directory`.

    The blkio hierarchy of a v1 host `follows` the identity hierarchy: the same container, or else
    the same path, has the same owner.
    """

    def __init__(
        self,
        directory: Path,
        runtimes: Sequence[Runtime],
        follows: Owners | None = None,
    ) -> None:
        self.tree = Tree(directory)
        self._runtimes = runtimes
        self._follows = follows
        self._ids: dict[int, _Entry] = {}
        self._paths: dict[str, _Entry] = {}  # living cgroups
        self._declared: dict[str, Mark] = {}
        self._containers: dict[str, Owner] = {}  # living, by container id
        self._undescribed: list[Owner] = []
        self._leaving: deque[tuple[int, int, _Entry]] = deque()  # (gone ns, id, entry)
        self._forgotten: dict[int, None] = {}  # in order of forgetting
        self.epoch = 0  # grows whenever an answer may have changed

    def find(self, cgroup_id: int) -> Owner | None:
        entry = self._ids.get(cgroup_id)
        return entry.owner if entry else None

    def at(self, path: str) -> Owner | None:
        """The owner of a living cgroup by its path, "/" for the root."""
        entry = self._paths.get("" if path == "/" else path)
        return entry.owner if entry else None

    def container(self, container_id: str) -> Owner | None:
        """A living container."""
        return self._containers.get(container_id)

    def has_forgotten(self, cgroup_id: int) -> bool:
        return cgroup_id in self._forgotten

    def all(self) -> list[Owner]:
        """Living owners and those not yet forgotten, each once."""
        entries = [*list(self._paths.values()), *(entry for _, _, entry in list(self._leaving))]
        return list({id(entry.owner): entry.owner for entry in entries}.values())

    def refresh(self, now_ns: int, utc: str) -> None:
        """Bring everything up to date; `utc` is now as RFC 3339, for those that are gone."""
        changes = self.tree.scan()
        news = self._update_declared()
        self.epoch += bool(changes or news)
        for change in changes:
            path = "" if change.cgroup.path == "/" else change.cgroup.path
            if change.alive:
                self._add(change.cgroup.id, path, now_ns)
            else:
                self._remove(change, path, now_ns, utc)
        if news:
            self._reclassify(now_ns)
        self._describe_late(now_ns)
        self._forget(now_ns)

    def _update_declared(self) -> bool:
        """Whether a living cgroup has become a container by declaration.

        A declaration that vanishes is kept while the cgroup lives: state is deleted first.
        """
        kept = {path: mark for path, mark in self._declared.items() if path in self._paths}
        for runtime in self._runtimes:
            for path, mark in runtime.declared().items():
                kept.setdefault(path, mark)
        news = [path for path in kept if path not in self._declared and path in self._paths]
        self._declared = kept
        return bool(news)

    def _add(self, cgroup_id: int, path: str, now_ns: int) -> None:
        entry = _Entry(path, self._owner_of(path, now_ns))
        self._ids[cgroup_id] = self._paths[path] = entry
        self._forgotten.pop(cgroup_id, None)

    def _remove(self, change: Change, path: str, now_ns: int, utc: str) -> None:
        entry = self._ids.get(change.cgroup.id)
        if entry is None or entry.path != path:
            entry = self._paths.get(path)  # its id already belongs to another cgroup
            if entry is None or entry is self._ids.get(change.cgroup.id):
                return
        if self._paths.get(path) is entry:
            del self._paths[path]
        owner = entry.owner
        if owner.path == path and not owner.gone_ns and owner.home is self:
            owner.gone_ns = now_ns
            owner.container = msgspec.structs.replace(owner.container, gone=utc)
            if self._containers.get(owner.container.id) is owner:
                del self._containers[owner.container.id]
        self._leaving.append((now_ns, change.cgroup.id, entry))

    def _forget(self, now_ns: int) -> None:
        while self._leaving and now_ns - self._leaving[0][0] > _REMEMBERED_NS:
            _, cgroup_id, entry = self._leaving.popleft()
            if self._ids.get(cgroup_id) is entry:
                del self._ids[cgroup_id]
                self.epoch += 1
                self._forgotten[cgroup_id] = None
        while len(self._forgotten) > _FORGOTTEN:
            del self._forgotten[next(iter(self._forgotten))]

    # who owns what

    def _owner_of(self, path: str, now_ns: int) -> Owner:
        parent, _, name = path.rpartition("/")
        mark = self._mark(path, parent, name) if path else None
        if self._follows is not None:
            same = self._follows.container(mark.id) if mark else None
            same = same or self._follows.at(path)
            if same is not None:
                return same
        if path == "":
            return Owner(self, HOST, None, now_ns)
        if mark is not None:
            return self._container(mark, now_ns)
        above = self._paths.get(parent)
        if above is not None and keeps_descendants(above.owner.container):
            return above.owner
        return Owner(self, plain_owner(path), None, now_ns)

    def _mark(self, path: str, parent: str, name: str) -> Mark | None:
        declared = self._declared.get(path)
        if declared is not None and (declared.path == path or self._follows is not None):
            return declared
        for runtime in self._runtimes:
            mark = runtime.recognise(name, parent)
            if mark is not None:
                return mark
        return None

    def _container(self, mark: Mark, now_ns: int) -> Owner:
        owner = Owner(self, _described(mark, Details()), mark, now_ns)
        self._containers[mark.id] = owner
        if not self._describe(owner):
            self._undescribed.append(owner)
        return owner

    def _reclassify(self, now_ns: int) -> None:
        """Ownership of every living cgroup again; owners that remain keep their identity."""
        before = {entry.owner.path: entry.owner for entry in self._paths.values()}
        for node in self.tree.nodes():
            entry = self._paths.get(node.path)
            if entry is None:
                continue
            owner = self._owner_of(node.path, now_ns)
            known = before.get(owner.path)
            entry.owner = known if known and known.mark == owner.mark else owner

    # what the runtimes say

    def _describe(self, owner: Owner) -> bool:
        """Whether all that the runtimes usually know is known now."""
        assert owner.mark is not None
        details = Details()
        for runtime in self._runtimes:
            found = runtime.describe(owner.mark)
            if found is not None:
                details = _merged(details, found)
        gone = owner.container.gone
        described = msgspec.structs.replace(_described(owner.mark, details), gone=gone)
        self.epoch += described != owner.container
        owner.container = described
        return bool(details.name and details.started)

    def _describe_late(self, now_ns: int) -> None:
        waiting = [owner for owner in self._undescribed if not owner.gone_ns]
        self._undescribed = []
        for owner in waiting:
            if not self._describe(owner) and now_ns - owner.seen_ns < _DESCRIBED_WITHIN_NS:
                self._undescribed.append(owner)

    # which cgroups to read

    def outermost(self) -> Iterator[Node]:
        """One cgroup per owner, none inside another: see Inventory.cgroups."""
        above = {""}  # cgroups with a container below
        for owner in list(self._containers.values()):
            parent = owner.path.rpartition("/")[0]
            while parent not in above:
                above.add(parent)
                parent = parent.rpartition("/")[0]
        pending = [self.tree.root] if self.tree.root else []
        while pending:
            node = pending.pop()
            entry = self._paths.get(node.path)
            if entry is None:
                continue
            whole = node.path not in above and keeps_descendants(entry.owner.container)
            if entry.owner.mark is not None or whole or (not node.children and node.path):
                yield node
            else:
                pending.extend(node.children.values())


def _merged(first: Details, second: Details) -> Details:
    """What `first` leaves open is taken from `second`."""
    return replace(
        first,
        name=first.name or second.name,
        image=first.image or second.image,
        runtime=first.runtime or second.runtime,
        pod=first.pod or second.pod,
        namespace=first.namespace or second.namespace,
        labels=first.labels or second.labels,
        started=first.started or second.started,
    )


def _described(mark: Mark, details: Details) -> Container:
    return Container(
        name=details.name or mark.name or mark.id[:12],
        kind="container",
        cgroup=mark.path,
        id=mark.id,
        image=details.image,
        runtime=details.runtime or mark.runtime,
        pod=details.pod,
        namespace=details.namespace,
        labels=dict(details.labels),
        started=details.started,
    )
