"""Profile the whole host, a process or a container now, without an agent.

Stacks are complete without frame pointers; symbols come from this machine. Examples:

  huatuo profile                                  CPU time of everything for 10 s, top functions
  huatuo profile --pid 4711 --duration 30s --tui  one process, as a flame graph in the terminal
  huatuo profile --container web --type blocked   where a container's threads wait
  huatuo profile --format pprof -o cpu.pb.gz      for other tools (speedscope, firefox, folded …)
"""

from __future__ import annotations

import argparse
import math
import os
import select
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from huatuo.cli.common import add_config, add_duration, configuration, seconds
from huatuo.cli.query_profiles import add_output, show_profile
from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.profiling import Profiling
from huatuo.enrich.symbols.kernel import KernelSymbols
from huatuo.enrich.symbols.native import SymbolSettings
from huatuo.errors import UsageError
from huatuo.kernel.host import Host
from huatuo.kernel.worker import Limits
from huatuo.model.profile import PROFILE_TYPES
from huatuo.probes.base import discover
from huatuo.probes.profiler import Profiler
from huatuo.probes.running import ProbeSet
from huatuo.profilers.native.requests import Budget
from huatuo.store.embedded import EmbeddedStore
from huatuo.store.profiles import ProfileQuery

__all__ = ["configure", "run"]

_POLL_SECONDS = 0.2
_WARM_UP_SECONDS = 1.0
_SYMBOL_SECONDS = 60
_RATES = {"cpu": "samples_per_second", "blocked": "passes_per_second"}
_FAST = {"cpu": 99, "blocked": 20}
_TOLD_AFTER = {"report_after": 0.05, "look_every": 0.8}  # setting → share of the duration
_MEASURED_BY = {"lock": ("profile.lock", "profile.blocked"), "holder": ("profile.blocked",)}


def configure(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--type", choices=[*PROFILE_TYPES], default="cpu", metavar="TYPE",
                        help=f"{', '.join(PROFILE_TYPES)} (default: cpu)")  # fmt: skip
    whom = parser.add_mutually_exclusive_group()
    whom.add_argument("--pid", type=int, help="only this process")
    whom.add_argument("--tid", type=int, help="only this thread")
    whom.add_argument("--pgid", type=int, help="only this process group")
    whom.add_argument("--container", metavar="C", help="only this container, by name")
    whom.add_argument("--system", action="store_true", help="everything (default)")
    parser.add_argument("--cpu", type=int, metavar="N", help="only what ran on this CPU")
    add_duration(parser, "10s", "how long (default: 10s)")
    parser.add_argument("--rate", type=int, metavar="HZ",
                        help="samples per second and CPU (99), or looks (20)")  # fmt: skip
    add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    host = Host()
    duration = seconds(arguments) or 10.0
    names = _MEASURED_BY.get(arguments.type) or (f"profile.{arguments.type}",)
    settings = _settings(names, arguments.rate, duration, arguments.pid)
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="huatuo-profile-")))
        inventory = Inventory(host)
        inventory.refresh()
        profiling = Profiling(
            host,
            inventory,
            KernelSymbols(host),
            _symbols(arguments, work),
            SymbolSettings(limits=Limits(nice=0)),
            _only(arguments),
        )
        stack.callback(profiling.close)
        store = EmbeddedStore(work / "store", max_bytes=1 << 30, max_age_seconds=86400)
        stack.callback(store.close)
        probes = ProbeSet(host, names, settings)
        stack.callback(probes.stop)
        probes.start()
        _watch(probes, profiling, inventory, min(duration / 4, _WARM_UP_SECONDS))
        profiling.samples()  # those of code whose unwind rows were not there yet: thrown away
        _watch(probes, profiling, inventory, duration)
        for batch in profiling.samples():
            store.profiles.append(batch)
        if profiling.symbols.pending:
            print("reading symbols …", file=sys.stderr)
        profiling.symbols.settle(_SYMBOL_SECONDS)
        store.profiles.set_lines(profiling.repairs())
        profile = store.profiles.merge(ProfileQuery(arguments.type))
    return show_profile(profile, arguments)


def _settings(
    names: tuple[str, ...], rate: int | None, duration: float, pid: int | None
) -> dict[str, dict[str, int]]:
    """High rates for a short look, and nothing of importance untold when it ends."""
    found: dict[str, dict[str, int]] = {}
    for name in names:
        kind = name.removeprefix("profile.")
        found[name] = {_RATES[kind]: rate or _FAST[kind]} if kind in _RATES else {}
        for setting in discover()[name].settings_schema():
            if share := _TOLD_AFTER.get(setting.name):
                found[name][setting.name] = int(min(setting.default, duration * share * 1e9))
            if setting.name == "only_process":
                found[name][setting.name] = pid or 0
    if rate is not None and (rate < 1 or rate > 10_000):
        raise UsageError(f"--rate {rate}: expected 1 to 10000 per second")
    return found


def _symbols(arguments: argparse.Namespace, work: Path) -> Path:
    """The agent's tables of symbols where we may share them, else our own for this once."""
    shared = Path(configuration(arguments).store.directory) / "symbols"
    return shared if os.access(shared, os.W_OK) else work / "symbols"


def _watch(probes: ProbeSet, profiling: Profiling, inventory: Inventory, duration: float) -> None:
    unwinder = probes.unwinder
    assert unwinder is not None
    unwinder.budget = Budget(math.inf, 1.0)  # somebody waits for it
    end, pause = time.monotonic() + duration, _POLL_SECONDS
    try:
        while (left := end - time.monotonic()) > 0:
            select.select(unwinder.urgent_fds, [], [], min(left, pause))
            pause = min(unwinder.serve() or _POLL_SECONDS, _POLL_SECONDS)
            _take(probes, profiling)
            inventory.look_again()
    except KeyboardInterrupt:
        print("", file=sys.stderr)
    _take(probes, profiling)


def _take(probes: ProbeSet, profiling: Profiling) -> None:
    for cls, batch in probes.drain():
        if issubclass(cls, Profiler):
            profiling.take(cls, batch)
    if probes.unwinder is not None:
        profiling.take_stacks(probes.unwinder)


def _only(arguments: argparse.Namespace) -> dict[str, str]:
    given = {name: getattr(arguments, name) for name in ("pid", "tid", "pgid", "container", "cpu")}
    return {name: str(value) for name, value in given.items() if value is not None}
