"""Run the agent: probes, store, web UI and /metrics.

Ends on SIGINT or SIGTERM. Needs root (or CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE) for the BPF
probes; without, the readers of /proc and the UI still run and say what is missing.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace

from huatuo.cli.common import add_config, configuration, print_json
from huatuo.config import Config

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--listen", metavar="ADDRESS:PORT", help="overrides [agent] listen")
    parser.add_argument("--store", metavar="DIRECTORY", help="overrides [store] directory")


def run(arguments: argparse.Namespace) -> int:
    logging.basicConfig(
        level=logging.DEBUG if arguments.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    config = configuration(arguments)
    if arguments.listen:
        config = replace(config, agent=replace(config.agent, listen=arguments.listen))
    if arguments.store:
        config = replace(config, store=replace(config.store, directory=arguments.store))
    arguments.run_agent(config, lambda address: _ready(config, address, arguments.json))
    return 0


def _ready(config: Config, address: str, as_json: bool) -> None:
    if as_json:
        print_json({"ui": address, "store": config.store.directory})
    else:
        print(f"huatuo is running. UI: {address}   metrics: {address}metrics   Ctrl-C ends it.")
        print(f"Store: {config.store.directory}", flush=True)
