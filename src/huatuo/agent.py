"""The agent: the one module that knows all packages and joins them.

    probes ──drain──▶ enricher ─▶ store + subscribers          every fraction of a second
    probes ──collect─▶ enricher ─▶ store                       every interval
    probes ◀─shed, restore── governor                          every period

Everything runs on one asyncio loop and one thread but writing to the store, which has a thread of
its own: neither a slow disk nor compaction delays the loop. The web server reads the store from
worker threads. `Agent` is also the `Node` that the server serves.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import ParamSpec, TypeVar

from huatuo.config import Config
from huatuo.enrich.application import Applications
from huatuo.enrich.containers.base import Kept
from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.containers.sources.asking import Answers, Asking
from huatuo.enrich.containers.sources.chosen import sources_of
from huatuo.enrich.containers.watching import Watching
from huatuo.enrich.enricher import Enricher
from huatuo.enrich.event_counts import EventCounts
from huatuo.enrich.known import KnownIssues
from huatuo.enrich.profiling import Profiling
from huatuo.enrich.symbols.native import SymbolSettings
from huatuo.enrich.watched import Watched
from huatuo.governor import Governor
from huatuo.kernel.heap import give_back, return_large_blocks
from huatuo.kernel.host import Host
from huatuo.model.application import ContainerApplication
from huatuo.model.event import Container, Event
from huatuo.model.metric import Metric
from huatuo.model.state import Decision, Health, ProbeState
from huatuo.probes.profiler import Profiler
from huatuo.probes.running import Entry, ProbeSet
from huatuo.pushing import Pushing
from huatuo.selfmetrics import (
    agent_metrics,
    describe,
    governor_metrics,
    probe_metrics,
    probe_problems,
    profiling_metrics,
    tracing_metrics,
)
from huatuo.serve.app import create_app
from huatuo.serve.listening import address_of, is_loopback, listening
from huatuo.serve.server import serve
from huatuo.store.embedded import EmbeddedStore
from huatuo.tracing.tracing import Tracing
from huatuo.wakeups import Wakeups

__all__ = ["Agent", "run"]

log = logging.getLogger(__name__)

_EXPIRE_SECONDS = 60.0
_FIRST_COLLECT_SECONDS = 0.3
_QUEUED_EVENTS = 1000  # per subscriber; a slower one loses the oldest, counted

P = ParamSpec("P")
T = TypeVar("T")


class Agent:
    """Use as an async context manager; `run_forever` returns when it is cancelled."""

    def __init__(self, config: Config, host: Host | None = None) -> None:
        self.config = config
        self.host = host or Host()
        chosen = config.containers
        self.watched = Watched(chosen.include, chosen.exclude, config.watched)
        labels = " ".join([chosen.labels, *sorted(self.watched.labels)])
        kept, answers = Kept(labels, chosen.annotations), Answers()
        self.inventory = Inventory(self.host, kept=kept, answers=answers)
        self.watched.follow(self.inventory)
        sources = sources_of(self.host, chosen, kept)
        self.asking = Asking(sources, answers, self.inventory)
        self.watching = Watching(self.host, self.inventory)
        self.enricher = Enricher(self.host, self.inventory, self.watched)
        self.applications = Applications(self.host, chosen.environment)
        self.known = KnownIssues(config.known)
        self.event_counts = EventCounts()
        self.probe_set = ProbeSet(self.host, config.probes, config.settings, self.watched)
        self.governor = Governor(
            self.host,
            self.probe_set,
            config.governor.cpu,
            config.governor.memory,
            config.governor.every / 1e9,
            config.agent.interval / 1e9,
            config.governor.profiling,
        )
        self.store = EmbeddedStore(
            Path(config.store.directory),
            max_bytes=config.store.max_size,
            max_age_seconds=config.store.max_age / 1e9,
        )
        directory = Path(config.store.directory) / "symbols"
        self.profiling = Profiling(
            self.host, self.inventory, self.enricher.symbols, directory, _symbols(config)
        )
        self.tracing = Tracing(
            self.host.cpus, self.store, self.governor, directory, config.triggers, config.capture,
            self.watched, self.inventory.named,
        )  # fmt: skip
        self.pushing: Pushing | None = None
        if config.push.url:
            self.pushing = Pushing(config.push, self.store.profiles, self.host.name)
        self._writer = ThreadPoolExecutor(1, "store")
        self._started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._subscribers: set[asyncio.Queue[Event]] = set()
        self.stream_lost = 0  # events a slow subscriber did not get; the store has them
        self._wakeups = Wakeups()
        self._urgent: list[int] = []  # what the unwinder is woken by
        self._watched_generation = 0
        self._serving: asyncio.TimerHandle | None = None  # goes on with what the unwinder was asked

    async def run_forever(self) -> None:
        """Start the probes and do all periodic work until cancelled."""
        try:
            return_large_blocks()
            self._refresh_targets()
            self.probe_set.start()
            self.watching.start()
            gc.freeze()  # modules and schemas stay: no collection looks at them again
            give_back()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(asyncio.to_thread(self.enricher.symbols.name, 1))  # loads them
                tasks.create_task(self._drain_forever())
                tasks.create_task(self._collect_forever())
                tasks.create_task(self._govern_forever())
                tasks.create_task(self._expire_forever())
                tasks.create_task(self.profiling.symbols.run())
                tasks.create_task(self.asking.run())
                tasks.create_task(self.tracing.run())
                if self.pushing is not None:
                    tasks.create_task(self._push_forever(self.pushing))
        finally:
            self._wakeups.close()
            self._watch_unwinder([])
            self._writer.shutdown()
            self._publish(self.store.append_events(self._new_events()))
            for batch in self.profiling.samples():
                self.store.profiles.append(batch)
            self.watching.close()
            self.profiling.close()
            if self.pushing is not None:
                self.pushing.close()
            self.probe_set.stop()
            self.store.close()

    async def _drain_forever(self) -> None:
        while True:
            with _surviving("events are not stored"):
                self._watch_rings()
                self._wakeups.clear()
                await self.drain()
            await self._wakeups.wait(self.probe_set.look_again_seconds())

    async def drain(self) -> None:
        """Move what is in the rings to the store and the subscribers."""
        events = self._new_events()
        if events:
            write, complete = self.store.append_events, self.applications.complete
            self._publish(await self._write(lambda: write(complete(events))))

    def _new_events(self) -> list[Event]:
        """What is in the rings; samples of stacks are set aside until they are stored."""
        events: list[Event] = []
        for cls, batch in self.probe_set.drain():
            if issubclass(cls, Profiler):
                self.profiling.take(cls, batch)
            else:
                events += self.known.judge(self.enricher.events(batch, cls))
        if self.probe_set.unwinder is not None:
            self.profiling.take_stacks(self.probe_set.unwinder)
        return events

    def _publish(self, events: Sequence[Event]) -> None:
        self.event_counts.add(events)
        for queue in self._subscribers:
            for event in events:
                if queue.full():
                    queue.get_nowait()
                    self.stream_lost += 1
                queue.put_nowait(event)

    async def _write(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """In the store's thread, and to the end even if the waiting is cancelled."""
        call = partial(work, *arguments, **named)
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._writer, call))

    def _serve_unwinder(self) -> None:
        """The kernel side waits for rows: the next sample of that code is whole if it has them."""
        if self._serving is not None:
            self._serving.cancel()
            self._serving = None
        if self.probe_set.unwinder is not None:
            with _surviving("stacks of new code end early"):
                pause = self.probe_set.unwinder.serve()
                if pause is not None:
                    loop = asyncio.get_running_loop()
                    self._serving = loop.call_later(pause, self._serve_unwinder)

    async def _store_profiles(self) -> None:
        for batch in self.profiling.samples():
            await self._write(self.store.profiles.append, batch)
        if repairs := self.profiling.repairs():
            await self._write(self.store.profiles.set_lines, repairs)

    def _watch_rings(self) -> None:
        """The set changes as probes do."""
        if self._watched_generation == self.probe_set.generation:
            return
        self._watched_generation = self.probe_set.generation
        running = [probe for _, probe in self.probe_set.running()]
        quiet = [fd for each in running if isinstance(each, Profiler) for fd in each.ring_fds()]
        self._wakeups.watch([fd for each in running for fd in each.ring_fds()], quiet)
        unwinder = self.probe_set.unwinder
        self._watch_unwinder(unwinder.urgent_fds if unwinder is not None else [])

    def _watch_unwinder(self, fds: list[int]) -> None:
        loop = asyncio.get_running_loop()
        for fd in self._urgent:
            loop.remove_reader(fd)
        for fd in fds:
            loop.add_reader(fd, self._serve_unwinder)
        self._urgent = fds

    async def _collect_forever(self) -> None:
        interval = self.config.agent.interval / 1e9
        await asyncio.sleep(min(_FIRST_COLLECT_SECONDS, interval))
        while True:
            began = time.monotonic()
            with _surviving("metrics are not stored"):
                self._refresh_targets()
                now_ns, metrics = time.time_ns(), self.metrics()
                await self._write(self.store.append_metrics, now_ns, metrics)
                self.tracing.observe(now_ns, metrics)
            with _surviving("profiles are not stored"):
                await self._store_profiles()
            await asyncio.sleep(max(interval - (time.monotonic() - began), 0.05))

    def _refresh_targets(self) -> None:
        self.inventory.refresh()
        self.probe_set.set_targets(self.inventory.cgroups())

    async def _govern_forever(self) -> None:
        settings = self.config.governor
        window, period = settings.window / 1e9, settings.every / 1e9
        await asyncio.sleep(min(5.0, period))
        while True:
            pause = period
            with _surviving("costs are not measured"):
                self.governor.begin_window()
                await asyncio.sleep(window)
                self.governor.end_window()
                pause = self.governor.step()
            await asyncio.sleep(max(pause - window, 0.05))

    async def _expire_forever(self) -> None:
        while True:
            await asyncio.sleep(_EXPIRE_SECONDS)
            with _surviving("old data is not removed"):
                await self._write(self.store.expire, time.time_ns())
                give_back()

    async def _push_forever(self, pushing: Pushing) -> None:
        while True:
            pause = 60.0
            with _surviving("profiles are not sent on"):
                pause = await asyncio.to_thread(pushing.step)
            await asyncio.sleep(pause)

    # what the web server asks (serve/node.py)

    def metrics(self) -> list[Metric]:
        found = self.enricher.metrics(self.probe_set.collect())
        states = self.probes()
        return [
            *found,
            *probe_metrics(states),
            *governor_metrics(self.governor, states),
            self.event_counts.metric(),
            *tracing_metrics(self.tracing),
            *agent_metrics(self.health(), self.store.usage(), self.stream_lost, self.known.counts),
            *profiling_metrics(self.profiling, self.probe_set.unwinder, self.pushing),
        ]

    def probes(self) -> list[ProbeState]:
        return [self._state(entry) for entry in self.probe_set.entries.values()]

    def _state(self, entry: Entry) -> ProbeState:
        governor, name = self.governor, entry.name
        pace, unknown = governor.paces.get(name, 1.0), self.profiling.unknown.get(name, 0)
        return describe(entry, governor.costs.get(name), pace, unknown)

    def decisions(self) -> list[Decision]:
        return list(self.governor.decisions)

    def containers(self) -> list[Container]:
        allows = self.watched.everywhere.allows
        return [owner for owner in self.inventory.containers() if allows(owner)]

    def application(self, container: Container) -> ContainerApplication:
        return self.applications.of_container(container)

    def health(self) -> Health:
        governor = self.governor
        problems = probe_problems(self.probe_set.entries.values())
        if self.enricher.symbols.problem:
            problems.append(self.enricher.symbols.problem)
        problems += [f"containers: {why}" for why in self.asking.problems.values()]
        problems += self.store.usage().notices
        if self.pushing is not None and self.pushing.pusher.problem:
            problems.append(f"profiles are not sent on: {self.pushing.pusher.problem}")
        return Health(
            status="degraded" if problems else "ok",
            problems=problems,
            version=version("huatuo"),
            host=self.host.name,
            kernel=self.host.kernel_release,
            started=self._started,
            cpu_ratio=governor.total_ratio,
            cpu_budget_ratio=governor.cpu_budget,
            memory_bytes=governor.memory_bytes,
            memory_budget_bytes=governor.memory_budget,
        )

    async def subscribe(self) -> AsyncIterator[Event]:
        queue: asyncio.Queue[Event] = asyncio.Queue(_QUEUED_EVENTS)
        self._subscribers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._subscribers.discard(queue)


@contextmanager
def _surviving(what: str) -> Iterator[None]:
    """Periodic work that fails is said and tried again next time; the agent lives."""
    try:
        yield
    except Exception:
        log.exception("%s; trying again", what)


def _symbols(config: Config) -> SymbolSettings:
    settings = config.symbols
    servers = tuple(settings.debuginfod.split())
    return SymbolSettings(settings.max_size, cpu_share=settings.cpu, debuginfod=servers)


def run(config: Config, ready: Callable[[str], None]) -> None:
    """Run an agent with its web server until SIGINT or SIGTERM; `ready` gets the UI's address."""
    asyncio.run(_run(config, ready))


async def _run(config: Config, ready: Callable[[str], None]) -> None:
    host, port, token = listening(config)
    agent = Agent(config)
    app = create_app(agent, token=token, require_token=not is_loopback(host))
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tasks: list[asyncio.Task[object]] = [
        asyncio.create_task(agent.run_forever()),
        asyncio.create_task(
            serve(app, host, port, started=lambda *bound: ready(address_of(*bound)))
        ),
        asyncio.create_task(stop.wait()),
    ]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()  # raises what ended it
