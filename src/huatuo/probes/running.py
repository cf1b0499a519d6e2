"""The probes of one agent or one command: selected, started, stopped, and what became of each."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from huatuo.errors import HuatuoError, KernelLacks
from huatuo.kernel.cgroupfs import Cgroup
from huatuo.kernel.host import Host
from huatuo.model.metric import Metric
from huatuo.model.record import RecordBatch
from huatuo.probes.base import Probe, discover
from huatuo.probes.profiler import Profiler
from huatuo.profilers.native.unwinder import Unwinder

__all__ = ["Entry", "ProbeSet", "Watched"]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Entry:
    """One probe and its state. Status: off · unavailable · running · shed · failed."""

    cls: type[Probe]
    status: str = "off"
    reason: str = ""
    probe: Probe | None = None
    required: bool = False
    collect_seconds: float = 0.0  # CPU time of the last collect()
    collect_errors: int = 0
    last_error: str = ""
    hooks: list[str] = field(default_factory=list)
    has_events: bool = False

    @property
    def name(self) -> str:
        return self.cls.name


class Watched(Protocol):
    """Whose records are wanted, of a probe."""

    def excluded(self, probe: type[Probe]) -> Collection[int] | None:
        """Cgroups whose records are not, as the kernel side of the probe names them; None if no
        rule applies to the probe."""

    def kept(self, batch: RecordBatch, probe: type[Probe]) -> RecordBatch:
        """Without the records that are not."""


class ProbeSet:
    """Selection: "auto" takes what can run, a named probe must run, "-name" removes.

    `watched`: what is not wanted is suppressed, in the kernel where it is known there.
    """

    def __init__(
        self,
        host: Host,
        selection: Iterable[str] = ("auto",),
        settings: Mapping[str, Mapping[str, int]] | None = None,
        watched: Watched | None = None,
    ) -> None:
        self._host = host
        self._settings = settings or {}
        self._watched = watched
        self._targets: list[Cgroup] | None = None
        self.generation = 0  # changes with every start and stop
        self.unwinder: Unwinder | None = None  # of all profilers, once there is one
        self.entries = {name: Entry(cls) for name, cls in discover().items()}
        chosen = list(selection)
        removed = {name[1:] for name in chosen if name.startswith("-")}
        named = {name for name in chosen if not name.startswith("-") and name != "auto"}
        for entry in self.entries.values():
            entry.required = entry.name in named
            wanted = entry.required or ("auto" in chosen and entry.cls.automatic)
            if entry.name in removed:
                entry.reason = "removed in the configuration"
            elif not wanted:
                on_demand = "on demand: costs too much for always; name it in `probes` to run it"
                missing = entry.cls.unavailable(host)
                entry.reason = missing or ("" if entry.cls.automatic else on_demand)
            elif missing := entry.cls.unavailable(host):
                entry.status, entry.reason = "unavailable", missing
            else:
                entry.status = "selected"

    def start(self) -> None:
        """Start all that are selected, side by side: the verifier takes most of the time.

        Raises KernelLacks if a probe named by the user cannot.
        """
        groups = _dependent(e for e in self.entries.values() if e.status == "selected")
        with ThreadPoolExecutor(self._host.cpus, "start") as pool:
            for _ in pool.map(self._start_all, sorted(groups, key=len, reverse=True)):
                pass
        for entry in self.entries.values():
            if entry.required and entry.status != "running":
                raise KernelLacks(
                    f"{entry.name}: {entry.reason}; it is named in `probes`, so it must run: "
                    f'remove it or write "-{entry.name}"'
                )

    def _start_all(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.start_one(entry)

    def start_one(self, entry: Entry) -> bool:
        """Start one; on refusal its status and reason say why. Returns whether it runs."""
        probe = entry.cls(self._host, self._settings.get(entry.name))
        if self._targets is not None:
            probe.targets = self._current_targets
        self._exclude(probe)
        try:
            if isinstance(probe, Profiler):
                probe.unwinder = self.unwinder = self.unwinder or Unwinder(self._host)
            probe.start()
        except KernelLacks as error:
            entry.status, entry.reason = "unavailable", str(error)
        except (HuatuoError, OSError) as error:
            entry.status, entry.reason = "failed", str(error)
            log.warning("%s: cannot be started: %s", entry.name, error)
        else:
            entry.status, entry.reason, entry.probe = "running", "", probe
            entry.hooks = probe.hooks
            entry.has_events = bool(probe.ring_fds())
            self.generation += 1
        return entry.probe is not None

    def stop_one(self, entry: Entry, status: str, reason: str) -> None:
        if entry.probe is not None:
            entry.probe.stop()
            entry.probe = None
            self.generation += 1
        entry.status, entry.reason = status, reason

    def stop(self) -> None:
        for entry in self.entries.values():
            if entry.probe is not None:
                self.stop_one(entry, "off", "stopped")
        if self.unwinder is not None:
            self.unwinder.close()
            self.unwinder = None

    def set_targets(self, targets: list[Cgroup]) -> None:
        """The cgroups that readers of cgroup files report from now on; records follow suit."""
        self._targets = targets
        for _, probe in self.running():
            probe.targets = self._current_targets
            self._exclude(probe)

    def _exclude(self, probe: Probe) -> None:
        unwanted = self._watched.excluded(type(probe)) if self._watched else None
        if unwanted is not None:
            probe.exclude(unwanted)

    def _current_targets(self) -> list[Cgroup]:
        return self._targets or []

    def running(self) -> Iterator[tuple[Entry, Probe]]:
        for entry in self.entries.values():
            if entry.probe is not None:
                yield entry, entry.probe

    def look_again_seconds(self) -> float:
        """In how long `drain` must be called again, even if nothing wakes."""
        found = (probe.look_again_seconds() for _, probe in self.running())
        return max(min(found, default=math.inf), 0.0)

    def drain(self) -> Iterator[tuple[type[Probe], RecordBatch]]:
        """New records of all probes."""
        for entry, probe in list(self.running()):
            if not entry.has_events:
                continue
            with self._skipping(entry, "drained"):
                for batch in probe.drain():
                    kept = self._watched.kept(batch, entry.cls) if self._watched else batch
                    probe.excluded += len(batch) - len(kept)
                    if len(kept):
                        yield entry.cls, kept

    def collect(self) -> list[Metric]:
        """All families now; a probe that fails is skipped and counted."""
        found: list[Metric] = []
        for entry, probe in list(self.running()):
            began = time.thread_time()
            with self._skipping(entry, "collected"):
                found.extend(probe.collect())
            entry.collect_seconds = time.thread_time() - began
        return found

    @contextmanager
    def _skipping(self, entry: Entry, act: str) -> Iterator[None]:
        """One probe's fault, even a bug of ours, stops neither the others nor the agent."""
        try:
            yield
        except Exception as error:
            entry.collect_errors += 1
            if str(error) != entry.last_error:  # once per reason
                entry.last_error = str(error)
                known = isinstance(error, HuatuoError | OSError)
                log.warning("%s: cannot be %s: %s", entry.name, act, error, exc_info=not known)


def _dependent(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Those that share a map must start one after the other, as must those that share stacks."""
    groups: list[tuple[set[str], list[Entry]]] = []
    for entry in entries:
        shared = {"stacks"} if issubclass(entry.cls, Profiler) else set(entry.cls.shares)
        together = [group for group in groups if group[0] & shared]
        groups = [group for group in groups if not group[0] & shared]
        names = shared.union(*(names for names, _ in together))
        groups.append((names, [*(each for _, found in together for each in found), entry]))
    return [found for _, found in groups]
