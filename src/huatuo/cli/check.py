"""Load and attach every probe once, print one line each, and exit.

With --strict the exit code is 3 if any probe cannot run here.
"""

from __future__ import annotations

import argparse

from huatuo.cli.common import add_config, configuration, print_json, table
from huatuo.kernel.host import Host
from huatuo.probes.running import ProbeSet

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--strict", action="store_true", help="fail if any probe cannot run")


def run(arguments: argparse.Namespace) -> int:
    config = configuration(arguments)
    host = Host()
    probes = ProbeSet(host, config.probes, config.settings)
    rows = []
    for entry in probes.entries.values():
        if entry.status == "selected":
            probes.start_one(entry)
            if entry.probe:
                probes.collect()
                probes.stop_one(entry, "ok", "")
        rows.append(
            {
                "probe": entry.name,
                "status": entry.status,
                "reason": entry.reason or entry.last_error,
                "hooks": entry.hooks,
            }
        )
    if arguments.json:
        print_json({"kernel": host.kernel_release, "probes": rows})
    else:
        lines = [[r["probe"], r["status"], str(r["reason"]) or ", ".join(r["hooks"])] for r in rows]
        print(table(lines, ["PROBE", "STATUS", "HOOKS OR REASON"]))
    lacking = [row for row in rows if row["status"] in ("unavailable", "failed")]
    failed = any(row["status"] == "failed" for row in rows)
    return 1 if failed else 3 if lacking and arguments.strict else 0
