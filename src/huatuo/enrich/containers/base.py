"""What a container runtime is to us, and the helpers its modules share.

One module per source (docker.py, containerd.py, …). The inventory asks all of them:

    declared()               at the start of each scan: containers whose cgroup has any name
    recognise(name, parent)  for every new cgroup: does its name say that it is a container?
    describe(mark)           until answered: the container's name, image, pod, …

A runtime lists its directories in declared(), so that describe() costs a look-up for the many
containers that are another runtime's. Everything is read from the runtimes' own state on disk
below Host.root and Host.run; a runtime that is not installed costs a failed open.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from huatuo.kernel.host import Host

__all__ = [
    "FULL_ID",
    "Details",
    "Mark",
    "Runtime",
    "kept_labels",
    "kubernetes_details",
    "load",
    "subdirectories",
]

FULL_ID = re.compile(r"[0-9a-f]{64}")
_KEPT_LABELS = ("com.docker.compose.project", "com.docker.compose.service", "app")
_State = TypeVar("_State")


@dataclass(frozen=True, slots=True)
class Mark:
    """A cgroup that is a container. `runtime` is "" where its name does not tell."""

    path: str  # of its cgroup, below the hierarchy's root
    id: str
    runtime: str = ""
    name: str = ""  # where the id is for people already


@dataclass(frozen=True, slots=True)
class Details:
    """What a runtime knows about one container; "" is unknown."""

    name: str = ""
    image: str = ""
    runtime: str = ""
    pod: str = ""
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    started: str = ""  # RFC 3339


class Runtime(Protocol):
    """One source of containers."""

    def recognise(self, name: str, parent: str) -> Mark | None:
        """The container whose cgroup is called `name` in the cgroup `parent` ("" for the root)."""

    def declared(self) -> Mapping[str, Mark]:
        """Cgroup path → container, for those whose cgroup's name tells nothing.

        On v1 the path in the blkio hierarchy may be another one than Mark.path; then both are keys.
        """

    def describe(self, mark: Mark) -> Details | None:
        """None if this source does not know it (yet)."""


def subdirectories(directory: Path | str) -> list[tuple[str, str]]:
    """(name, path) of each; none if the directory is not there."""
    try:
        with os.scandir(directory) as entries:
            return [(e.name, e.path) for e in entries if e.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def load(host: Host, path: Path | str, kind: type[_State]) -> _State | None:
    """A runtime's JSON file, or None where it is absent, half-written or of another form."""
    try:
        return msgspec.json.decode(host.read(Path(path)), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None


def kept_labels(labels: Mapping[str, str] | None) -> dict[str, str]:
    """The labels worth keeping with every event."""
    return {key: labels[key] for key in _KEPT_LABELS if key in labels} if labels else {}


def kubernetes_details(annotations: Callable[[str], str], keys: Mapping[str, str]) -> Details:
    """Details from annotations or labels; `keys` says what each is called in this runtime."""
    name = annotations(keys["name"])
    if annotations(keys["type"]) in ("sandbox", "podsandbox"):
        name = "pause"
    return Details(
        name=name,
        image=annotations(keys["image"]),
        pod=annotations(keys["pod"]),
        namespace=annotations(keys["namespace"]),
    )
