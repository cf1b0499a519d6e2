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
import sys
import tempfile
from pathlib import Path

from huatuo.cli.common import add_config, add_duration, configuration, seconds
from huatuo.cli.query_profiles import add_output, show_profile
from huatuo.errors import UsageError
from huatuo.kernel.host import Host
from huatuo.model.profile import PROFILE_TYPES
from huatuo.profilers.native.requests import Budget
from huatuo.store.profiles import ProfileQuery
from huatuo.tracing.recording import Recording

__all__ = ["configure", "run"]

_WARM_UP_SECONDS = 1.0
_SYMBOL_SECONDS = 60
_FAST = {"samples_per_second": 99, "passes_per_second": 20}  # settings of profilers
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
    rate = arguments.rate
    if rate is not None and (rate < 1 or rate > 10_000):
        raise UsageError(f"--rate {rate}: expected 1 to 10000 per second")
    duration = seconds(arguments) or 10.0
    names = _MEASURED_BY.get(arguments.type) or (f"profile.{arguments.type}",)
    values = {name: rate or usual for name, usual in _FAST.items()}
    symbols = Path(configuration(arguments).store.directory) / "symbols"
    with (
        tempfile.TemporaryDirectory(prefix="huatuo-profile-") as work,
        Recording(Host(), Path(work), symbols, _only(arguments)) as recording,
    ):
        recording.start(names, duration, values | {"only_process": arguments.pid or 0})
        recording.unwinder.budget = Budget(math.inf, 1.0)  # somebody waits for it
        _watch(recording, min(duration / 4, _WARM_UP_SECONDS))
        recording.forget()
        _watch(recording, duration)
        recording.keep()
        if recording.profiling.symbols.pending:
            print("reading symbols …", file=sys.stderr)
        recording.name(_SYMBOL_SECONDS)
        profile = recording.store.profiles.merge(ProfileQuery(arguments.type))
    return show_profile(profile, arguments)


def _watch(recording: Recording, seconds: float) -> None:
    """Until Ctrl-C, at most."""
    try:
        recording.watch(seconds)
    except KeyboardInterrupt:
        print("", file=sys.stderr)


def _only(arguments: argparse.Namespace) -> dict[str, str]:
    given = {name: getattr(arguments, name) for name in ("pid", "tid", "pgid", "container", "cpu")}
    return {name: str(value) for name, value in given.items() if value is not None}
