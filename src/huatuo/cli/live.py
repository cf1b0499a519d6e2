"""Events of probes as they happen, without an agent: for `trace` and the tools like it."""

from __future__ import annotations

import argparse
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from huatuo.cli.common import add_duration
from huatuo.cli.wanted import Wanted
from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.enricher import Enricher
from huatuo.kernel.cgroup_events import CgroupEvents
from huatuo.model.event import Event
from huatuo.probes.base import Account, Probe

__all__ = ["add_view", "container_of", "live_events", "process_of"]

_POLL_SECONDS = 0.2
_EVERYWHERE = {
    "--json": "print JSON, for programs",
    "--verbose": "also print what the kernel said",
}


def add_view(
    views: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    text: str,
    examples: str,
) -> argparse.ArgumentParser:
    """A command's part, such as `slow` of `io`, with the options that all of them have."""
    view = views.add_parser(
        name,
        help=summary,
        description=text,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_duration(view, "", "stop after this time, for example 10s (default: Ctrl-C)")
    for option, help_text in _EVERYWHERE.items():  # also behind the view
        view.add_argument(option, action="store_true", default=argparse.SUPPRESS, help=help_text)
    return view


def live_events(
    probes: Sequence[Probe],
    duration: float | None,
    wanted: Wanted | None = None,
    helpers: Sequence[Probe] = (),
    heads: str = "",
) -> Iterator[Event]:
    """Start the probes, give the events that are wanted until the time is up or Ctrl-C, stop them
    and say on stderr what became of their records. `helpers` only run beside them; `heads` are
    printed once all run."""
    with ExitStack() as stack:
        live = _Live(probes, helpers, wanted or Wanted())
        stack.callback(live.close)
        live.start()
        if heads:
            print(heads, flush=True)
        is_over = stack.enter_context(_until(duration))
        yield from live.events(is_over)


@contextmanager
def _until(duration: float | None) -> Iterator[Callable[[], bool]]:
    """Whether the time is up or Ctrl-C was pressed: what is there then is still shown. Pressed
    again, it ends everything at once."""
    end = time.monotonic() + duration if duration else float("inf")
    pressed = False

    def press(*_: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    before = signal.signal(signal.SIGINT, press)
    try:
        yield lambda: pressed or time.monotonic() >= end
    finally:
        signal.signal(signal.SIGINT, before)


class _Live:
    def __init__(self, probes: Sequence[Probe], helpers: Sequence[Probe], wanted: Wanted) -> None:
        host = probes[0].host
        self._probes, self._helpers, self._wanted = probes, helpers, wanted
        self._inventory = Inventory(host)
        self._enricher = Enricher(host, self._inventory)
        self._epoch: object = None  # of the inventory, when the kernel was told whom to leave out
        self._started: list[Probe] = []
        for probe in probes:
            wanted.tell(probe)
        self._cgroups = CgroupEvents(host)
        self._inventory.follow(self._cgroups)

    def start(self) -> None:
        self._narrow()
        for probe in (*self._helpers, *self._probes):
            probe.start()
            self._started.append(probe)
            if probe in self._probes:
                print(f"{probe.name}: {', '.join(probe.hooks)}", file=sys.stderr, flush=True)
                for note in probe.notes:
                    print(f"{probe.name}: {note}", file=sys.stderr, flush=True)

    def close(self) -> None:
        for probe in self._started:
            account = probe.account()
            probe.stop()
            if probe in self._probes:
                _say_account(probe.name, account)
        self._cgroups.close()

    def events(self, is_over: Callable[[], bool]) -> Iterator[Event]:
        """In order of time, as far as they come together."""
        poller = select.poll()
        for fd in (self._cgroups.fd, *(fd for probe in self._started for fd in probe.ring_fds())):
            poller.register(fd, select.POLLIN)
        last = False
        while not last:
            last = is_over()
            pause = self._inventory.look_again() or _POLL_SECONDS
            self._narrow()
            yield from sorted(self._drained(), key=lambda event: event.time)
            if not last:
                poller.poll(min(_POLL_SECONDS, pause) * 1000)

    def _drained(self) -> Iterator[Event]:
        for helper in self._helpers:
            for _ in helper.drain():
                pass
        for probe in self._probes:
            for batch in probe.drain():
                yield from filter(self._wanted.holds, self._enricher.events(batch, type(probe)))

    def _narrow(self) -> None:
        """Tell the kernel whom to leave out, if that has changed."""
        if self._wanted.container and self._inventory.epoch != self._epoch:
            self._wanted.leave_out(self._probes, self._inventory)
            self._epoch = self._inventory.epoch


def _say_account(name: str, account: Account) -> None:
    """What became of all records, on standard error."""
    held = {**account.suppressed, **account.lost}
    missing = ", ".join(f"{count} {reason}" for reason, count in held.items() if count)
    print(
        f"{name}: {account.produced} produced, {account.delivered} delivered"
        + (f"; not shown: {missing}" if missing else ""),
        file=sys.stderr,
    )


def container_of(event: Event) -> str:
    return event.container.full_name if event.container else "-"


def process_of(event: Event) -> str:
    return f"{event.process.comm}[{event.process.pid}]" if event.process else "-"
