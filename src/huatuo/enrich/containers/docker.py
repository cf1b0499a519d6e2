"""Docker (moby), with or without systemd as cgroup driver, from its state on disk.

Cgroups: …/docker-<id>.scope, /docker/<id>, and <id> below any --cgroup-parent.
State: <data-root>/containers/<id>/config.v2.json, written before the container starts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import msgspec

from huatuo.enrich.containers.base import (
    Details,
    Mark,
    kept_labels,
    kubernetes_details,
    load,
    subdirectories,
)
from huatuo.kernel.host import Host

__all__ = ["Docker"]

_NAME = re.compile(r"(?:.*:)?docker[-:]([0-9a-f]{64})(?:\.scope)?")
_ROOTS = ("var/lib/docker", "var/snap/docker/common/var-lib-docker")
_KUBERNETES = {
    "name": "io.kubernetes.container.name",
    "type": "io.kubernetes.docker.type",
    "image": "",
    "pod": "io.kubernetes.pod.name",
    "namespace": "io.kubernetes.pod.namespace",
}


class _Config(msgspec.Struct, rename="pascal"):
    image: str = ""
    labels: dict[str, str] | None = None


class _Running(msgspec.Struct, rename="pascal"):
    started_at: str = ""


class _Container(msgspec.Struct, rename="pascal"):
    name: str = ""
    config: _Config | None = None
    state: _Running | None = None


class _Daemon(msgspec.Struct, rename="kebab"):
    data_root: str = ""


class Docker:
    def __init__(self, host: Host) -> None:
        self._host = host
        self._states: dict[str, str] = {}  # id → state directory

    @cached_property
    def _roots(self) -> list[Path]:
        configured = load(self._host, self._host.root / "etc/docker/daemon.json", _Daemon)
        chosen = [configured.data_root.lstrip("/")] if configured and configured.data_root else []
        return [self._host.root / root for root in (*chosen, *_ROOTS)]

    def recognise(self, name: str, parent: str) -> Mark | None:
        found = _NAME.fullmatch(name)
        if found:
            return Mark(f"{parent}/{name}", found[1], "docker")
        return None

    def declared(self) -> Mapping[str, Mark]:
        self._states = dict(
            entry for root in self._roots for entry in subdirectories(root / "containers")
        )
        return {}

    def describe(self, mark: Mark) -> Details | None:
        directory = self._states.get(mark.id)
        if directory is None:
            return None
        state = load(self._host, f"{directory}/config.v2.json", _Container)
        return _details(state) if state else None


def _details(state: _Container) -> Details:
    config = state.config or _Config()
    labels = config.labels or {}
    pod = kubernetes_details(lambda key: labels.get(key, ""), _KUBERNETES)
    started = state.state.started_at if state.state else ""
    return Details(
        name=pod.name or state.name.lstrip("/"),
        image=config.image,
        runtime="docker",
        pod=pod.pod,
        namespace=pod.namespace,
        labels=kept_labels(labels),
        started="" if started.startswith("0001") else started,
    )
