"""Podman and CRI-O: both keep their containers in containers/storage.

Cgroups: libpod-<id>.scope (with an inner cgroup `container`), libpod_parent/libpod-<id>,
crio-<id>.scope, crio-<id>. The monitors beside them (…-conmon-<id>) are no containers.
State: <storage>/overlay-containers/containers.json, and volatile-containers.json on tmpfs for
those that vanish with a reboot; rootless storage is in the user's home.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property

import msgspec

from huatuo.enrich.containers.base import FULL_ID, Details, Kept, Mark, kubernetes_details
from huatuo.enrich.containers.state import State

__all__ = ["Podman"]

_NAME = re.compile(r"(?:.*:)?(libpod|crio)[-:]([0-9a-f]{64})(?:\.scope)?")
_RUNTIMES = {"libpod": "podman", "crio": "cri-o"}
_USER = re.compile(r"/user-([0-9]+)\.slice/")
_DRIVERS = ("overlay", "vfs", "btrfs")
_KUBERNETES = {
    "name": "io.kubernetes.container.name",
    "type": "io.kubernetes.cri-o.ContainerType",
    "image": "io.kubernetes.cri-o.ImageName",
    "pod": "io.kubernetes.pod.name",
    "namespace": "io.kubernetes.pod.namespace",
    "uid": "io.kubernetes.pod.uid",
}
_CRIO_LABELS = "io.kubernetes.cri-o.Labels"  # JSON
_NONE: Mapping[str, Mark] = {}


class _Stored(msgspec.Struct):
    id: str
    names: list[str] | None = None
    metadata: str = ""  # JSON in JSON
    created: str = ""


class _Metadata(msgspec.Struct, rename="kebab"):
    image_name: str = ""
    name: str = ""


class _Spec(msgspec.Struct):
    annotations: dict[str, str] | None = None


class Podman:
    def __init__(self, state: State, kept: Kept) -> None:
        self._state, self._kept = state, kept
        self._files: dict[str, tuple[int, dict[str, _Stored]]] = {}
        self._users: set[str] = set()  # uids whose rootless containers have been seen
        self._stored: dict[str, tuple[str, _Stored]] | None = None  # by id, as of this scan

    @cached_property
    def _root(self) -> str:
        """Root's storage: as configured, else the default."""
        try:
            text = self._state.read("etc/containers/storage.conf").decode()
            configured = str(tomllib.loads(text)["storage"]["graphroot"])
        except (OSError, ValueError, LookupError, TypeError):
            configured = "/var/lib/containers/storage"
        return configured.lstrip("/")

    def recognise(self, name: str, parent: str) -> Mark | None:
        found = _NAME.fullmatch(name)
        if found:
            return Mark(f"{parent}/{name}", found[2], _RUNTIMES[found[1]])
        return None

    def declared(self) -> Mapping[str, Mark]:
        self._stored = None
        return _NONE

    def describe(self, mark: Mark) -> Details | None:
        if mark.runtime not in ("", *_RUNTIMES.values()) or not FULL_ID.fullmatch(mark.id):
            return None
        user = _USER.search(mark.path)
        if user and user[1] not in self._users:
            self._users.add(user[1])
            self._stored = None
        if self._stored is None:
            self._stored = self._read()
        storage, stored = self._stored.get(mark.id, ("", None))
        return self._details(mark, storage, stored) if stored else None

    def _read(self) -> dict[str, tuple[str, _Stored]]:
        """Every container of every storage; files that have not changed are not read again."""
        found: dict[str, tuple[str, _Stored]] = {}
        for root in self._storages():
            for driver in _DRIVERS:
                storage = f"{root}/{driver}-containers"
                for name in ("volatile-containers.json", "containers.json"):
                    for container_id, stored in self._containers(f"{storage}/{name}").items():
                        found[container_id] = (storage, stored)
        return found

    def _storages(self) -> Iterator[str]:
        """Root's, and those of the users that have been seen."""
        yield self._root
        yield "run/containers/storage"
        for uid in self._users:
            if home := self._home(uid):
                yield f"{home}/.local/share/containers/storage"
            yield f"run/user/{uid}/containers"

    def _home(self, uid: str) -> str:
        try:
            users = self._state.read("etc/passwd").decode(errors="replace").splitlines()
        except OSError:
            return ""
        for user in users:
            parts = user.split(":")
            if len(parts) > 5 and parts[2] == uid:
                return parts[5].lstrip("/")
        return ""

    def _containers(self, path: str) -> dict[str, _Stored]:
        """The file's containers by id; read again when it has changed."""
        changed = self._state.changed_ns(path)
        if not changed:
            self._files.pop(path, None)
            return {}
        known = self._files.get(path)
        if known is None or known[0] != changed:
            stored = self._state.load(path, list[_Stored]) or []
            known = self._files[path] = (changed, {entry.id: entry for entry in stored})
        return known[1]

    def _details(self, mark: Mark, storage: str, stored: _Stored) -> Details:
        try:
            metadata = msgspec.json.decode(stored.metadata or "{}", type=_Metadata)
        except msgspec.MsgspecError:
            metadata = _Metadata()
        spec = self._state.load(f"{storage}/{mark.id}/userdata/config.json", _Spec)
        annotations = (spec.annotations if spec else None) or {}
        pod = kubernetes_details(lambda key: annotations.get(key, ""), _KUBERNETES)
        name = stored.names[0] if stored.names else metadata.name
        return replace(
            pod,
            name=pod.name or name,
            image=pod.image or metadata.image_name,
            runtime=mark.runtime or "podman",
            labels=self._kept.labels(_labels(annotations)),
            annotations=self._kept.annotations(annotations),
            started=stored.created,
        )


def _labels(annotations: Mapping[str, str]) -> Mapping[str, str]:
    """CRI-O keeps labels as JSON in an annotation."""
    try:
        return msgspec.json.decode(annotations.get(_CRIO_LABELS) or "{}", type=dict[str, str])
    except msgspec.MsgspecError:
        return {}
