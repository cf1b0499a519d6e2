"""Collecting for a while what is too dear to collect always, for one target.

A plan names the profilers; each capture has a process with probes, an unwinder and a store of its
own, so that its samples do not mix with those that are always taken, and its memory is given back.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from huatuo.enrich.watched import Watched
from huatuo.errors import HuatuoError, KernelLacks
from huatuo.kernel.host import Host
from huatuo.kernel.worker import Limits, Worker
from huatuo.model.incident import SleepingTask
from huatuo.model.profile import Profile
from huatuo.probes.base import discover
from huatuo.store.embedded import EmbeddedStore
from huatuo.store.profiles import ProfileQuery
from huatuo.tracing.recording import Recording

__all__ = ["PROFILERS", "Captured", "Stopped", "collect", "collected", "sleeping_tasks"]

PROFILERS: Mapping[str, tuple[str, ...]] = {
    "cpu": ("cpu", "blocked"),
    "io": ("blocked",),
    "memory": ("allocated", "cpu"),
    "network": ("cpu",),
    "tasks": ("blocked",),
}
_WARM_UP_SECONDS = 0.5
_SYMBOL_SECONDS = 20.0
_START_SECONDS = 30.0
_WAIT_SECONDS = 0.1
_STORE_BYTES = 64 << 20
_MEMORY_BYTES = 1 << 30
_MOST_TASKS = 64
_PASSES = 20  # of profile.blocked, per second


class Stopped(HuatuoError):  # noqa: N818  (reads as a sentence)
    """Somebody, or the end of the agent, stopped the capture."""


class Captured(NamedTuple):
    """`notes`: what could not be collected, and why. `cpu_seconds`: of the process that did it."""

    profiles: dict[str, Profile]
    tasks: list[SleepingTask]
    notes: list[str]
    cpu_seconds: float


def collect(symbols: Path, plan: str, container: str, seconds: float, samples: int,
            watched: Mapping[str, Any], stop: threading.Event) -> Captured:  # fmt: skip
    """In a process of its own, which gives its memory back and can be ended at once. Blocks.

    `container` as profiles name it, "" for the whole host; `watched`: Watched.texts. Raises
    KernelLacks if nothing of the plan can run here, Stopped, OSError, HuatuoError.
    """
    with tempfile.TemporaryDirectory(prefix="huatuo-capture-") as work:
        wall = int(seconds + _SYMBOL_SECONDS + _START_SECONDS)
        limits = Limits(wall, wall, memory_bytes=_MEMORY_BYTES, nice=0)
        arguments = {"work": work, "symbols": str(symbols), "plan": plan, "container": container,
                     "seconds": seconds, "samples": samples, "watched": watched}  # fmt: skip
        worker = Worker(collected, arguments, limits=limits)
        while (outcome := worker.poll()) is None:
            if stop.wait(_WAIT_SECONDS):
                worker.kill()
                raise Stopped("it was stopped")
        if outcome.problem or not outcome.results:
            raise HuatuoError(f"the process that captured {outcome.problem or 'said nothing'}")
        told = msgspec.convert(outcome.results[-1], _Told)
        if told.lacks:
            raise KernelLacks(told.lacks)
        profiles = _stored(Path(work), told.types) if told.types else {}
        return Captured(profiles, told.tasks, told.notes, outcome.cpu_seconds)


def _stored(work: Path, types: list[str]) -> dict[str, Profile]:
    store = EmbeddedStore.open_readonly(work / "store")
    try:
        return {name: store.profiles.merge(ProfileQuery(name)) for name in types}
    finally:
        store.close()


class _Told(msgspec.Struct):
    """What the process says; the samples are in a store of its own."""

    types: list[str] = []
    tasks: list[SleepingTask] = []
    notes: list[str] = []
    lacks: str = ""


def collected(work: str, symbols: str, plan: str, container: str, seconds: float,
              samples: int, watched: Mapping[str, Any]) -> Iterator[object]:  # fmt: skip
    """All of the process's work."""
    host = Host()
    names = [f"profile.{kind}" for kind in PROFILERS[plan]]
    missing = {name: discover()[name].unavailable(host) for name in names}
    told = _Told(notes=[f"{name}: {why}" for name, why in missing.items() if why])
    names = [name for name in names if not missing[name]]
    of_tasks = plan in ("io", "tasks")
    tasks = {task.tid: task for task in sleeping_tasks(host)} if of_tasks else {}
    try:
        if names:
            only = {"container": container} if container else None
            rates = {"samples_per_second": samples, "passes_per_second": _PASSES}
            with Recording(
                host, Path(work), Path(symbols), only, _STORE_BYTES, Watched(**watched)
            ) as recording:
                recording.start(names, seconds, rates)
                recording.watch(min(_WARM_UP_SECONDS, seconds / 4))
                recording.forget()
                recording.watch(seconds)
                recording.keep()
                recording.name(_SYMBOL_SECONDS)
            told.types = [name.removeprefix("profile.") for name in names]
        elif not of_tasks:
            told.lacks = "; ".join(told.notes)
    except KernelLacks as error:
        told.lacks = str(error)
    if of_tasks:
        tasks = {task.tid: task for task in sleeping_tasks(host)} | tasks
    told.tasks = list(tasks.values())[:_MOST_TASKS]
    yield msgspec.to_builtins(told)


def sleeping_tasks(host: Host) -> list[SleepingTask]:
    """Tasks in uninterruptible sleep now, with their kernel stacks where they may be read."""
    found = []
    for process in host.proc.iterdir():
        if not process.name.isdecimal():
            continue
        for directory in _entries(process / "task"):
            stat = _read(host, directory / "stat")
            if stat.rpartition(")")[2].split()[:1] == ["D"]:
                comm = stat.partition("(")[2].rpartition(")")[0]
                lines = _read(host, directory / "stack").splitlines()
                stack = [line.partition("] ")[2] for line in lines]
                found.append(SleepingTask(int(process.name), int(directory.name), comm, stack))
    return found


def _entries(directory: Path) -> Iterator[Path]:
    try:
        yield from directory.iterdir()
    except OSError:
        return  # it has ended


def _read(host: Host, path: Path) -> str:
    try:
        return host.read(path)
    except (OSError, HuatuoError):
        return ""
