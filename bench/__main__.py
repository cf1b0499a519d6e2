"""`make bench`: every table of bench/README.md, measured now.

python -m bench [NAME …] [--rounds N]      names: NAMES
"""

from __future__ import annotations

import argparse
import importlib
import platform

NAMES = (
    "agent",
    "programs",
    "overhead",
    "event_latency",
    "containers",
    "rows",
    "block_rows",
    "syscalls",
    "unwind",
    "flame",
    "triggers",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    print(
        f"{platform.machine()}, kernel {platform.release()}, Python {platform.python_version()}\n"
    )
    for name in arguments.names:
        print(importlib.import_module(f"bench.{name}").run(arguments.rounds), flush=True)
        print()


if __name__ == "__main__":
    main()
