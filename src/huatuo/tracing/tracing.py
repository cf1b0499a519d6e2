"""AutoTracing: triggers → captures → incidents, for the agent.

    snapshot ─▶ engine ─▶ firing ─▶ incident, stored at once ─▶ evidence ─▶ capture ─▶ more evidence

Judging runs in the agent's loop, which it takes two milliseconds; everything that reads the store
or collects runs in threads, one at a time each.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from huatuo.enrich.watched import Watched
from huatuo.errors import HuatuoError, StoreError
from huatuo.governor import Governor
from huatuo.kernel.heap import give_back
from huatuo.model.event import Container
from huatuo.model.incident import Capture, Incident, IncidentFile
from huatuo.model.metric import Metric
from huatuo.settings import CaptureSettings
from huatuo.store.base import Store
from huatuo.tracing import report
from huatuo.tracing.baseline import LearnedBaseline
from huatuo.tracing.capture import Captured, collect
from huatuo.tracing.captures import Captures, Job, now_text
from huatuo.tracing.evidence import container_of, short_name
from huatuo.triggers.rules import Engine, Firing, rules

__all__ = ["Tracing"]

log = logging.getLogger(__name__)

_AT_ONCE = 8  # firings of one snapshot that become incidents; more have one cause
_EXPIRE_SECONDS = 3600.0
_ANSWER_SECONDS = 10.0
_INTERRUPTED = "the agent ended during the capture"


T = TypeVar("T")


class Tracing:
    """`observe` after each snapshot was stored; `run` beside it until cancelled. Raises
    ConfigError if a trigger cannot be understood."""

    def __init__(self, cpus: int, store: Store, governor: Governor, symbols: Path,
                 triggers: Sequence[Mapping[str, Any]],
                 settings: CaptureSettings, watched: Watched,
                 named: Callable[[str], Container | None]) -> None:  # fmt: skip
        self._store, self._symbols = store, symbols
        self._settings, self._watched = settings, watched
        chosen = rules(triggers)
        self._rules = {rule.trigger.name: rule for rule in chosen}
        self.baseline = LearnedBaseline(store, Engine(chosen).learned())
        self._engine = Engine(chosen, self.baseline, named)
        self.captures = Captures(settings, governor, cpus, self._collect)
        self._work: asyncio.Queue[Callable[[], None]] = asyncio.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.fired: Counter[str] = Counter()  # trigger → firings
        self.not_followed = 0  # firings beside many others

    def observe(self, now_ns: int, metrics: Sequence[Metric]) -> list[Firing]:
        """Judge a snapshot. What fires is followed up by `run`."""
        fired = self._engine.observe(now_ns, metrics)
        for firing in fired[:_AT_ONCE]:
            log.warning("trigger %s fired for %s: %s", firing.trigger.name,
                        firing.target or "the host", "; ".join(map(str, firing.facts)))  # fmt: skip
            self._work.put_nowait(lambda firing=firing: self._follow(firing))  # type: ignore[misc]
        self.fired.update(firing.trigger.name for firing in fired)
        self.not_followed += len(fired[_AT_ONCE:])
        if self.baseline.is_due(now_ns):
            self._work.put_nowait(lambda: self.baseline.refresh(now_ns))
        return fired

    async def run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._work.put_nowait(self._close_interrupted)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.captures.run())
            tasks.create_task(self._work_forever())
            tasks.create_task(self._expire_forever())

    async def _work_forever(self) -> None:
        while True:
            work = await self._work.get()
            try:
                await asyncio.to_thread(work)
            except HuatuoError as error:
                log.warning("an incident lacks evidence: %s", error)
            except Exception:
                log.exception("an incident lacks evidence")

    async def _expire_forever(self) -> None:
        while True:
            before = time.time_ns() - self._settings.keep
            self._work.put_nowait(lambda before=before: self._store.incidents.expire(before))  # type: ignore[misc]
            await asyncio.sleep(_EXPIRE_SECONDS)

    # what the web server asks (serve/node.py), from its threads

    def states(self) -> list[Capture]:
        return self._in_loop(self.captures.states)

    def ask(self, plan: str, container: str) -> Capture:
        """A capture by hand, which becomes an incident too."""
        now_ns = time.time_ns()
        incident = report.manual(plan, container, now_ns, now_text())
        incident = self._store.incidents.put(incident)
        return self._in_loop(lambda: self._ask(incident, plan, container, now_ns))

    def stop(self, capture_id: int) -> bool:
        return self._in_loop(lambda: self.captures.stop(capture_id))

    def _in_loop(self, ask: Callable[[], T]) -> T:
        if self._loop is None:
            raise HuatuoError("the agent is still starting")
        answer: Future[T] = Future()
        self._loop.call_soon_threadsafe(lambda: answer.set_result(ask()))
        return answer.result(_ANSWER_SECONDS)

    # -- in threads ----------------------------------------------------------------------------

    def _close_interrupted(self) -> None:
        """What an agent before this one did not complete, whatever it ended of."""
        for incident in self._store.incidents.list(limit=100):
            capture = incident.capture
            if capture is not None and capture.status in ("queued", "running"):
                capture = msgspec.structs.replace(capture, status="failed", reason=_INTERRUPTED)
            elif incident.summary:
                continue
            ended = msgspec.structs.replace(incident, capture=capture)
            said = report.summary(ended)
            self._store.incidents.put(msgspec.structs.replace(ended, summary=said))

    def _follow(self, firing: Firing) -> None:
        """The incident is stored before anything that may fail or take its time."""
        trigger = firing.trigger
        incident = self._store.incidents.put(report.begun(firing, now_text()))
        assert self._loop is not None
        if trigger.plan:
            container = container_of(trigger.per, firing.target)
            self._loop.call_soon_threadsafe(
                self._ask, incident, trigger.plan, container, firing.since_ns
            )
        else:
            self._keep(incident, None, None, firing.since_ns)

    def _ask(self, incident: Incident, plan: str, container: str, since_ns: int) -> Capture:
        """In the loop. The evidence of the minutes before is gathered while the capture runs."""
        place = [incident]

        def done(job: Job, found: Captured | None) -> None:
            self._work.put_nowait(lambda: self._keep(place[0], job, found, since_ns))

        def begin() -> None:
            queued = msgspec.structs.replace(incident, capture=job.state)
            place[0] = self._judged(queued, since_ns)

        # queued before `ask`, whose refusal calls `done` at once
        self._work.put_nowait(lambda: begin())
        job = self.captures.ask(plan, container, done, incident.id)
        return job.state

    def _judged(self, incident: Incident, since_ns: int) -> Incident:
        rule = self._rules.get(incident.trigger)
        try:
            incident = report.judged(self._store, incident, rule, since_ns)
        except StoreError as error:
            log.warning("an incident lacks evidence: %s", error)
        return self._store.incidents.put(incident)

    def _keep(
        self, incident: Incident, job: Job | None, found: Captured | None, since_ns: int
    ) -> None:
        """The end: with all samples of the time of the trigger, which came later than it."""
        incident = msgspec.structs.replace(incident, end_ns=time.time_ns())
        incident = self._judged(incident, since_ns)
        if job is None:
            return
        files: list[IncidentFile] = []
        state = msgspec.structs.replace(job.state, incident=incident.id)
        try:
            incident, files = report.captured(self._store, incident, state, found, since_ns)
        except StoreError as error:
            log.warning("an incident lacks evidence: %s", error)
        self._store.incidents.put(incident, files)
        job.state = incident.capture or state
        give_back()  # merging profiles took some ten MiB

    def _collect(self, job: Job) -> Captured:
        state = job.state
        seconds = self._settings.duration / 1e9
        return collect(self._symbols, state.plan, short_name(state.target), seconds,
                       self._settings.samples, self._watched.texts, job.stop)  # fmt: skip
