"""What a container runtime is to us, and what its modules share.

One module per runtime, which reads what it keeps on disk; what daemons say (sources/) looks like
one more of them. The inventory asks all:

    recognise(name, parent)  for every new cgroup: does its name say that it is a container?
    declared()               containers whose cgroup may have any name
    describe(mark)           until answered: the container's name, image, pod, …

A runtime that is not installed costs a failed open.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import translate
from typing import Protocol

from huatuo.model.event import Container

__all__ = [
    "FULL_ID",
    "NOTHING",
    "Details",
    "Kept",
    "Mark",
    "Runtime",
    "kubernetes_details",
    "merged",
]

FULL_ID = re.compile(r"[0-9a-f]{64}")
_LONGEST = 256  # characters of a label or an annotation
_MOST = 32  # labels of one container


@dataclass(frozen=True, slots=True)
class Mark:
    """A cgroup that is a container. `runtime` is "" where its name does not tell; `scope` is
    containerd's namespace where users choose ids, which are unique within it only."""

    path: str  # of its cgroup, below the hierarchy's root
    id: str
    runtime: str = ""
    name: str = ""  # where the id is for people already
    scope: str = ""
    pod_uid: str = ""
    qos: str = ""

    @property
    def key(self) -> str:
        """Unique on a host."""
        return self.id if FULL_ID.fullmatch(self.id) else f"{self.runtime}/{self.scope}/{self.id}"


@dataclass(frozen=True, slots=True)
class Details:
    """What a runtime knows about one container; "" is unknown."""

    name: str = ""
    image: str = ""
    runtime: str = ""
    pod: str = ""
    namespace: str = ""
    pod_uid: str = ""
    node: str = ""
    workload: str = ""  # Deployment/web
    qos: str = ""  # guaranteed · burstable · besteffort
    type: str = ""  # normal · init · sidecar · ephemeral · pause
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    started: str = ""  # RFC 3339


NOTHING = Details()
_FIELDS = [each.name for each in fields(Details)]


class Runtime(Protocol):
    """One source of containers."""

    def recognise(self, name: str, parent: str) -> Mark | None:
        """The container whose cgroup is called `name` in the cgroup `parent` ("" for the root)."""

    def declared(self) -> Mapping[str, Mark]:
        """Cgroup path → container, for those whose cgroup's name tells nothing; the same object
        as long as nothing has changed.

        On v1 the path in the blkio hierarchy may be another one than Mark.path; then both are keys.
        """

    def describe(self, mark: Mark) -> Details | None:
        """None if this source does not know it (yet)."""


class Kept:
    """Which labels and annotations are kept with every container: names, or patterns with *."""

    def __init__(self, labels: str, annotations: str = "") -> None:
        self._labels, self._annotations = _pattern(labels), _pattern(annotations)

    @property
    def chooses_labels(self) -> bool:
        return self._labels is not None

    def labels(self, found: Mapping[str, str] | None) -> dict[str, str]:
        return _some(found, self._labels)

    def annotations(self, found: Mapping[str, str] | None) -> dict[str, str]:
        return _some(found, self._annotations)


def _pattern(words: str) -> re.Pattern[str] | None:
    return re.compile("|".join(map(translate, words.split()))) if words.strip() else None


def _some(found: Mapping[str, str] | None, pattern: re.Pattern[str] | None) -> dict[str, str]:
    if not found or pattern is None:
        return {}
    names = [name for name in found if pattern.fullmatch(name)][:_MOST]
    return {name: found[name][:_LONGEST] for name in names}


def merged(first: Details, second: Details | Container) -> Details:
    """What `first` leaves open is taken from `second`."""
    missing = {name: getattr(second, name) for name in _FIELDS if not getattr(first, name)}
    return replace(first, **missing)


def kubernetes_details(annotations: Callable[[str], str], keys: Mapping[str, str]) -> Details:
    """Details from annotations or labels; `keys` says what each is called in this runtime."""
    name = annotations(keys["name"])
    kind = "normal" if annotations(keys["pod"]) else ""
    if annotations(keys["type"]) in ("sandbox", "podsandbox"):
        name = kind = "pause"
    return Details(
        name=name,
        image=annotations(keys["image"]),
        pod=annotations(keys["pod"]),
        namespace=annotations(keys["namespace"]),
        pod_uid=annotations(keys["uid"]),
        type=kind,
    )
