"""Docker (moby), with or without systemd as cgroup driver, from its state on disk.

Cgroups: …/docker-<id>.scope, /docker/<id>, and <id> below any --cgroup-parent.
State: <data-root>/containers/<id>/config.v2.json, written before the container starts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

import msgspec

from huatuo.enrich.containers.base import FULL_ID, Details, Kept, Mark, kubernetes_details
from huatuo.enrich.containers.state import State

__all__ = ["Docker", "docker_details"]

_NAME = re.compile(r"(?:.*:)?docker[-:]([0-9a-f]{64})(?:\.scope)?")
_ROOTS = ("var/lib/docker", "var/snap/docker/common/var-lib-docker")
_NONE: Mapping[str, Mark] = {}
_KUBERNETES = {
    "name": "io.kubernetes.container.name",
    "type": "io.kubernetes.docker.type",
    "image": "",
    "pod": "io.kubernetes.pod.name",
    "namespace": "io.kubernetes.pod.namespace",
    "uid": "io.kubernetes.pod.uid",
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
    def __init__(self, state: State, kept: Kept) -> None:
        self._state, self._kept = state, kept

    @cached_property
    def _roots(self) -> list[str]:
        configured = self._state.load("etc/docker/daemon.json", _Daemon)
        chosen = [configured.data_root.lstrip("/")] if configured and configured.data_root else []
        return [*chosen, *_ROOTS]

    def recognise(self, name: str, parent: str) -> Mark | None:
        found = _NAME.fullmatch(name)
        if found:
            return Mark(f"{parent}/{name}", found[1], "docker")
        return None

    def declared(self) -> Mapping[str, Mark]:
        return _NONE

    def describe(self, mark: Mark) -> Details | None:
        for root in self._roots if FULL_ID.fullmatch(mark.id) else ():
            state = self._state.load(f"{root}/containers/{mark.id}/config.v2.json", _Container)
            if state is not None:
                config = state.config or _Config()
                started = state.state.started_at if state.state else ""
                return docker_details(
                    state.name, config.image, config.labels or {}, started, self._kept
                )
        return None


def docker_details(
    name: str, image: str, labels: Mapping[str, str], started: str, kept: Kept
) -> Details:
    """What docker's state and its API say alike."""
    pod = kubernetes_details(lambda key: labels.get(key, ""), _KUBERNETES)
    return replace(
        pod,
        name=pod.name or name.lstrip("/"),
        image=image,
        runtime="docker",
        labels=kept.labels(labels),
        annotations=kept.annotations(labels),
        started="" if started.startswith("0001") else started,
    )
