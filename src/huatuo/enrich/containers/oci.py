"""runc and crun, run by hand or by a runtime above: the state of every OCI container.

A cgroup may have any path here, on v1 even another one per controller, so it is taken from the
state: runc writes cgroup_paths in <root>/<id>/state.json, crun cgroup-path in <root>/<id>/status.
Both exist from the container's creation until it is deleted. Full ids belong to a runtime above
and are known by their cgroup.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from huatuo.enrich.containers.base import FULL_ID, Details, Mark, load, subdirectories
from huatuo.kernel.cgroupfs import hierarchies
from huatuo.kernel.host import Host

__all__ = ["Crun", "Runc"]


class _RuncState(msgspec.Struct):
    cgroup_paths: dict[str, str] = {}  # controller, or "" on v2 → directory
    created: str = ""


class _CrunState(msgspec.Struct, rename="kebab"):
    cgroup_path: str = ""
    created: str = ""


class _Oci:
    """Common to both: states by directory, each read once."""

    runtime = ""

    def __init__(self, host: Host, roots: list[str]) -> None:
        self._host = host
        self._roots = roots
        self._states: dict[str, str] = {}  # id → state directory
        self._marks: dict[str, dict[str, Mark]] = {}  # state directory → cgroup path → container

    def recognise(self, name: str, parent: str) -> Mark | None:  # noqa: ARG002
        return None

    def declared(self) -> Mapping[str, Mark]:
        self._states = dict(entry for parent in self._parents() for entry in subdirectories(parent))
        marks: dict[str, dict[str, Mark]] = {}
        for name, directory in self._states.items():
            if not FULL_ID.fullmatch(name):
                marks[directory] = self._marks.get(directory) or self._marks_of(name, directory)
        self._marks = marks
        return {path: mark for found in marks.values() for path, mark in found.items()}

    def describe(self, mark: Mark) -> Details | None:
        directory = self._states.get(mark.id)
        _, created = self._read(directory) if directory else ([], "")
        return Details(started=created) if created else None

    def _parents(self) -> Iterator[Path | str]:
        for root in self._roots:
            if root.endswith("/*"):
                for _, namespace in subdirectories(self._host.run / root.removesuffix("/*")):
                    yield namespace
            else:
                yield self._host.run / root

    def _marks_of(self, name: str, directory: str) -> dict[str, Mark]:
        paths, _ = self._read(directory)
        paths = [path for path in paths if path not in ("", "/")]
        if not paths:
            return {}
        mark = Mark(paths[0], name, self.runtime, name)
        return dict.fromkeys(paths, mark)

    def _read(self, directory: str) -> tuple[list[str], str]:
        """(its cgroup's path in the identity and in the blkio hierarchy, time of creation)."""
        raise NotImplementedError


class Runc(_Oci):
    runtime = "runc"

    def __init__(self, host: Host) -> None:
        super().__init__(host, ["runc", "containerd/runc/*", "docker/runtime-runc/*"])

    def _read(self, directory: str) -> tuple[list[str], str]:
        state = load(self._host, f"{directory}/state.json", _RuncState)
        if state is None:
            return [], ""
        return [self._path(state, "memory"), self._path(state, "blkio")], state.created

    def _path(self, state: _RuncState, controller: str) -> str:
        """Below the mount point of the controller's hierarchy."""
        found = hierarchies(self._host)
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
    runtime = "crun"

    def __init__(self, host: Host) -> None:
        super().__init__(host, ["crun", "containerd/crun/*"])

    def _read(self, directory: str) -> tuple[list[str], str]:
        state = load(self._host, f"{directory}/status", _CrunState)
        return ([state.cgroup_path], state.created) if state else ([], "")
