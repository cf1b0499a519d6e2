"""Print the events of one probe live, without an agent.

Ends after --duration or on Ctrl-C, and then says what was suppressed or lost.
"""

from __future__ import annotations

import argparse
import select
import sys
import time
from collections.abc import Iterator

from huatuo.cli.common import add_duration, add_probe, open_probe, print_json, seconds
from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.enricher import Enricher
from huatuo.errors import UsageError
from huatuo.kernel.cgroup_events import CgroupEvents
from huatuo.kernel.host import Host
from huatuo.model.event import Container, Event
from huatuo.probes.base import Account, Probe

__all__ = ["configure", "live_events", "owned", "run", "say_account", "show"]

_POLL_SECONDS = 0.2


def configure(parser: argparse.ArgumentParser) -> None:
    add_probe(parser)
    add_duration(parser, "", "stop after this time, for example 10s (default: Ctrl-C)")
    parser.add_argument(
        "--container", metavar="C", help="only events of this container (name or id)"
    )
    parser.add_argument("--count", type=int, metavar="N", help="stop after N events")


def run(arguments: argparse.Namespace) -> int:
    probe = open_probe(arguments, Host())
    if not probe.event_schemas():
        raise UsageError(
            f"{probe.name} has no events, only metrics; use: huatuo collect {probe.name}"
        )
    printed = 0
    for event in live_events(probe, seconds(arguments)):
        if arguments.container and not owned(event.container, arguments.container):
            continue
        print_json(event) if arguments.json else print(show(event), flush=True)
        printed += 1
        if printed == arguments.count:
            break
    return 0


def live_events(probe: Probe, duration: float | None) -> Iterator[Event]:
    """Start the probe, give its events until the time is up or Ctrl-C, stop it and say on stderr
    what became of its records."""
    inventory = Inventory(probe.host)
    enricher = Enricher(probe.host, inventory)
    probe.start()
    cgroups = CgroupEvents(probe.host)
    inventory.follow(cgroups)
    try:
        print(f"{probe.name}: {', '.join(probe.hooks)}", file=sys.stderr, flush=True)
        yield from _events(probe, enricher, duration, cgroups, inventory)
    except KeyboardInterrupt:
        pass
    finally:
        account = probe.account()
        probe.stop()
        cgroups.close()
        say_account(account)


def _events(
    probe: Probe,
    enricher: Enricher,
    duration: float | None,
    cgroups: CgroupEvents,
    inventory: Inventory,
) -> Iterator[Event]:
    end = time.monotonic() + duration if duration else float("inf")
    poller = select.poll()
    for fd in (*probe.ring_fds(), cgroups.fd):
        poller.register(fd, select.POLLIN)
    last = False
    while not last:
        last = time.monotonic() >= end
        pause = inventory.look_again() or _POLL_SECONDS
        for batch in probe.drain():
            yield from enricher.events(batch, type(probe))
        if not last:
            poller.poll(min(_POLL_SECONDS, pause, max(end - time.monotonic(), 0)) * 1000)


def owned(owner: Container | None, wanted: str) -> bool:
    """Whether that is the container's name, also with its pod's, or the beginning of its id."""
    return owner is not None and (
        wanted in (owner.name, owner.full_name)
        or (len(wanted) >= 6 and owner.id.startswith(wanted))
    )


def show(event: Event) -> str:
    """Time, container, process and title; the stack below, when there is one."""
    who = event.container.full_name if event.container else "-"
    process = f"{event.process.comm}[{event.process.pid}]" if event.process else "-"
    lines = [f"{event.time[11:23]}  {who}  {process}  {event.title}"]
    lines += [f"    {frame}" for frame in event.stack]
    return "\n".join(lines)


def say_account(account: Account) -> None:
    """What became of all records, on standard error."""
    held = {**account.suppressed, **account.lost}
    missing = ", ".join(f"{count} {reason}" for reason, count in held.items() if count)
    print(
        f"{account.produced} produced, {account.delivered} delivered"
        + (f"; not shown: {missing}" if missing else ""),
        file=sys.stderr,
    )
