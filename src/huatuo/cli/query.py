"""Show what the store holds: events, metrics or profiles, also while the agent runs."""

from __future__ import annotations

import argparse
import time
from datetime import datetime
from pathlib import Path

import numpy as np

from huatuo.cli import query_profiles
from huatuo.cli.collect import shown
from huatuo.cli.common import add_config, configuration, print_json, table
from huatuo.cli.trace import show
from huatuo.errors import UsageError
from huatuo.model.units import parse
from huatuo.store.base import EventQuery, MetricQuery, Series
from huatuo.store.embedded import EmbeddedStore

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--store", metavar="DIRECTORY", help="overrides [store] directory")
    what = parser.add_subparsers(dest="what", metavar="events|metrics|profiles", required=True)
    events = what.add_parser("events", help="events, newest first")
    metrics = what.add_parser("metrics", help="one metric family over time, or all names")
    profiles = what.add_parser("profiles", help="which there are, or one of them")
    for sub in (events, metrics, profiles):
        sub.add_argument("--since", default="1h", metavar="TIME", help="10m, 2h, 7d (default: 1h)")
        sub.add_argument("--until", default="", metavar="WHEN", help="RFC 3339 (default: now)")
        sub.add_argument("--json", action="store_true", help="print JSON, for programs")
        sub.add_argument("--verbose", action="store_true", help=argparse.SUPPRESS)
    query_profiles.configure(profiles)
    events.add_argument("--probe", default="", help="only of this probe")
    events.add_argument("--container", default="", help="only of this container")
    events.add_argument("--text", default="", help="only with this text in it")
    events.add_argument("--limit", type=int, default=100, help="at most so many (default: 100)")
    metrics.add_argument("name", nargs="?", help="family; without it all names are listed")
    metrics.add_argument(
        "--label", action="append", default=[], metavar="NAME=VALUE", help="only series with it"
    )
    metrics.add_argument(
        "--points", type=int, default=60, help="at most so many times (default: 60)"
    )


def run(arguments: argparse.Namespace) -> int:
    directory = Path(arguments.store or configuration(arguments).store.directory)
    store = EmbeddedStore.open_readonly(directory)
    try:
        start, end = _range(arguments)
        if arguments.what == "events":
            return _events(store, arguments, start, end)
        if arguments.what == "profiles":
            return query_profiles.run(store.profiles, arguments, start, end)
        if arguments.name:
            return _metrics(store, arguments, start, end)
        return _names(store, arguments)
    finally:
        store.close()


def _range(arguments: argparse.Namespace) -> tuple[int, int]:
    end = time.time_ns()
    if arguments.until:
        try:
            end = int(datetime.fromisoformat(arguments.until).timestamp() * 1e9)
        except ValueError:
            raise UsageError(
                f"--until {arguments.until}: expected a time such as 2026-01-31T12:00:00Z"
            ) from None
    return end - int(parse("duration_ns_t", arguments.since, "--since")), end


def _events(store: EmbeddedStore, arguments: argparse.Namespace, start: int, end: int) -> int:
    query = EventQuery(
        start, end, arguments.probe, "", arguments.container, arguments.text, limit=arguments.limit
    )
    for event in store.events(query):
        print_json(event) if arguments.json else print(event.time[:10], show(event))
    return 0


def _names(store: EmbeddedStore, arguments: argparse.Namespace) -> int:
    rows = [
        [name, kind, ",".join(labels), help_text]
        for name, kind, help_text, labels in store.metric_names()
    ]
    if arguments.json:
        print_json(
            [dict(zip(("name", "kind", "labels", "help"), row, strict=True)) for row in rows]
        )
    else:
        print(table(rows, ["NAME", "KIND", "LABELS", "HELP"]))
    return 0


def _metrics(store: EmbeddedStore, arguments: argparse.Namespace, start: int, end: int) -> int:
    labels = dict(word.split("=", 1) for word in arguments.label if "=" in word)
    found = store.metrics(MetricQuery(arguments.name, start, end, labels, arguments.points))
    for series in found:
        print_json(_document(series)) if arguments.json else _print(series)
    if not found and not arguments.json:
        print(
            f"nothing stored for {arguments.name} in this time; `huatuo query metrics` lists names"
        )
    return 0


def _document(series: Series) -> dict[str, object]:
    values = np.where(np.isnan(series.values), None, series.values.astype(object))  # type: ignore[call-overload]
    return {
        "name": series.name,
        "kind": series.kind,
        "labels": dict(series.labels),
        "times_ns": series.times.tolist(),
        "values": values.tolist(),
        "sums": None if series.sums is None else series.sums.tolist(),
    }


def _print(series: Series) -> None:
    print(f"\n{series.name} {' '.join(f'{k}={v}' for k, v in series.labels.items())}")
    for at, value in zip(series.times.tolist(), series.values, strict=True):
        moment = datetime.fromtimestamp(at / 1e9).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        number = float(np.nansum(value))
        text = f"{number:.0f} values" if np.ndim(value) else shown(series.name, number)
        print(f"  {moment}  {text}")
