"""Load and attach every probe once, print one line each, and exit.

With --strict the exit code is 3 if any probe cannot run here.
"""

from __future__ import annotations

import argparse

import msgspec

from huatuo.cli.common import add_config, configuration, print_json, table
from huatuo.kernel.host import Host
from huatuo.probes.running import ProbeSet

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--strict", action="store_true", help="fail if any probe cannot run")


class Line(msgspec.Struct):
    """What became of one probe."""

    probe: str
    status: str
    reason: str
    hooks: list[str]


def run(arguments: argparse.Namespace) -> int:
    config = configuration(arguments)
    host = Host()
    probes = ProbeSet(host, config.probes, config.settings)
    lines = []
    for entry in probes.entries.values():
        if entry.status == "selected" and probes.start_one(entry):
            probes.collect()
            probes.stop_one(entry, "ok", "")
        lines.append(Line(entry.name, entry.status, entry.reason or entry.last_error, entry.hooks))
    if arguments.json:
        print_json({"kernel": host.kernel_release, "probes": lines})
    else:
        rows = [[line.probe, line.status, line.reason or ", ".join(line.hooks)] for line in lines]
        print(table(rows, ["PROBE", "STATUS", "HOOKS OR REASON"]))
    found = {line.status for line in lines}
    if "failed" in found:
        return 1
    return 3 if "unavailable" in found and arguments.strict else 0
