"""List what triggers fired for, newest first."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from huatuo.cli.common import add_config, configuration, print_json, table
from huatuo.model.units import parse
from huatuo.store.embedded import EmbeddedStore

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--store", metavar="DIRECTORY", help="overrides [store] directory")
    parser.add_argument("--since", default="7d", metavar="TIME", help="10m, 2h, 7d (default: 7d)")
    parser.add_argument("--limit", type=int, default=50, help="at most so many (default: 50)")


def run(arguments: argparse.Namespace) -> int:
    since = time.time_ns() - int(parse("duration_ns_t", arguments.since, "--since"))
    directory = Path(arguments.store or configuration(arguments).store.directory)
    store = EmbeddedStore.open_readonly(directory)
    try:
        found = store.incidents.list(since, limit=arguments.limit)
    finally:
        store.close()
    if arguments.json:
        print_json(found)
    elif not found:
        print("no incidents in this time; try a longer --since")
    else:
        rows = [
            [str(i.id), i.time, i.trigger, i.target or "host",
             i.capture.status if i.capture else "-", "; ".join(i.facts)]
            for i in found
        ]  # fmt: skip
        print(table(rows, ["ID", "TIME", "TRIGGER", "TARGET", "CAPTURE", "WHY"]))
    return 0
