"""Cgroup id → owner for one hierarchy, remembered for some minutes after the cgroup has gone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from huatuo.enrich.containers.base import Details, Mark, Runtime
from huatuo.enrich.containers.describing import Describing, described
from huatuo.enrich.containers.kubepods import pod_of
from huatuo.enrich.containers.owner import Owner
from huatuo.enrich.containers.tree import Change, Node, Tree
from huatuo.enrich.containers.units import HOST, keeps_descendants, plain_owner
from huatuo.kernel.cgroup_events import CgroupChange
from huatuo.model.event import Container

__all__ = ["Owners"]

_REMEMBERED_NS = 600 * 1_000_000_000
_REMEMBERED = {True: 32768, False: 16384}  # at most so many cgroups of containers, and of others
_FORGOTTEN = 65536


class _Entry:
    """One cgroup; `node` while it lives."""

    __slots__ = ("node", "owner", "path")

    def __init__(self, node: Node, owner: Owner) -> None:
        self.node: Node | None = node
        self.path, self.owner = node.path, owner


_Leaving = deque[tuple[int, int, _Entry]]  # (gone ns, id, entry)


class Owners:
    """The cgroups of the hierarchy at `directory`.

    The blkio hierarchy of a v1 host `follows` the identity hierarchy: the same container, or else
    the same path, has the same owner.
    """

    def __init__(
        self,
        directory: Path,
        runtimes: Sequence[Runtime],
        describing: Describing,
        follows: Owners | None = None,
    ) -> None:
        self.tree = Tree(directory)
        self._runtimes = runtimes
        self._describing = describing
        self._follows = follows
        self._ids: dict[int, _Entry] = {}
        self._paths: dict[str, _Entry] = {}  # living cgroups
        self._said: list[object] = []  # what runtimes declared last
        self._declared: dict[str, Mark] = {}
        self._containers: dict[str, Owner] = {}  # living, by Mark.key
        self._leaving = {is_container: _Leaving() for is_container in _REMEMBERED}
        self._forgotten: dict[int, None] = {}  # in order of forgetting
        self._born = ""  # when what is added now came; not known of what a scan finds
        self.epoch = 0  # grows whenever an answer may have changed

    def find(self, cgroup_id: int) -> Owner | None:
        entry = self._ids.get(cgroup_id)
        return entry.owner if entry else None

    def at(self, path: str) -> Owner | None:
        """The owner of a living cgroup by its path, "/" for the root."""
        entry = self._paths.get("" if path == "/" else path)
        return entry.owner if entry else None

    def living(self) -> Iterator[tuple[int, Container]]:
        """Ids of living cgroups and their owners."""
        for entry in self._paths.values():
            if entry.node is not None:
                yield entry.node.id, entry.owner.container

    def container(self, key: str) -> Owner | None:
        """A living container by its Mark.key."""
        return self._containers.get(key)

    def has_forgotten(self, cgroup_id: int) -> bool:
        return cgroup_id in self._forgotten

    def all(self) -> list[Owner]:
        """Living owners and those not yet forgotten, each once."""
        entries = list(self._paths.values())
        for leaving in self._leaving.values():
            entries += [entry for _, _, entry in list(leaving)]
        return list({id(entry.owner): entry.owner for entry in entries}.values())

    # what comes and goes

    def scan(self, now_ns: int, utc: str) -> None:
        """Look at everything; `utc` is now as RFC 3339, for those that are gone."""
        self._apply(self.tree.scan(), now_ns, utc)

    def follow(self, told: Iterable[CgroupChange], now_ns: int, utc: str) -> None:
        """What the kernel told."""
        changes: list[Change] = []
        for change in told:
            self.tree.apply(change, changes)
        self._born = utc
        self._apply(changes, now_ns, utc)
        self._born = ""

    def look_at_declarations(self, now_ns: int, utc: str) -> None:
        """Cgroups are as they were, but a runtime may have written what one of them is."""
        self._apply([], now_ns, utc)

    def _apply(self, changes: list[Change], now_ns: int, utc: str) -> None:
        news = self._update_declared()
        self.epoch += bool(changes or news)
        for change in changes:
            if change.alive:
                self._add(change.node, now_ns)
            else:
                self._remove(change.node, now_ns, utc)
        if news:
            self._reclassify(now_ns)
        self._forget(now_ns)

    def _update_declared(self) -> bool:
        """Whether a living cgroup has become a container, or another one, by declaration.

        A declaration that vanishes is kept while the cgroup lives: state is deleted first.
        """
        said = [runtime.declared() for runtime in self._runtimes]
        if len(said) == len(self._said) and all(
            now is before for now, before in zip(said, self._said, strict=True)
        ):
            return False
        self._said = list(said)
        before = self._declared
        kept = {path: mark for path, mark in before.items() if path in self._paths}
        for marks in reversed(said):
            kept |= marks
        self._declared = kept
        return any(mark != before.get(path) and path in self._paths for path, mark in kept.items())

    def _add(self, node: Node, now_ns: int) -> None:
        owner = self._owner_of(node.path, now_ns)
        self._ids[node.id] = self._paths[node.path] = _Entry(node, owner)
        self._forgotten.pop(node.id, None)

    def _remove(self, node: Node, now_ns: int, utc: str) -> None:
        entry = self._ids.get(node.id)
        if entry is None or entry.path != node.path:
            entry = self._paths.get(node.path)  # its id already belongs to another cgroup
            if entry is None or entry is self._ids.get(node.id):
                return
        if self._paths.get(node.path) is entry:
            del self._paths[node.path]
        owner = entry.owner
        if owner.path == node.path and not owner.gone_ns and owner.home is self:
            owner.gone_ns = now_ns
            owner.container = msgspec.structs.replace(owner.container, gone=utc)
            if owner.mark is not None:
                self._describing.end(owner)
                if self._containers.get(owner.mark.key) is owner:
                    del self._containers[owner.mark.key]
        entry.node = None
        self._leaving[owner.mark is not None].append((now_ns, node.id, entry))

    def _forget(self, now_ns: int) -> None:
        for is_container, leaving in self._leaving.items():
            most = _REMEMBERED[is_container]
            while leaving and (now_ns - leaving[0][0] > _REMEMBERED_NS or len(leaving) > most):
                _, cgroup_id, entry = leaving.popleft()
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
            same = self._follows.container(mark.key) if mark else None
            same = same or self._follows.at(path)
            if same is not None:
                return same
        if path == "":
            return Owner(self, HOST, None)
        above = self._paths.get(parent)
        if mark is not None:
            return self._container(mark, above.owner if above else None, now_ns)
        if above is not None and keeps_descendants(above.owner.container):
            return above.owner
        return Owner(self, plain_owner(path), None)

    def _mark(self, path: str, parent: str, name: str) -> Mark | None:
        declared = self._declared.get(path)
        if declared is not None and (declared.path == path or self._follows is not None):
            return declared
        for runtime in self._runtimes:
            mark = runtime.recognise(name, parent)
            if mark is not None:
                return mark
        return None

    def _container(self, mark: Mark, above: Owner | None, now_ns: int) -> Owner:
        uid, qos = pod_of(mark.path)
        if uid:
            mark = replace(mark, pod_uid=uid, qos=qos)
        known = self._containers.get(mark.key)
        if known is not None and known.mark == mark:
            return known
        owner = Owner(self, described(mark, Details(started=self._born)), mark)
        if above is not None and above.mark is not None:
            owner.outer = above.path
        self._containers[mark.key] = owner
        self._describing.begin(owner, now_ns)
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
            entry.owner = known if known and known.is_same(owner) else owner

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
