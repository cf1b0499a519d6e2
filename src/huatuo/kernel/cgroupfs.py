"""The cgroup tree: which hierarchy names containers, and every cgroup's id, path and files.

Identity is the inode of a cgroup's directory in the identity hierarchy: the v2 tree, or on v1 and
hybrid hosts the memory controller's tree (bpf/cgroup.bpf.h decides the same way). Inodes are
unique only within one hierarchy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from huatuo.kernel.host import Host

__all__ = [
    "Cgroup",
    "Hierarchies",
    "hierarchies",
    "hierarchy_number",
    "identities",
    "identity_is_v1",
    "populated",
    "root_id",
    "walk",
]


@dataclass(frozen=True, slots=True)
class Hierarchies:
    """Mount points: `v2` of the unified tree, `v1` by controller name."""

    v2: Path | None
    v1: dict[str, Path]

    @property
    def identity(self) -> Path | None:
        """The tree whose inodes are cgroup ids."""
        return self.v1.get("memory", self.v2)

    def controller(self, name: str) -> Path | None:
        """The tree in which a controller's files are: its own on v1, the unified one on v2."""
        return self.v1.get(name, self.v2)


@dataclass(frozen=True, slots=True)
class Cgroup:
    """One cgroup: its id and its path below the root of the hierarchy, "/" for the root."""

    id: int
    path: str


@cache
def hierarchies(host: Host) -> Hierarchies:
    """Read from mountinfo once; hierarchies do not move while a system runs."""
    v2: Path | None = None
    v1: dict[str, Path] = {}
    for line in host.read(host.proc / "self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        where = host.root / before.split(" ")[4].lstrip("/")
        if kind == "cgroup2" and v2 is None:
            v2 = where
        elif kind == "cgroup":
            for option in options.split(" ")[-1].split(","):
                v1.setdefault(option.removeprefix("name="), where)
    return Hierarchies(v2, v1)


def identity_is_v1(host: Host) -> bool:
    """Whether cgroup ids are taken from the v1 memory hierarchy."""
    return "memory" in hierarchies(host).v1


def hierarchy_number(host: Host, controller: str) -> int:
    """The number that the kernel gives a hierarchy; "" is the unified one, which has 0."""
    for line in host.read(host.proc / "self/cgroup").splitlines():
        number, controllers, _ = line.split(":", 2)
        if controller and controller in controllers.split(","):
            return int(number)
    return 0


def walk(root: Path) -> Iterator[Cgroup]:
    """All cgroups below a hierarchy's mount point, parents first."""
    try:
        yield Cgroup(root.stat().st_ino, "/")
    except OSError:
        return
    pending = [(str(root), "")]
    while pending:
        directory, path = pending.pop()
        try:
            entries = os.scandir(directory)
        except OSError:
            continue  # gone meanwhile
        with entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    child = f"{path}/{entry.name}"
                    yield Cgroup(entry.inode(), child)
                    pending.append((entry.path, child))


def identities(host: Host) -> Iterator[Cgroup]:
    """All cgroups that exist in the identity hierarchy now."""
    root = hierarchies(host).identity
    return walk(root) if root else iter(())


def root_id(host: Host) -> int:
    """The id of the root: what belongs to the host and to nobody below; 0 without cgroups."""
    try:
        return next(identities(host), Cgroup(0, "/")).id
    except OSError:
        return 0


def populated(host: Host) -> Iterator[Cgroup]:
    """Cgroups of the identity hierarchy that hold processes themselves."""
    root = hierarchies(host).identity
    if root is None:
        return
    for cgroup in walk(root):
        try:
            if host.read(root / cgroup.path.lstrip("/") / "cgroup.procs"):
                yield cgroup
        except OSError:
            continue  # gone meanwhile, or a threaded cgroup
