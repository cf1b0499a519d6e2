"""Show one incident with its evidence, or write it as one HTML file."""

from __future__ import annotations

import argparse
from pathlib import Path

from huatuo.cli.common import add_config, configuration, print_json, table
from huatuo.errors import HuatuoError, UsageError
from huatuo.export.incident_html import incident_html
from huatuo.model.incident import FunctionShare, Incident
from huatuo.model.units import percent
from huatuo.store.embedded import EmbeddedStore

__all__ = ["configure", "run"]

_SHOWN = 10


def configure(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("id", type=int, help="as `huatuo incidents` lists them")
    parser.add_argument("--store", metavar="DIRECTORY", help="overrides [store] directory")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write all of it as one file")


def run(arguments: argparse.Namespace) -> int:
    directory = Path(arguments.store or configuration(arguments).store.directory)
    store = EmbeddedStore.open_readonly(directory)
    try:
        incident = store.incidents.get(arguments.id)
        if incident is None:
            raise UsageError(f"no incident {arguments.id}; `huatuo incidents` lists them")
        read = store.incidents.file
        files = {name: read(incident.id, name) or b"" for name in incident.files}
    finally:
        store.close()
    if arguments.html:
        try:
            arguments.html.write_bytes(incident_html(incident, files))
        except OSError as error:
            raise HuatuoError(f"{arguments.html}: cannot be written: {error.strerror}") from error
    elif arguments.json:
        print_json(incident)
    else:
        _print(incident)
    return 0


def _print(incident: Incident) -> None:
    print(f"{incident.trigger}  {incident.target or 'host'}  {incident.time}\n\n{incident.summary}")
    if incident.before:
        _functions(incident.before_note or "grown against the hour before", incident.before)
    capture = incident.capture
    if capture is not None:
        print(f"\ncapture {capture.plan}: {capture.status} {capture.reason}".rstrip())
        for name, found in capture.profiles.items():
            _functions(name, found)
        for task in capture.tasks[:_SHOWN]:
            print(f"  {task.comm}[{task.tid}] sleeps: {' < '.join(task.stack[:5])}")
    if incident.events:
        print(f"\n{incident.events_total} events")
        for event in incident.events[:_SHOWN]:
            print(f"  {event.time[:19]}  {event.probe}  {event.title}")


def _functions(title: str, found: list[FunctionShare]) -> None:
    rows = [
        [percent(f.own_ratio), percent(f.base_ratio), percent(f.total_ratio), f.mapping, f.function]
        for f in found[:_SHOWN]
    ]
    print(f"\n{title}\n{table(rows, ['SELF', 'BEFORE', 'TOTAL', 'IN', 'FUNCTION'])}")
