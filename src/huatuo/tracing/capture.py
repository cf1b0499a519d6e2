"""Collecting for a while what is too dear to collect always, for one target.

A plan names the profilers; each capture has a process with probes, an unwinder and a store of its
own, so that its samples do not mix with those that are always taken, and its memory is given back.
"""

from __future__ import annotations

import os
import select
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import msgspec

from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.profiling import Profiling
from huatuo.enrich.symbols.kernel import KernelSymbols
from huatuo.enrich.symbols.native import SymbolSettings
from huatuo.errors import HuatuoError, KernelLacks
from huatuo.kernel.host import Host
from huatuo.kernel.worker import Limits, Worker
from huatuo.model.incident import SleepingTask
from huatuo.model.profile import Profile
from huatuo.probes.base import discover
from huatuo.probes.profiler import Profiler
from huatuo.probes.running import ProbeSet
from huatuo.store.embedded import EmbeddedStore
from huatuo.store.profiles import ProfileQuery

__all__ = ["PROFILERS", "Captured", "Stopped", "collect", "collected", "sleeping_tasks"]

PROFILERS: Mapping[str, tuple[str, ...]] = {
    "cpu": ("cpu", "blocked"),
    "io": ("blocked",),
    "memory": ("allocated", "cpu"),
    "network": ("cpu",),
    "tasks": ("blocked",),
}
_POLL_SECONDS = 0.2
_WARM_UP_SECONDS = 0.5
_SYMBOL_SECONDS = 20.0
_START_SECONDS = 30.0
_WAIT_SECONDS = 0.1
_STORE_BYTES = 64 << 20
_MEMORY_BYTES = 1 << 30
_MOST_TASKS = 64
_PASSES = 20  # of profile.blocked, per second
_TOLD_AFTER = {"report_after": 0.05, "look_every": 0.8}  # setting → share of the duration


class Stopped(HuatuoError):  # noqa: N818  (reads as a sentence)
    """Somebody, or the end of the agent, stopped the capture."""


class Captured(NamedTuple):
    """`notes`: what could not be collected, and why. `cpu_seconds`: of the process that did it."""

    profiles: dict[str, Profile]
    tasks: list[SleepingTask]
    notes: list[str]
    cpu_seconds: float


def collect(symbols: Path, plan: str, container: str, seconds: float, samples: int,
            stop: threading.Event) -> Captured:  # fmt: skip
    """In a process of its own, which gives its memory back and can be ended at once. Blocks.

    `container` as profiles name it, "" for the whole host. Raises KernelLacks if nothing of the
    plan can run here, Stopped, OSError, HuatuoError.
    """
    with tempfile.TemporaryDirectory(prefix="huatuo-capture-") as work:
        wall = int(seconds + _SYMBOL_SECONDS + _START_SECONDS)
        limits = Limits(wall, wall, memory_bytes=_MEMORY_BYTES, nice=0)
        arguments = {"work": work, "symbols": str(symbols), "plan": plan, "container": container,
                     "seconds": seconds, "samples": samples}  # fmt: skip
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
              samples: int) -> Iterator[object]:  # fmt: skip
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
            with ExitStack() as stack:
                run = _Run(stack, host, Path(work), Path(symbols), container)
                run.start(names, seconds, samples)
                run.watch(min(_WARM_UP_SECONDS, seconds / 4))
                run.profiling.samples()  # of code whose rows were not there yet: thrown away
                run.watch(seconds)
                run.store()
            told.types = [name.removeprefix("profile.") for name in names]
        elif not of_tasks:
            told.lacks = "; ".join(told.notes)
    except KernelLacks as error:
        told.lacks = str(error)
    if of_tasks:
        tasks = {task.tid: task for task in sleeping_tasks(host)} | tasks
    told.tasks = list(tasks.values())[:_MOST_TASKS]
    yield msgspec.to_builtins(told)


class _Run:
    def __init__(self, stack: ExitStack, host: Host, work: Path, symbols: Path,
                 container: str) -> None:  # fmt: skip
        self._host, self._stack = host, stack
        self._inventory = Inventory(host)
        self._inventory.refresh()
        shared = symbols if os.access(symbols, os.W_OK) else work / "symbols"
        only = {"container": container} if container else None
        settings = SymbolSettings(limits=Limits(nice=0))
        kernel = KernelSymbols(host)
        self.profiling = Profiling(host, self._inventory, kernel, shared, settings, only)
        stack.callback(self.profiling.close)
        self._store = EmbeddedStore(work / "store", max_bytes=_STORE_BYTES, max_age_seconds=86400)
        stack.callback(self._store.close)

    def start(self, names: list[str], seconds: float, samples: int) -> None:
        self._probes = ProbeSet(self._host, names, _settings(names, seconds, samples))
        self._stack.callback(self._probes.stop)
        self._probes.start()

    def watch(self, seconds: float) -> None:
        unwinder = self._probes.unwinder
        assert unwinder is not None
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            select.select(unwinder.urgent_fds, [], [], min(left, _POLL_SECONDS))
            unwinder.serve()
            self._take()
            self._inventory.look_again()
        self._take()

    def _take(self) -> None:
        for cls, batch in self._probes.drain():
            if issubclass(cls, Profiler):
                self.profiling.take(cls, batch)
        if self._probes.unwinder is not None:
            self.profiling.take_stacks(self._probes.unwinder)

    def store(self) -> None:
        """All samples, with the names that are found in time."""
        for batch in self.profiling.samples():
            self._store.profiles.append(batch)
        self.profiling.symbols.settle(_SYMBOL_SECONDS)
        self._store.profiles.set_lines(self.profiling.repairs())


def _settings(names: list[str], seconds: float, samples: int) -> dict[str, dict[str, int]]:
    """High rates, and nothing of importance untold when it ends."""
    rates = {"samples_per_second": samples, "passes_per_second": _PASSES}
    found: dict[str, dict[str, int]] = {}
    for name in names:
        found[name] = {}
        for setting in discover()[name].settings_schema():
            if setting.name in rates:
                found[name][setting.name] = rates[setting.name]
            elif share := _TOLD_AFTER.get(setting.name):
                found[name][setting.name] = int(min(setting.default, seconds * share * 1e9))
    return found


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
