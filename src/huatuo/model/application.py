"""What runs in a container, as people know it: programs, runtimes, ports. Field names are the JSON
names; whatever may hold a secret is masked (enrich/secrets.py)."""

from __future__ import annotations

import msgspec

__all__ = ["Ancestor", "Application", "ContainerApplication", "Port", "RunningProcess"]


class Ancestor(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who started a process, or started that one."""

    pid: int
    comm: str
    command: str = ""


class Application(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of an event: the program that its process runs."""

    command: str = ""
    runtime: str = ""  # python 3.11 · node · java · go · ruby 3.1 · …; "" is native or not known
    unit: str = ""  # of systemd
    started: str = ""  # RFC 3339
    ancestors: list[Ancestor] = []  # the parent first, up to the container's first process
    environment: dict[str, str] = {}  # variables that the configuration names


class RunningProcess(msgspec.Struct, frozen=True, omit_defaults=True):
    """`parent` is 0 where that is outside of the container."""

    pid: int
    comm: str
    parent: int = 0
    local_pid: int = 0  # in its own PID namespace
    command: str = ""
    runtime: str = ""
    unit: str = ""
    started: str = ""  # RFC 3339
    threads: int = 0
    cpu_seconds: float = 0.0  # used since it started
    memory_bytes: int = 0  # resident
    environment: dict[str, str] = {}


class Port(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where something listens; for UDP: where something is bound and not connected."""

    protocol: str  # tcp · udp
    address: str
    port: int
    pid: int = 0
    comm: str = ""


class ContainerApplication(msgspec.Struct, frozen=True):
    """All of a container. `notes` say what is missing, and why."""

    processes: list[RunningProcess]  # parents before children
    ports: list[Port]
    notes: list[str] = []
