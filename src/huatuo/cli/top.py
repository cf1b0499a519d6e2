"""Show live what every container uses, waits for and loses, and the host above them.

Examples:

  huatuo top                          live; a letter or a click on a title sorts, enter opens
  huatuo top --once                   one table of what happens within --interval
  huatuo top --once --container web   and this container's histograms
  huatuo top --json | jq '.containers[0]'

It runs probes of its own for as long as it is open and needs no agent; one that runs is not
disturbed. STALLED is the time of tasks that had to free or compact memory, PSI the share of the
time in which some task of the container waited for the resource.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from huatuo.cli.common import print_json, table
from huatuo.cli.top_sample import Between, Watch
from huatuo.cli.top_signals import SIGNALS, Row, container_lines, containers, host, host_lines
from huatuo.errors import UsageError
from huatuo.kernel.host import Host
from huatuo.model.units import parse

__all__ = ["configure", "run"]

_SORTS = [signal.name for signal in SIGNALS]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.formatter_class = __doc__, argparse.RawDescriptionHelpFormatter
    parser.add_argument("--once", action="store_true", help="print one sample, as into a pipe")
    parser.add_argument("--interval", default="2s", metavar="TIME", help="between samples (2s)")
    parser.add_argument(
        "--sort", default=_SORTS[0], metavar="SIGNAL", choices=_SORTS,
        help=f"first the most of: {', '.join(_SORTS)}",
    )  # fmt: skip
    parser.add_argument("--container", metavar="C", help="only this one, by the name shown")
    parser.add_argument("--count", type=int, metavar="N", help="rows of --once and --json (all)")


def run(arguments: argparse.Namespace) -> int:
    interval = float(parse("duration_ns_t", arguments.interval, "--interval")) / 1e9
    if interval <= 0:
        raise UsageError(f"--interval {arguments.interval}: expected more than nothing")
    with Watch(Host()) as watch:
        if arguments.json or arguments.once or not sys.stdout.isatty():
            before = watch.look()
            time.sleep(interval)
            _print(arguments, Between(before, watch.look()), watch.missing)
        else:
            from huatuo.cli.top_tui import TopApp  # a third of a second that the others save

            TopApp(watch.look, interval, arguments.sort, arguments.container or "").run()
    return 0


def _print(arguments: argparse.Namespace, between: Between, missing: dict[str, str]) -> None:
    rows = containers(between, arguments.sort)
    if arguments.container:
        rows = [row for row in rows if row.container == arguments.container]
        if not rows:
            raise UsageError(f"--container {arguments.container}: no container of that name")
    rows = rows[: arguments.count]
    if arguments.json:
        print_json(_document(between, rows, missing))
        return
    for line in host_lines(host(between)):
        print(line)
    print("\n" + _table(rows))
    if arguments.container:
        print()
        for line in container_lines(between, arguments.container):
            print(line)
    for probe, reason in missing.items():
        print(f"without {probe}: {reason}", file=sys.stderr)


def _document(between: Between, rows: list[Row], missing: dict[str, str]) -> dict[str, Any]:
    return {
        "seconds": round(between.seconds, 3),
        "host": host(between),
        "containers": [{"container": row.container, **row.values} for row in rows],
        "missing": missing,
    }


def _table(rows: list[Row]) -> str:
    """Only columns in which some row has a number."""
    shown = [signal for signal in SIGNALS if any(signal.name in row.values for row in rows)]
    cells = [
        [
            *(s.show(row.values[s.name]) if s.name in row.values else "-" for s in shown),
            row.container,
        ]
        for row in rows
    ]
    return table(cells, [*(signal.title for signal in shown), "CONTAINER"])
