"""containerd: Kubernetes (CRI), nerdctl and ctr, from the OCI bundles of its running tasks.

Cgroups: cri-containerd-<id>.scope, <slice>:cri-containerd:<id> (a cgroupfs driver given a systemd
path), nerdctl-<id>.scope, /<namespace>/<id>, kubepods/…/pod<uid>/<id>.
State: <run>/io.containerd.runtime.v2.task/<namespace>/<id>/config.json, an OCI runtime spec with
io.kubernetes.cri.* annotations; it exists from before the start until the task is deleted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from huatuo.enrich.containers.base import (
    FULL_ID,
    Details,
    Mark,
    kubernetes_details,
    load,
    subdirectories,
)
from huatuo.kernel.host import Host

__all__ = ["Containerd"]

_NAME = re.compile(r"(?:.*:)?(?:cri-containerd|nerdctl|containerd)[-:]([0-9a-f]{64})(?:\.scope)?")
_TASKS = "io.containerd.runtime.v2.task"
_STATES = (  # below Host.run, and where distributions of Kubernetes keep their own containerd
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
}


class _Linux(msgspec.Struct, rename="camel"):
    cgroups_path: str = ""


class _Spec(msgspec.Struct):
    annotations: dict[str, str] | None = None
    linux: _Linux | None = None


class Containerd:
    def __init__(self, host: Host) -> None:
        self._host = host
        roots = [_below_run(host, state) for state in _STATES]
        self._roots = list(dict.fromkeys(roots))
        self._bundles: dict[str, tuple[str, str]] = {}  # id → (directory, containerd's namespace)
        self._paths: dict[str, str] = {}  # bundle → cgroup path

    def recognise(self, name: str, parent: str) -> Mark | None:
        found = _NAME.fullmatch(name)
        if found:
            return Mark(f"{parent}/{name}", found[1], "containerd")
        return None

    def declared(self) -> Mapping[str, Mark]:
        """Tasks with an id of their user's choice (ctr); full ids are known by their cgroup."""
        self._bundles = {
            name: (bundle, namespace)
            for root in self._roots
            for namespace, directory in subdirectories(root)
            for name, bundle in subdirectories(directory)
        }
        found: dict[str, Mark] = {}
        paths: dict[str, str] = {}
        for name, (bundle, _) in self._bundles.items():
            if FULL_ID.fullmatch(name):
                continue
            path = self._paths.get(bundle) or self._cgroup_path(bundle)
            if path:
                paths[bundle] = path
                found[path] = Mark(path, name, "containerd", name)
        self._paths = paths
        return found

    def _cgroup_path(self, bundle: str) -> str:
        spec = load(self._host, f"{bundle}/config.json", _Spec)
        path = spec.linux.cgroups_path if spec and spec.linux else ""
        return path if path.startswith("/") else ""  # slice:prefix:name: oci.py knows where

    def describe(self, mark: Mark) -> Details | None:
        bundle, namespace = self._bundles.get(mark.id, ("", ""))
        spec = load(self._host, f"{bundle}/config.json", _Spec) if bundle else None
        if spec is None:
            return None
        return _details(spec, "docker" if namespace == "moby" else "containerd")


def _details(spec: _Spec, runtime: str) -> Details:
    annotations = spec.annotations or {}
    found = kubernetes_details(lambda key: annotations.get(key, ""), _CRI)
    return Details(
        name=found.name or annotations.get("nerdctl/name", ""),
        image=found.image,
        runtime=runtime,
        pod=found.pod,
        namespace=found.namespace,
    )


def _below_run(host: Host, state: str) -> Path:
    """Paths in /run follow Host.run, others Host.root."""
    if state.startswith("run/"):
        return host.run / state.removeprefix("run/")
    return host.root / state
