"""containerd: Kubernetes (CRI), nerdctl and ctr, from the OCI bundles of its running tasks.

Cgroups: cri-containerd-<id>.scope, <slice>:cri-containerd:<id> (a cgroupfs driver given a systemd
path), nerdctl-<id>.scope, /<namespace>/<id>, kubepods/…/pod<uid>/<id>.
State: <run>/io.containerd.runtime.v2.task/<namespace>/<id>/config.json, an OCI runtime spec with
io.kubernetes.cri.* annotations; it exists from before the start until the task is deleted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

import msgspec

from huatuo.enrich.containers.base import FULL_ID, Details, Kept, Mark, kubernetes_details
from huatuo.enrich.containers.state import Listing, State

__all__ = ["Containerd"]

_NAME = re.compile(r"(?:.*:)?(?:cri-containerd|nerdctl|containerd)[-:]([0-9a-f]{64})(?:\.scope)?")
_TASKS = "io.containerd.runtime.v2.task"
_STATES = (  # and where distributions of Kubernetes keep their own containerd
    f"run/containerd/{_TASKS}",
    f"run/k3s/containerd/{_TASKS}",
    f"run/docker/containerd/daemon/{_TASKS}",
    f"var/snap/microk8s/common/run/containerd/{_TASKS}",
)
_CRI = {
    "name": "io.kubernetes.cri.container-name",
    "type": "io.kubernetes.cri.container-type",
    "image": "io.kubernetes.cri.image-name",
    "pod": "io.kubernetes.cri.sandbox-name",
    "namespace": "io.kubernetes.cri.sandbox-namespace",
    "uid": "io.kubernetes.cri.sandbox-uid",
}


class _Linux(msgspec.Struct, rename="camel"):
    cgroups_path: str = ""


class _Spec(msgspec.Struct):
    annotations: dict[str, str] | None = None
    linux: _Linux | None = None


class Containerd:
    def __init__(self, state: State, kept: Kept) -> None:
        self._state, self._kept = state, kept
        self._roots = [Listing(state, root) for root in _STATES]
        self._namespaces: dict[str, Listing] = {}
        self._tasks: dict[str, frozenset[str]] = {}  # directory → ids, as of the last look
        self._paths: dict[str, str | None] = {}  # bundle → cgroup path; None: not written yet
        self._declared: dict[str, Mark] = {}

    def recognise(self, name: str, parent: str) -> Mark | None:
        found = _NAME.fullmatch(name)
        if found:
            return Mark(f"{parent}/{name}", found[1], "containerd")
        return None

    def declared(self) -> Mapping[str, Mark]:
        """Tasks with an id of their user's choice (ctr); full ids are known by their cgroup."""
        tasks = {listing.path: listing.names() for listing in self._directories()}
        if tasks != self._tasks or None in self._paths.values():
            self._tasks = tasks
            self._paths = {bundle: self._cgroup_path(bundle) for bundle in self._bundles()}
            found = {
                path: Mark(path, name, "containerd", name, scope)
                for bundle, path in self._paths.items()
                for scope, name in [bundle.split("/")[-2:]]
                if path
            }
            self._declared = found if found != self._declared else self._declared
        return self._declared

    def _directories(self) -> Iterator[Listing]:
        """Where the tasks of each of containerd's namespaces are."""
        for root in self._roots:
            for namespace in root.names():
                path = f"{root.path}/{namespace}"
                if path not in self._namespaces:
                    self._namespaces[path] = Listing(self._state, path)
                yield self._namespaces[path]

    def _bundles(self) -> Iterator[str]:
        for directory, tasks in self._tasks.items():
            for task in tasks:
                if not FULL_ID.fullmatch(task):
                    yield f"{directory}/{task}"

    def _cgroup_path(self, bundle: str) -> str | None:
        known = self._paths.get(bundle)
        if known is not None:
            return known
        spec = self._state.load(f"{bundle}/config.json", _Spec)
        if spec is None:
            return None
        path = spec.linux.cgroups_path if spec.linux else ""
        return path if path.startswith("/") else ""  # slice:prefix:name: oci.py knows where

    def describe(self, mark: Mark) -> Details | None:
        if "/" in mark.id:
            return None
        for directory in self._tasks:
            namespace = directory.rpartition("/")[2]
            if not FULL_ID.fullmatch(mark.id) and (mark.runtime, mark.scope) != (
                "containerd",
                namespace,
            ):
                continue
            spec = self._state.load(f"{directory}/{mark.id}/config.json", _Spec)
            if spec is not None:
                runtime = "docker" if namespace == "moby" else "containerd"
                return self._details(spec.annotations or {}, runtime)
        return None

    def _details(self, annotations: Mapping[str, str], runtime: str) -> Details:
        found = kubernetes_details(lambda key: annotations.get(key, ""), _CRI)
        return replace(
            found,
            name=found.name or annotations.get("nerdctl/name", ""),
            runtime=runtime,
            annotations=self._kept.annotations(annotations),
        )
