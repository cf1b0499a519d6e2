"""runc and crun, run by hand or by a runtime above: the state of every OCI container.

A cgroup may have any path here, on v1 even another one per controller, so it is taken from the
state: runc writes cgroup_paths in <root>/<id>/state.json, crun cgroup-path in <root>/<id>/status.
Both exist from the container's creation until it is deleted. Full ids belong to a runtime above
and are known by their cgroup.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import msgspec

from huatuo.enrich.containers.base import FULL_ID, Details, Mark
from huatuo.enrich.containers.state import Listing, State
from huatuo.kernel.cgroupfs import Hierarchies, hierarchies
from huatuo.kernel.host import Host

__all__ = ["Crun", "Runc"]


class _RuncState(msgspec.Struct):
    cgroup_paths: dict[str, str] = {}  # controller, or "" on v2 → directory
    created: str = ""


class _CrunState(msgspec.Struct, rename="kebab"):
    cgroup_path: str = ""
    created: str = ""


class _Oci:
    """Common to both. `roots`: where states are → whose containers they are; a root that ends with
    /* has a directory per namespace."""

    roots: Mapping[str, str]

    def __init__(self, state: State) -> None:
        self._state = state
        self._listings: dict[str, Listing] = {}
        self._whose: dict[str, tuple[str, str]] = {}  # directory → (runtime, scope) of its marks
        self._ids: dict[str, frozenset[str]] = {}  # directory → containers, as of the last look
        self._marks: dict[str, dict[str, Mark]] = {}  # of a container's directory, by cgroup path
        self._declared: dict[str, Mark] = {}

    def recognise(self, name: str, parent: str) -> Mark | None:  # noqa: ARG002
        return None

    def declared(self) -> Mapping[str, Mark]:
        ids = {listing.path: listing.names() for listing in self._directories()}
        if ids != self._ids or not all(self._marks.values()):
            self._ids = ids
            self._marks = {
                f"{directory}/{name}": self._marks_of(name, f"{directory}/{name}")
                for directory, names in ids.items()
                for name in names
                if not FULL_ID.fullmatch(name)
            }
            found = {path: mark for marks in self._marks.values() for path, mark in marks.items()}
            self._declared = found if found != self._declared else self._declared
        return self._declared

    def describe(self, mark: Mark) -> Details | None:
        is_unique = bool(FULL_ID.fullmatch(mark.id))
        for directory in self._ids if "/" not in mark.id else ():
            if is_unique or self._whose[directory] == (mark.runtime, mark.scope):
                _, created = self._read(f"{directory}/{mark.id}")
                if created:
                    return Details(started=created)
        return None

    def _directories(self) -> Iterator[Listing]:
        for root, runtime in self.roots.items():
            if not root.endswith("/*"):
                yield self._listing(root, runtime)
                continue
            parent = root.removesuffix("/*")
            for namespace in self._listing(parent, runtime).names():
                yield self._listing(f"{parent}/{namespace}", runtime, namespace)

    def _listing(self, path: str, runtime: str, scope: str = "") -> Listing:
        if path not in self._listings:
            self._listings[path] = Listing(self._state, path)
            self._whose[path] = runtime, scope
        return self._listings[path]

    def _marks_of(self, name: str, directory: str) -> dict[str, Mark]:
        """Empty while the state is not written yet."""
        if self._marks.get(directory):
            return self._marks[directory]
        paths = [path for path in self._read(directory)[0] if path not in ("", "/")]
        runtime, scope = self._whose[directory.rpartition("/")[0]]
        return dict.fromkeys(paths, Mark(paths[0], name, runtime, name, scope)) if paths else {}

    def _read(self, directory: str) -> tuple[list[str], str]:
        """(its cgroup's path in the identity and in the blkio hierarchy, time of creation)."""
        raise NotImplementedError


class Runc(_Oci):
    roots = MappingProxyType(
        {
            "run/runc": "runc",
            "run/containerd/runc/*": "containerd",
            "run/docker/runtime-runc/*": "docker",
        }
    )

    def __init__(self, state: State, host: Host) -> None:
        super().__init__(state)
        self._host = host

    def _read(self, directory: str) -> tuple[list[str], str]:
        state = self._state.load(f"{directory}/state.json", _RuncState)
        if state is None:
            return [], ""
        found = hierarchies(self._host)
        return [self._path(found, state, each) for each in ("memory", "blkio")], state.created

    def _path(self, found: Hierarchies, state: _RuncState, controller: str) -> str:
        """Below the mount point of the controller's hierarchy."""
        root = found.controller(controller)
        directory = state.cgroup_paths.get(controller if controller in found.v1 else "", "")
        if root is None:
            return ""
        mounted = "/" + os.path.relpath(root, self._host.root)
        for prefix in (str(root), mounted):
            if directory.startswith(prefix + "/"):
                return directory.removeprefix(prefix)
        return ""


class Crun(_Oci):
    roots = MappingProxyType({"run/crun": "crun", "run/containerd/crun/*": "containerd"})

    def _read(self, directory: str) -> tuple[list[str], str]:
        state = self._state.load(f"{directory}/status", _CrunState)
        return ([state.cgroup_path], state.created) if state else ([], "")
