"""Triggers of captures: which there are, and when those of a file would have fired. Examples:

huatuo triggers list                          all, built in and configured
huatuo triggers test                          the same, tried on the last day of stored history
huatuo triggers test mine.toml --since 7d     with the tables [[trigger]] of a file
"""

from __future__ import annotations

import argparse
import time
from datetime import datetime
from pathlib import Path

import msgspec

from huatuo.cli.common import add_config, configuration, print_json, table
from huatuo.config import Config, load
from huatuo.model.units import parse, show_duration
from huatuo.store.embedded import EmbeddedStore
from huatuo.tracing.baseline import LearnedBaseline
from huatuo.tracing.replay import replay
from huatuo.triggers.rules import Engine, Firing, Rule, rules

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--store", metavar="DIRECTORY", help="overrides [store] directory")
    what = parser.add_subparsers(dest="what", metavar="list|test", required=True)
    listed = what.add_parser("list", help="all triggers, with their conditions")
    tested = what.add_parser("test", help="when they would have fired")
    tested.add_argument("file", nargs="?", type=Path, help="a configuration to try instead")
    tested.add_argument("--since", default="24h", metavar="TIME", help="10m, 7d (default: 24h)")
    tested.add_argument("--name", default="", help="only this trigger")
    for sub in (listed, tested):
        sub.add_argument("--json", action="store_true", help="print JSON, for programs")
        sub.add_argument("--verbose", action="store_true", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    config = configuration(arguments)
    if arguments.what == "list":
        return _list(rules(config.triggers), arguments.json)
    tried = load(arguments.file) if arguments.file else config
    chosen = [r for r in rules(tried.triggers) if arguments.name in ("", r.trigger.name)]
    return _test(chosen, config, arguments)


def _list(chosen: list[Rule], as_json: bool) -> int:
    if as_json:
        print_json([msgspec.to_builtins(rule.trigger) for rule in chosen])
        return 0
    rows = [
        [t.name, t.per, show_duration(t.hold / 1e9) if t.hold else "at once",
         show_duration(t.pause / 1e9), t.plan or "-", t.when]
        for t in (rule.trigger for rule in chosen)
    ]  # fmt: skip
    print(table(rows, ["NAME", "PER", "FOR", "PAUSE", "PLAN", "WHEN"]))
    return 0


def _test(chosen: list[Rule], config: Config, arguments: argparse.Namespace) -> int:
    end = time.time_ns()
    start = end - int(parse("duration_ns_t", arguments.since, "--since"))
    store = EmbeddedStore.open_readonly(Path(arguments.store or config.store.directory))
    count = 0
    try:
        engine = Engine(chosen)
        baseline = LearnedBaseline(store, engine.learned())
        engine = Engine(chosen, baseline)
        for firing in replay(store, engine, start, end, baseline.refresh):
            count += 1
            print_json(_document(firing)) if arguments.json else print(_shown(firing))
        oldest = max(start, store.usage().oldest_ns)
    finally:
        store.close()
    if not arguments.json:
        print(f"{count} times in {show_duration(max(end - oldest, 0) / 1e9)} of history,"
              f" {len(chosen)} triggers tried")  # fmt: skip
        if any(rule.containers for rule in chosen):
            print("history does not say what containers were: `containers` had no effect")
        for notice in baseline.notices:
            print(notice)
    return 0


def _shown(firing: Firing) -> str:
    moment = datetime.fromtimestamp(firing.time_ns / 1e9).astimezone()
    lines = [f"{moment:%Y-%m-%d %H:%M:%S}  {firing.trigger.name}  {firing.target or 'host'}"]
    lines += [f"    {fact}" for fact in firing.facts]
    if firing.suspects:
        named = ", ".join(f"{name} ({value:.4g})" for name, value in firing.suspects)
        lines.append(f"    first of those who may have caused it: {named}")
    return "\n".join(lines)


def _document(firing: Firing) -> dict[str, object]:
    return {
        "time_ns": firing.time_ns,
        "since_ns": firing.since_ns,
        "trigger": firing.trigger.name,
        "target": firing.target,
        "facts": [msgspec.to_builtins(fact) for fact in firing.facts],
        "suspects": [{"name": name, "value": value} for name, value in firing.suspects],
    }
