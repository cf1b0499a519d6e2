"""What a probe is, and how probes are found.

A probe is one thing that is watched, however it is read: NAME.py, with NAME.bpf.c beside it if it
watches by BPF. Its name is its place: probes/memory/oom.py is `memory.oom`. The life of one:

    Probe.unavailable(host)      why it cannot run here, before anything is opened
    probe = Cls(host, settings)
    probe.start()                opens files, loads and attaches BPF    (KernelLacks if refused)
      probe.drain()              new records, every fraction of a second
      probe.collect()            its metrics now, every interval and at each scrape
      probe.cost()               what its programs cost so far
    probe.stop()                 frees all; start() may follow again (the governor does that)

Who calls: the agent, `huatuo trace`, `huatuo collect`, `huatuo check` and the tests, all alike.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import ClassVar

import huatuo.probes
from huatuo.kernel.cgroupfs import Cgroup, populated
from huatuo.kernel.host import Host
from huatuo.kernel.object import Statistics
from huatuo.model.metric import Metric
from huatuo.model.record import RecordBatch, Schema

__all__ = ["Account", "Probe", "Setting", "discover"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a probe, a line of its table in the configuration.

    `typedef` is the meaning that parses it: duration_ns_t takes "10ms", bytes_t takes "64KiB".
    """

    name: str
    typedef: str
    default: int
    help: str


@dataclass(frozen=True, slots=True)
class Account:
    """produced = delivered + suppressed + lost, since start; each counted where it happens."""

    produced: int = 0
    delivered: int = 0
    suppressed: Mapping[str, int] = None  # type: ignore[assignment]
    lost: Mapping[str, int] = None  # type: ignore[assignment]


class Probe:
    """Base of all probes; a subclass's docstring is its page in the manual.

    `priority`: the governor sheds lower ones first. `titles`: ring → one sentence with the
    event's JSON fields in braces. `subjects`: ring → the field that says whom it is about.
    `automatic`: whether "auto" starts it; what costs too much for always is started by name.
    `targets()` gives the cgroups that a reader of cgroup files reports, each once; the agent
    replaces it by the containers it knows. `shares`: maps that are one with those of other probes.
    """

    name: ClassVar[str] = ""
    priority: ClassVar[int] = 50
    automatic: ClassVar[bool] = True
    titles: ClassVar[Mapping[str, str]] = {}
    subjects: ClassVar[Mapping[str, str]] = {}
    shares: ClassVar[Collection[str]] = ()

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        self.host = host
        self.targets: Callable[[], Iterable[Cgroup]] = lambda: populated(host)
        self.collect_errors = 0  # samples skipped because a file was not as documented
        self.excluded = 0  # records drained, and then left out for their container (running.py)
        self.settings = {s.name: s.default for s in self.settings_schema()} | dict(settings or {})

    @classmethod
    def settings_schema(cls) -> list[Setting]:
        return []

    @classmethod
    def event_schemas(cls) -> dict[str, Schema]:
        """Ring name → schema of its records; empty if the probe only measures."""
        return {}

    @classmethod
    def unavailable(cls, host: Host) -> str:  # noqa: ARG003
        """Why this probe cannot run on this host, or "". Cheap; nothing is loaded."""
        return ""

    @property
    def hooks(self) -> list[str]:
        """What it reads or hangs on, as shown by `huatuo probes`."""
        return []

    @property
    def notes(self) -> list[str]:
        """What is degraded on this kernel, in words."""
        return []

    def start(self) -> None:
        """Raises KernelLacks where the kernel refuses."""

    def stop(self) -> None:
        """Idempotent."""

    def collect(self) -> Iterator[Metric]:
        """The probe's metric families as they are now; nothing now is an empty iterator."""
        return iter(())

    def drain(self) -> Iterator[RecordBatch]:
        """Records since the last call."""
        return iter(())

    def ring_fds(self) -> list[int]:
        """File descriptors that become readable when a ring wants to be read."""
        return []

    def cost(self) -> dict[str, Statistics]:
        """Program → run time and runs so far (run time counts in statistics windows only)."""
        return {}

    def duty(self) -> float:
        """The share of the time in which its programs are attached."""
        return 1.0

    def look_again_seconds(self) -> float:
        """In how long `drain` must be called again, even if nothing wakes."""
        return math.inf

    def watched_seconds(self) -> float:
        """For how long they have been attached so far, for a probe whose duty is below 1."""
        return 0.0

    def own_seconds(self) -> float:
        """CPU time so far of threads of its own; it is the agent's, and no program's of `cost`."""
        return 0.0

    def account(self) -> Account:
        return Account(suppressed={}, lost={})

    def exclude(self, cgroups: Collection[int]) -> None:
        """Records of these cgroups need not be produced. Called before `start` if there may be any,
        and whenever they change; whoever drains leaves out the rest."""


@cache
def discover() -> dict[str, type[Probe]]:
    """All probes by name, in alphabetical order. Importing them has no side effects."""
    found = {}
    for module in _modules(huatuo.probes):
        for value in vars(module).values():
            is_probe = isinstance(value, type) and issubclass(value, Probe)
            if is_probe and value.__module__ == module.__name__:
                value.name = module.__name__.removeprefix("huatuo.probes.")
                found[value.name] = value
    return dict(sorted(found.items()))


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if info.name.count(".") > 2 and not info.ispkg:
            yield importlib.import_module(info.name)
