"""Print the default configuration, or check a file."""

from __future__ import annotations

import argparse
from pathlib import Path

from huatuo.cli.common import print_json
from huatuo.config import defaults, load
from huatuo.errors import UsageError

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--defaults", action="store_true", help="print every setting with its default and help"
    )
    parser.add_argument("--check", type=Path, metavar="FILE", help="check a file; silent if good")


def run(arguments: argparse.Namespace) -> int:
    if arguments.check:
        config = load(arguments.check)
        if arguments.json:
            print_json(config)
        return 0
    if arguments.defaults:
        print_json({"toml": defaults()}) if arguments.json else print(defaults(), end="")
        return 0
    raise UsageError("config: say --defaults or --check FILE")
