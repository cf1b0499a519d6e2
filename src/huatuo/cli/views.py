"""Live views of one kind of event each: a line per event below a header, and totals at the end.

A view is a table of columns and of what is added up; `net` and `mem` are made of nothing else.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from huatuo.cli.common import print_json, seconds, table
from huatuo.cli.live import container_of, live_events, process_of
from huatuo.cli.wanted import Wanted
from huatuo.errors import KernelLacks
from huatuo.kernel.host import Host
from huatuo.model.event import Event
from huatuo.model.units import parse, show_duration
from huatuo.probes.base import Probe, discover

__all__ = ["CONTAINER", "PROCESS", "TIME", "Amount", "Column", "View", "run_view", "shown_ns"]

_ROWS = 20  # of the totals


@dataclass(frozen=True, slots=True)
class Column:
    """`width` of a terminal's characters; of longer texts the end is shown, of the last column
    all."""

    head: str
    width: int
    of: Callable[[Event], str]


@dataclass(frozen=True, slots=True)
class Amount:
    """What is added up (`fold`: sum or max) over the events of a line in the totals."""

    head: str
    name: str  # in JSON, with its unit
    of: Callable[[Event], int]
    fold: Callable[[Iterable[int]], int] = sum
    shown: Callable[[int], str] = str


TIME = Column("TIME", 12, lambda event: event.time[11:23])
CONTAINER = Column("CONTAINER", 20, container_of)
PROCESS = Column("PROCESS", 20, process_of)


@dataclass(frozen=True, slots=True)
class View:
    """`probes`: whose events, with settings. `helpers` run too, what they know is in these events.
    `thresholds`: settings, by probe, that --threshold is for."""

    what: str  # "retransmissions", of which there are so many
    probes: Mapping[str, Mapping[str, int]]
    kinds: Collection[str]
    columns: Sequence[Column]
    groups: Sequence[Column]  # of the totals: one line for each combination
    amounts: Sequence[Amount]
    helpers: Collection[str] = ()
    thresholds: Mapping[str, Collection[str]] = field(default_factory=dict)


def shown_ns(ns: float) -> str:
    return show_duration(ns / 1e9)


def run_view(view: View, arguments: argparse.Namespace) -> int:
    host, wanted = Host(), Wanted.of(arguments)
    probes = _probes(view, host, wanted, getattr(arguments, "threshold", ""))
    beside = [discover()[name] for name in view.helpers]
    helpers = [cls(host) for cls in beside if not cls.unavailable(host)]
    totals = _Totals(view)
    began = time.monotonic()
    heads = "" if arguments.json else _line(view, [column.head for column in view.columns])
    for event in live_events(probes, seconds(arguments), wanted, helpers, heads):
        if event.kind not in view.kinds:
            continue
        totals.add(event)
        if arguments.json:
            print_json(event)
        else:
            print(_line(view, [column.of(event) for column in view.columns]), flush=True)
    totals.seconds = time.monotonic() - began
    if arguments.json:
        print_json({"summary": totals.document()})
    else:
        print("\n" + "\n".join(totals.lines()))
    return 0


def _probes(view: View, host: Host, wanted: Wanted, threshold: str) -> list[Probe]:
    shortest = int(parse("duration_ns_t", threshold, "--threshold")) if threshold else 0
    found = []
    for name, settings in view.probes.items():
        cls = discover()[name]
        if missing := cls.unavailable(host):
            raise KernelLacks(f"{name}: {missing}")
        given = dict(settings) | dict.fromkeys(view.thresholds.get(name, ()), shortest)
        found.append(cls(host, wanted.settings(cls, given, watched=True)))
    return found


def _line(view: View, cells: Sequence[str]) -> str:
    *columns, last = zip(cells, [column.width for column in view.columns], strict=True)
    shown = [
        cell.ljust(width) if len(cell) <= width else f"…{cell[1 - width :]}"
        for cell, width in columns
    ]
    return "  ".join([*shown, last[0]]).rstrip()


@dataclass(slots=True)
class _Totals:
    """Adds events up by the texts of the view's groups."""

    view: View
    seconds: float = 0.0
    rows: dict[tuple[str, ...], list[int]] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        key = tuple(column.of(event) for column in self.view.groups)
        row = self.rows.setdefault(key, [0] * (1 + len(self.view.amounts)))
        row[0] += 1
        for at, amount in enumerate(self.view.amounts, 1):
            row[at] = amount.fold((row[at], amount.of(event)))

    @property
    def events(self) -> int:
        return sum(row[0] for row in self.rows.values())

    def _largest(self) -> list[tuple[tuple[str, ...], list[int]]]:
        return sorted(self.rows.items(), key=lambda item: item[1][0], reverse=True)[:_ROWS]

    def document(self) -> Mapping[str, Any]:
        """For --json: a row's texts under the heads of their columns, amounts with their units."""
        heads = [column.head.lower() for column in self.view.groups]
        names = ["events", *(amount.name for amount in self.view.amounts)]
        return {
            "seconds": round(self.seconds, 3),
            "events": self.events,
            "rows": [
                dict(zip([*heads, *names], [*key, *row], strict=True))
                for key, row in self._largest()
            ],
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"{self.view.what}: {self.events} in {self.seconds:.1f} s"
        if not self.rows:
            return
        amounts = self.view.amounts
        heads = ["EVENTS", *(amount.head for amount in amounts)]
        rows = [
            [str(row[0]), *(a.shown(n) for a, n in zip(amounts, row[1:], strict=True)), *key]
            for key, row in self._largest()
        ]
        yield "\n" + table(rows, [*heads, *(column.head for column in self.view.groups)])
        if more := len(self.rows) - len(rows):
            yield f"and {more} more lines"
