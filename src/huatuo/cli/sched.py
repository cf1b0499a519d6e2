"""Show who waits for a CPU, and who runs meanwhile, now and without an agent."""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from huatuo.cli.common import print_json, seconds, table
from huatuo.cli.live import add_view, container_of, live_events
from huatuo.cli.wanted import Wanted, add_filters
from huatuo.kernel.host import Host
from huatuo.model.event import Event
from huatuo.model.units import parse, show_duration
from huatuo.probes.base import Probe, discover

__all__ = ["Summary", "configure", "run"]

_NEVER = (1 << 63) - 1
_NAMED = 3  # culprits on a line
_ROWS = 10  # of each table at the end

_TEXT = """Tasks that wanted to run and had to wait for at least --threshold: which, how long, and
which tasks ran on that CPU meanwhile."""
_EXAMPLES = """examples:
  huatuo sched slow                                waits of 10 ms and more, until Ctrl-C
  huatuo sched slow --threshold 1ms --duration 10s shorter ones too, for 10 s
  huatuo sched slow --container web                only what this container's tasks wait for
  huatuo sched slow --json | jq .fields.culprits   for programs; the summary is the last line
"""

Whom = tuple[str, str]  # process with its pid, container


def configure(parser: argparse.ArgumentParser) -> None:
    views = parser.add_subparsers(dest="what", metavar="slow", required=True)
    summary = "every long wait for a CPU, live, and at the end who waited and who ran"
    slow = add_view(views, "slow", summary, _TEXT, _EXAMPLES)
    slow.add_argument(
        "--threshold", default="10ms", metavar="TIME", help="shortest wait shown (default: 10ms)"
    )
    add_filters(slow, "container", "pid", "comm")


def run(arguments: argparse.Namespace) -> int:
    threshold = int(parse("duration_ns_t", arguments.threshold, "--threshold"))
    summary, wanted = Summary(threshold), Wanted.of(arguments)
    began = time.monotonic()
    for event in live_events([_probe(threshold, wanted)], seconds(arguments), wanted):
        if event.kind != "slow_waits":
            continue
        summary.add(event)
        print_json(event) if arguments.json else print(_line(event), flush=True)
    summary.seconds = time.monotonic() - began
    if arguments.json:
        print_json({"summary": summary.document()})
    else:
        print("\n" + "\n".join(summary.lines()))
    return 0


def _probe(threshold: int, wanted: Wanted) -> Probe:
    cls = discover()["cpu.sched"]
    off = dict.fromkeys(("block_threshold", "contention_threshold"), _NEVER)
    given = {"slow_wait_threshold": threshold, **off}
    return cls(Host(), wanted.settings(cls, given, watched=True))


def _line(event: Event) -> str:
    fields = event.fields
    who = f"{fields['comm']}[{fields['pid']}]"
    waited = show_duration(fields["wait_ns"] / 1e9)
    said = [
        f"{each['comm']}[{each['pid']}] ({each['cgroup'] or 'idle'}) {each['share']:.0%}"
        for each in fields["culprits"][:_NAMED]
    ]
    if more := len(fields["culprits"]) - _NAMED:
        said += [f"{more} more"] if more > 0 else []
    if fields["throttled_ns"]:
        said.insert(0, f"own CPU limit {fields['throttled_ns'] / fields['wait_ns']:.0%}")
    head = f"{event.time[11:23]}  {container_of(event)}  {who} waited {waited} for CPU "
    return head + f"{fields['cpu']}: {', '.join(said) or 'unknown'}"


@dataclass(slots=True)
class Summary:
    """Adds events up by process; `threshold` in ns, `seconds` of watching."""

    threshold: int
    seconds: float = 0.0
    waits: dict[Whom, list[int]] = field(default_factory=lambda: defaultdict(list))
    ran: dict[Whom, int] = field(default_factory=lambda: defaultdict(int))
    throttled: int = 0

    def add(self, event: Event) -> None:
        fields = event.fields
        self.waits[f"{fields['comm']}[{fields['pid']}]", container_of(event)].append(
            fields["wait_ns"]
        )
        self.throttled += fields["throttled_ns"]
        for each in fields["culprits"]:
            self.ran[f"{each['comm']}[{each['pid']}]", each["cgroup"] or "idle"] += each["ran_ns"]

    @property
    def total(self) -> int:
        return sum(sum(waits) for waits in self.waits.values())

    def document(self) -> Mapping[str, Any]:
        """For --json; durations in ns."""
        return {
            "seconds": round(self.seconds, 3),
            "threshold_ns": self.threshold,
            "waits": sum(map(len, self.waits.values())),
            "waited_ns": self.total,
            "throttled_ns": self.throttled,
            "victims": [
                {
                    "process": process,
                    "container": container,
                    "waits": len(waits),
                    "waited_ns": sum(waits),
                    "longest_ns": max(waits),
                }
                for (process, container), waits in _largest(self.waits.items(), sum)
            ],
            "culprits": [
                {"process": process, "container": container, "ran_ns": ran}
                for (process, container), ran in _largest(self.ran.items(), int)
            ],
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        count = sum(map(len, self.waits.values()))
        least = show_duration(self.threshold / 1e9)
        yield f"{count} waits of {least} and more in {self.seconds:.1f} s"
        if not count:
            return
        victims = [
            [process, container, str(len(waits)), _shown(sum(waits)), _shown(max(waits))]
            for (process, container), waits in _largest(self.waits.items(), sum)
        ]
        yield "\n" + table(victims, ["who waited", "container", "waits", "in all", "longest"])
        culprits = [
            [process, container, _shown(ran), f"{ran / self.total:.0%}"]
            for (process, container), ran in _largest(self.ran.items(), int)
        ]
        if self.throttled:
            share = f"{self.throttled / self.total:.0%}"
            culprits.append(["(own CPU limit)", "-", _shown(self.throttled), share])
        head = ["who ran meanwhile", "container", "ran", "of all waiting"]
        yield "\n" + table(culprits, head)


def _largest(items: Iterable[tuple[Whom, Any]], weight: Any) -> list[tuple[Whom, Any]]:
    return sorted(items, key=lambda item: -weight(item[1]))[:_ROWS]


def _shown(ns: int) -> str:
    return show_duration(ns / 1e9)
