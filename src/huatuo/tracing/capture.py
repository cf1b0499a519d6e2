"""Collecting for a while what is too dear to collect always, for one target.

A plan names the profilers; each capture has probes, an unwinder and a store of its own, so that
its samples do not mix with those that are always taken.
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

from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.profiling import Profiling
from huatuo.enrich.symbols.kernel import KernelSymbols
from huatuo.enrich.symbols.native import SymbolSettings
from huatuo.errors import HuatuoError, KernelLacks
from huatuo.kernel.host import Host
from huatuo.model.incident import SleepingTask
from huatuo.model.profile import Profile
from huatuo.probes.base import discover
from huatuo.probes.profiler import Profiler
from huatuo.probes.running import ProbeSet
from huatuo.store.embedded import EmbeddedStore
from huatuo.store.profiles import ProfileQuery

__all__ = ["PROFILERS", "Captured", "Stopped", "collect", "sleeping_tasks"]

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
_STORE_BYTES = 64 << 20
_MOST_TASKS = 64
_PASSES = 20  # of profile.blocked, per second
_TOLD_AFTER = {"report_after": 0.05, "look_every": 0.8}  # setting → share of the duration


class Stopped(HuatuoError):  # noqa: N818  (reads as a sentence)
    """Somebody, or the end of the agent, stopped the capture."""


class Captured(NamedTuple):
    """`notes`: what could not be collected, and why. `cpu_seconds`: of the calling thread."""

    profiles: dict[str, Profile]
    tasks: list[SleepingTask]
    notes: list[str]
    cpu_seconds: float


def collect(host: Host, kernel: KernelSymbols, symbols: Path, plan: str, container: str,
            seconds: float, samples: int, stop: threading.Event) -> Captured:  # fmt: skip
    """Blocks; `container` as profiles name it, "" for the whole host. Raises KernelLacks if
    nothing of the plan can run here, Stopped, OSError."""
    began = time.thread_time()
    names = [f"profile.{kind}" for kind in PROFILERS[plan]]
    missing = {name: discover()[name].unavailable(host) for name in names}
    notes = [f"{name}: {why}" for name, why in missing.items() if why]
    names = [name for name in names if not missing[name]]
    tasks = sleeping_tasks(host) if plan in ("io", "tasks") else []
    if not names and plan not in ("io", "tasks"):
        raise KernelLacks("; ".join(notes))
    profiles: dict[str, Profile] = {}
    if names:
        with ExitStack() as stack:
            run = _Run(stack, host, kernel, symbols, container, stop)
            run.start(names, seconds, samples)
            run.watch(min(_WARM_UP_SECONDS, seconds / 4))
            run.profiling.samples()  # of code whose unwind rows were not there yet: thrown away
            run.watch(seconds)
            profiles = run.profiles([name.removeprefix("profile.") for name in names])
    known = {(task.pid, task.tid) for task in tasks}
    if plan in ("io", "tasks"):
        tasks += [t for t in sleeping_tasks(host) if (t.pid, t.tid) not in known]
    return Captured(profiles, tasks[:_MOST_TASKS], notes, time.thread_time() - began)


class _Run:
    def __init__(self, stack: ExitStack, host: Host, kernel: KernelSymbols, symbols: Path,
                 container: str, stop: threading.Event) -> None:  # fmt: skip
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="huatuo-capture-")))
        self._host, self._stack, self._stop = host, stack, stop
        self._inventory = Inventory(host)
        self._inventory.refresh()
        shared = symbols if os.access(symbols, os.W_OK) else work / "symbols"
        only = {"container": container} if container else None
        self.profiling = Profiling(host, self._inventory, kernel, shared, SymbolSettings(), only)
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
            if self._stop.is_set():
                raise Stopped("it was stopped")
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

    def profiles(self, types: list[str]) -> dict[str, Profile]:
        for batch in self.profiling.samples():
            self._store.profiles.append(batch)
        end = time.monotonic() + _SYMBOL_SECONDS
        while not self.profiling.symbols.settle(1.0) and time.monotonic() < end:
            if self._stop.is_set():
                raise Stopped("it was stopped")
        self._store.profiles.set_lines(self.profiling.repairs())
        return {name: self._store.profiles.merge(ProfileQuery(name)) for name in types}


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
