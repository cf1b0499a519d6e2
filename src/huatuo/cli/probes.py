"""List every probe: kind, hook in use, available or why not, cost so far.

Asks the running agent; without one, says what could run here.
"""

from __future__ import annotations

import argparse
import json
import urllib.error
import urllib.request
from pathlib import Path

import msgspec

from huatuo.cli.common import add_config, configuration, print_json, table
from huatuo.config import Config
from huatuo.kernel.host import Host
from huatuo.model.state import ProbeState
from huatuo.probes.running import ProbeSet
from huatuo.selfmetrics import describe

__all__ = ["configure", "run"]

_TIMEOUT_SECONDS = 2.0


def configure(parser: argparse.ArgumentParser) -> None:
    add_config(parser)


def run(arguments: argparse.Namespace) -> int:
    config = configuration(arguments)
    states = _from_agent(config)
    live = states is not None
    if states is None:
        probes = ProbeSet(Host(), config.probes, config.settings)
        states = [describe(entry) for entry in probes.entries.values()]
    if arguments.json:
        print_json({"agent_running": live, "probes": states})
        return 0
    rows = [
        [s.name, "+".join(s.kind), s.status, _cost(s), s.reason or ", ".join(s.hooks) or s.summary]
        for s in states
    ]
    print(table(rows, ["PROBE", "KIND", "STATUS", "COST", "HOOKS OR REASON"]))
    if not live:
        print("\nNo agent is running: hooks and costs are known once it does (huatuo run).")
    return 0


def _cost(state: ProbeState) -> str:
    if state.status != "running":
        return "-"
    per_hit = (
        f"{state.ns_per_hit:.0f} ns x {state.hits_per_second:.0f}/s "
        if state.hits_per_second
        else ""
    )
    return f"{per_hit}{state.cpu_ratio:.3%}"


def _from_agent(config: Config) -> list[ProbeState] | None:
    request = urllib.request.Request(f"http://{config.agent.listen}/api/v1/probes")
    if config.agent.token_file:
        token = Path(config.agent.token_file).read_text().strip()
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
            document = json.load(answer)
    except (urllib.error.URLError, OSError, ValueError):
        return None
    rows = document["probes"] if isinstance(document, dict) else document
    return msgspec.convert(rows, list[ProbeState])
