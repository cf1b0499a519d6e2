"""Print the events of one probe live, without an agent.

Ends after --duration or on Ctrl-C, and then says what was suppressed or lost.
"""

from __future__ import annotations

import argparse
from itertools import islice

from huatuo.cli.common import add_duration, add_probe, open_probe, print_json, seconds
from huatuo.cli.live import container_of, live_events, process_of
from huatuo.cli.wanted import Wanted, add_filters
from huatuo.errors import UsageError
from huatuo.kernel.host import Host
from huatuo.model.event import Event

__all__ = ["configure", "run", "show"]

_EXAMPLES = """examples:
  huatuo trace net.drop --filter 'tcp and host 10.0.0.1 and not port 22'
  huatuo trace net.retransmit --filter 'tcp[tcpflags] & tcp-syn != 0' --container web
  huatuo trace block.latency --device nvme0n1 --set slow_threshold=5ms
  huatuo trace task.state --comm 'postgres*' --stack io_schedule --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog, parser.formatter_class = _EXAMPLES, argparse.RawDescriptionHelpFormatter
    add_probe(parser)
    add_duration(parser, "", "stop after this time, for example 10s (default: Ctrl-C)")
    parser.add_argument("--count", type=int, metavar="N", help="stop after N events")
    add_filters(parser)


def run(arguments: argparse.Namespace) -> int:
    wanted = Wanted.of(arguments)
    probe = open_probe(arguments, Host(), wanted.settings)
    if not probe.event_schemas():
        raise UsageError(
            f"{probe.name} has no events, only metrics; use: huatuo collect {probe.name}"
        )
    for event in islice(live_events([probe], seconds(arguments), wanted), arguments.count):
        print_json(event) if arguments.json else print(show(event), flush=True)
    return 0


def show(event: Event) -> str:
    """Time, container, process and title; the stack below, when there is one."""
    lines = [f"{event.time[11:23]}  {container_of(event)}  {process_of(event)}  {event.title}"]
    lines += [f"    {frame}" for frame in event.stack]
    return "\n".join(lines)
