"""What runs in a container: for events the program of their process, for its page all of it.

Read when somebody asks, in threads that may be given up (a process can be stuck so that not even
its command line can be read), for so many processes and so long at most. What cannot change while
a process runs is kept by its pid and start time.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from ipaddress import IPv6Address
from shlex import quote
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np

from huatuo.enrich.containers.base import Kept
from huatuo.enrich.runtimes import runtime_of
from huatuo.enrich.secrets import masked_command, masked_variables
from huatuo.errors import HuatuoError
from huatuo.kernel import process
from huatuo.kernel.cgroupfs import hierarchies
from huatuo.kernel.host import Host
from huatuo.kernel.inet_diag import listeners
from huatuo.kernel.netns import in_netns
from huatuo.kernel.questions import Questions
from huatuo.model.application import (
    Ancestor,
    Application,
    ContainerApplication,
    Port,
    RunningProcess,
)
from huatuo.model.event import Container, Event

__all__ = ["Applications"]

_WAIT_SECONDS, _PAGE_SECONDS = 0.1, 2.0
_OF_EVENTS, _OF_CONTAINER = 64, 256  # processes that are looked at, at once
_GENERATIONS = 16
_OPEN_FILES = 4096  # of all processes of a container together
_PORTS = 128
_KEPT = 4096
_LONGEST, _LONGEST_WORD = 1000, 200  # characters of a command line, and of an argument
_BLANK = re.compile(r"\s+")
_NOBODY = (OSError, ValueError, IndexError, HuatuoError)  # gone, or not as the kernel writes it


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class _Program(NamedTuple):
    """What does not change while a process runs, unless it becomes another program."""

    comm: str
    command: str
    runtime: str
    unit: str
    environment: dict[str, str]


class Applications:
    """`environment`: names or patterns of variables that may be shown, with spaces between.

    `complete` is for one thread at a time, `of_container` for any.
    """

    def __init__(self, host: Host, environment: str = "") -> None:
        self._host = host
        self._environment = Kept(environment)
        self._programs: OrderedDict[tuple[int, int, str], _Program] = OrderedDict()
        self._known: OrderedDict[tuple[str, int, str], Application] = OrderedDict()
        self._lock = threading.Lock()
        self._events = Questions(self._application)
        self._pages = Questions(self._container)

    # -- events --------------------------------------------------------------------------------

    def complete(self, events: Sequence[Event]) -> list[Event]:
        """With the application of each event's process, where it still runs; waits for it, but not
        long."""
        asked = dict.fromkeys(filter(None, map(_question, events)))
        if not asked:
            return list(events)
        self._events.ask(list(asked)[:_OF_EVENTS], _WAIT_SECONDS)
        return [self._completed(event) for event in events]

    def _completed(self, event: Event) -> Event:
        found = self._events.answers.get(_question(event))
        if not isinstance(found, Application) or found.started[:19] > event.time[:19]:
            return event  # gone; its number may be another's by now
        return msgspec.structs.replace(event, application=found)

    def _application(self, question: str) -> Application:
        pid, _, top = question.partition(" ")
        try:
            of = process.stat(self._host, int(pid))
            key = question, of.started_ticks, of.comm
            return self._known.get(key) or _kept(self._known, key, self._read(int(pid), of, top))
        except _NOBODY as error:
            raise OSError(str(error)) from error

    def _read(self, pid: int, of: process.Stat, top: str) -> Application:
        program = self._program(pid, of)
        return Application(
            command=program.command,
            runtime=program.runtime,
            unit=program.unit,
            started=self._time(of),
            ancestors=list(self._ancestors(pid, of.parent, top)),
            environment=program.environment,
        )

    def _ancestors(self, pid: int, parent: int, top: str) -> Iterator[Ancestor]:
        """Those in the cgroup `top` or below it; all of them if it is ""."""
        for _ in range(_GENERATIONS):
            if parent <= 0 or (top and process.local_pid(self._host, pid) == 1):
                return
            pid = parent
            paths = process.cgroup_paths(self._host, pid).values() if top else ()
            if top and not any(path == top or path.startswith(f"{top}/") for path in paths):
                return
            of = process.stat(self._host, pid)
            yield Ancestor(pid, _printable(of.comm), self._program(pid, of).command)
            parent = of.parent

    # -- pages ---------------------------------------------------------------------------------

    def of_container(self, container: Container) -> ContainerApplication:
        """All that runs in a cgroup that is there."""
        with self._lock:
            self._pages.ask([container.cgroup], _PAGE_SECONDS)
            found = self._pages.answers.get(container.cgroup)
        if isinstance(found, ContainerApplication):
            return found
        why = (
            str(found) if found else "one of its processes is stuck: it does not let itself be read"
        )
        return ContainerApplication([], [], [why])

    def _container(self, path: str) -> ContainerApplication:
        root = hierarchies(self._host).identity
        pids = process.processes_below(f"{root}{path}", _OF_CONTAINER + 1)
        notes = [f"only {_OF_CONTAINER} processes are shown"] if len(pids) > _OF_CONTAINER else []
        found: dict[int, RunningProcess] = {}
        for pid in pids[:_OF_CONTAINER]:
            try:
                found[pid] = self._running(pid)
            except _NOBODY:
                continue  # gone meanwhile
        ports, more = self._ports(list(found.values()))
        return ContainerApplication(_in_order(found), ports, notes + more)

    def _running(self, pid: int) -> RunningProcess:
        of = process.stat(self._host, pid)
        program, local = self._program(pid, of), process.local_pid(self._host, pid)
        return RunningProcess(
            pid=pid,
            comm=_printable(of.comm),
            parent=of.parent,
            local_pid=local if local != pid else 0,
            command=program.command,
            runtime=program.runtime,
            unit=program.unit,
            started=self._time(of),
            threads=of.threads,
            cpu_seconds=of.cpu_ticks / self._host.ticks_per_second,
            memory_bytes=of.resident_pages * self._host.page_size,
            environment=program.environment,
        )

    def _ports(self, running: Sequence[RunningProcess]) -> tuple[list[Port], list[str]]:
        """Listening sockets that these processes have open, in whichever namespaces they are."""
        holders: dict[int, RunningProcess] = {}
        spaces: dict[int, int] = {}  # network namespace → a process in it
        left = _OPEN_FILES
        for each in running:
            try:
                space = (self._host.proc / str(each.pid) / "ns/net").stat().st_ino
                inodes = process.sockets(self._host, each.pid, left)
            except OSError:
                continue
            spaces.setdefault(space, each.pid)
            left -= len(inodes)
            holders |= {inode: holders.get(inode, each) for inode in inodes}
        ports, notes = [], []
        for pid in spaces.values():
            try:
                ports += list(self._listening(pid, holders))
            except _NOBODY as error:
                notes.append(f"ports cannot be read: {error}")
        return sorted(ports, key=lambda p: (p.port, p.protocol, p.address))[:_PORTS], notes

    def _listening(self, pid: int, holders: dict[int, RunningProcess]) -> Iterator[Port]:
        for each in in_netns(f"{self._host.proc}/{pid}/ns/net", listeners):
            if holder := holders.get(each.inode):
                yield Port("tcp", _address(each.address), each.port, holder.pid, holder.comm)
        for bound in process.bound_udp(self._host, pid):
            if holder := holders.get(bound.inode):
                yield Port("udp", _address(bound.address), bound.port, holder.pid, holder.comm)

    # -- processes -----------------------------------------------------------------------------

    def _program(self, pid: int, of: process.Stat) -> _Program:
        """Kept until the process calls itself otherwise, as it does when it becomes a program."""
        key = pid, of.started_ticks, of.comm
        found = self._programs.get(key)
        return found or _kept(self._programs, key, self._read_program(pid, of))

    def _read_program(self, pid: int, of: process.Stat) -> _Program:
        words = masked_command(process.arguments(self._host, pid))
        if len(words) == 1:  # what calls itself otherwise, with spaces
            command = words[0]
        else:
            command = " ".join(quote(_cut(word, _LONGEST_WORD)) for word in words)
        chosen: dict[str, str] = {}
        if self._environment.chooses_labels:
            with suppress(OSError):  # not ours to see
                chosen = self._environment.labels(dict(process.variables(self._host, pid)))
        paths = process.cgroup_paths(self._host, pid)
        unit = paths.get("name=systemd", paths.get("", "")).rpartition("/")[2]
        return _Program(
            of.comm,
            _cut(command, _LONGEST),
            runtime_of(self._host, pid),
            _printable(unit) if unit.endswith((".service", ".scope")) else "",
            {name: _printable(value) for name, value in masked_variables(chosen).items()},
        )

    def _time(self, of: process.Stat) -> str:
        """When it was started, as RFC 3339; processes count from the boot, as CLOCK_BOOTTIME."""
        since_boot = of.started_ticks * 1_000_000_000 // self._host.ticks_per_second
        utc = since_boot + self._host.boot_offset_ns()
        return f"{np.datetime64(utc // 1_000_000_000, 's')}Z"


def _kept(known: OrderedDict[_Key, _Value], key: _Key, value: _Value) -> _Value:
    known[key] = value
    while len(known) > _KEPT:
        known.popitem(last=False)
    return value


def _question(event: Event) -> str:
    """What to ask for an event: its process, and where its container ends."""
    if event.process is None or event.process.pid <= 0:
        return ""
    owner = event.container
    inside = owner.cgroup if owner is not None and owner.kind == "container" else ""
    return f"{event.process.pid} {inside}"


def _in_order(found: dict[int, RunningProcess]) -> list[RunningProcess]:
    """Parents before children; those whose parent is outside first."""
    below: dict[int, list[RunningProcess]] = {}
    for each in found.values():
        inside = each.parent if each.parent in found and each.parent != each.pid else 0
        shown = each if inside else msgspec.structs.replace(each, parent=0)
        below.setdefault(inside, []).append(shown)
    ordered: list[RunningProcess] = []
    pending = list(reversed(below.get(0, [])))
    while pending:
        each = pending.pop()
        ordered.append(each)
        pending += reversed(below.pop(each.pid, []))
    return ordered


def _printable(text: str) -> str:
    """Whatever a process calls itself, a terminal shows it and does not obey it."""
    text = _BLANK.sub(" ", text)
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def _cut(text: str, most: int) -> str:
    text = _printable(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _address(raw: bytes) -> str:
    address = IPv6Address(raw)
    return str(address.ipv4_mapped or address)
