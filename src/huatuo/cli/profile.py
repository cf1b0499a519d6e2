"""Profile the whole host, a process or a container now, without an agent.

Stacks are complete without frame pointers; symbols come from this machine. Examples:

  huatuo profile                                  CPU time of everything for 10 s, top functions
  huatuo profile --pid 4711 --duration 30s --tui  one process, as a flame graph in the terminal
  huatuo profile --container web --type blocked   where a container's threads wait
  huatuo profile --format pprof -o cpu.pb.gz      for other tools (speedscope, firefox, folded …)
"""

from __future__ import annotations

import argparse

from huatuo.cli.common import add_config, add_duration
from huatuo.model.profile import PROFILE_TYPES

__all__ = ["configure", "run"]

_POLL_SECONDS = 0.2
_WARM_UP_SECONDS = 1.0
_SYMBOL_SECONDS = 60
_RATES = {"cpu": "samples_per_second", "blocked": "passes_per_second"}
_FAST = {"cpu": 99, "blocked": 20}
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
    parser.add_argument(
        "--rate", type=int, metavar="HZ", help="samples per second and CPU (99), or looks (20)"
    )
