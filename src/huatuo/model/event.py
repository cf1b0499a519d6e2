"""Plain data at the edge: what JSON, UI and terminal see. Field names are the JSON names."""

from __future__ import annotations

from typing import Any

import msgspec

from huatuo.model.application import Application

__all__ = ["Container", "Event", "Process"]


class Container(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whoever owns a cgroup: a container, a systemd unit, or the cgroup itself."""

    name: str
    kind: str  # container · service · scope · slice · user · cgroup · host
    cgroup: str  # path below the hierarchy's root
    id: str = ""
    image: str = ""
    runtime: str = ""  # docker · containerd · cri-o · podman · systemd
    pod: str = ""
    namespace: str = ""
    pod_uid: str = ""
    node: str = ""
    workload: str = ""  # who made the pod: Deployment/web
    qos: str = ""  # guaranteed · burstable · besteffort
    type: str = ""  # of a pod's: normal · init · sidecar · ephemeral · pause
    labels: dict[str, str] = {}  # those chosen in the configuration
    annotations: dict[str, str] = {}
    cpu_limit: float = 0.0  # cores; 0 is none
    memory_limit_bytes: int = 0
    started: str = ""  # RFC 3339
    gone: str = ""  # RFC 3339, once it is

    @property
    def full_name(self) -> str:
        """Unique on a node: names of containers are so within a pod only."""
        return f"{self.namespace}/{self.pod}/{self.name}" if self.pod else self.name


class Process(msgspec.Struct, frozen=True, omit_defaults=True):
    pid: int
    comm: str
    tid: int = 0


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One enriched record. `fields` are the C struct's members under their JSON names."""

    time: str  # RFC 3339 UTC, nanoseconds
    probe: str  # memory.oom
    kind: str  # the ring: kills
    title: str  # one sentence for people
    id: int = 0  # given by the store, ascending
    container: Container | None = None  # the event's subject
    process: Process | None = None
    fields: dict[str, Any] = {}
    stack: list[str] = []  # kernel frames, innermost first: symbol+0x12
    known: str = ""  # what is known of such events already: the note of a rule [[known]]
    application: Application | None = None  # what the process is, if it still ran
