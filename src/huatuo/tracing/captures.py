"""Captures as jobs: one at a time, limited in number and cost, refused with the reason."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from huatuo.errors import HuatuoError
from huatuo.governor import Governor
from huatuo.model.incident import Capture
from huatuo.settings import CaptureSettings
from huatuo.tracing.capture import PROFILERS, Captured, Stopped

__all__ = ["Captures", "Job", "now_text"]

log = logging.getLogger(__name__)

_QUEUED = 8
_KEPT = 200  # jobs that are over
_HOUR_SECONDS = 3600.0


def now_text() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@dataclass(slots=True)
class Job:
    """`state` is what others see; `done` gets what was captured, or None."""

    state: Capture
    done: Callable[[Job, Captured | None], None]
    stop: threading.Event = field(default_factory=threading.Event)

    def change(self, **changes: object) -> None:
        self.state = msgspec.structs.replace(self.state, **changes)


class Captures:
    """`work` collects for a job, in a thread. All methods are for the loop's thread."""

    def __init__(self, settings: CaptureSettings, governor: Governor, cpus: int,
                 work: Callable[[Job], Captured]) -> None:  # fmt: skip
        self._settings, self._governor, self._cpus, self._work = settings, governor, cpus, work
        self._jobs: dict[int, Job] = {}
        self._waiting: asyncio.Queue[Job] = asyncio.Queue()
        self._recent: deque[tuple[float, Job]] = deque()  # when begun
        self._last_id = 0
        self.counts: Counter[tuple[str, str]] = Counter()  # (plan, outcome) → captures
        self.cpu_seconds = 0.0

    def states(self) -> list[Capture]:
        """Newest first."""
        return [job.state for job in reversed(self._jobs.values())]

    def ask(
        self, plan: str, target: str, done: Callable[[Job, Captured | None], None],
        incident: int = 0,
    ) -> Job:  # fmt: skip
        """Queued, or refused with the reason; in both cases `done` is called once."""
        self._last_id += 1
        state = Capture(self._last_id, plan, target, "queued", asked=now_text(), incident=incident)
        job = Job(state, done)
        self._jobs[state.id] = job
        for old in list(self._jobs.values())[: max(len(self._jobs) - _KEPT, 0)]:
            if old.state.status not in ("queued", "running"):
                del self._jobs[old.state.id]
        if why := self._refusal(plan):
            self._end(job, "refused", why)
        else:
            self._waiting.put_nowait(job)
        return job

    def _refusal(self, plan: str) -> str:
        if plan not in PROFILERS:
            return f"there is no plan {plan!r}; known are {', '.join(PROFILERS)}"
        if self._waiting.qsize() >= _QUEUED:
            return f"{_QUEUED} captures are waiting"
        while self._recent and time.monotonic() - self._recent[0][0] > _HOUR_SECONDS:
            self._recent.popleft()
        if len(self._recent) + self._waiting.qsize() >= self._settings.per_hour:
            return f"{self._settings.per_hour} captures in an hour are allowed"
        spent = sum(job.state.cpu_seconds for _, job in self._recent)
        allowed = self._settings.cpu * _HOUR_SECONDS * self._cpus
        if spent >= allowed:
            return (
                f"captures of the last hour took {spent:.1f} s of CPU; {allowed:.1f} s are allowed"
            )
        governor = self._governor
        if governor.total_ratio > governor.cpu_budget:
            return f"the agent is over its budget: {governor.total_ratio:.2%} of the machine's CPU"
        if governor.memory_bytes > governor.memory_budget:
            return f"the agent is over its budget: {governor.memory_bytes >> 20} MiB of memory"
        return ""

    def stop(self, capture_id: int) -> bool:
        """Whether there was anything to stop."""
        job = self._jobs.get(capture_id)
        if job is None or job.state.status not in ("queued", "running"):
            return False
        job.stop.set()
        return True

    async def run(self) -> None:
        """One job after the other, until cancelled; then the one that runs is stopped."""
        while True:
            job = await self._waiting.get()
            if job.stop.is_set():
                self._end(job, "failed", "it was stopped")
                continue
            self._recent.append((time.monotonic(), job))
            job.change(status="running", started=now_text())
            try:
                await self._one(job)
            except asyncio.CancelledError:
                job.stop.set()
                raise

    async def _one(self, job: Job) -> None:
        try:
            found = await asyncio.to_thread(self._work, job)
        except (HuatuoError, OSError) as error:
            if not isinstance(error, Stopped):
                log.warning("capture %d failed: %s", job.state.id, error)
            self._end(job, "failed", str(error))
        except Exception as error:
            log.exception("capture %d failed", job.state.id)
            self._end(job, "failed", f"{type(error).__name__}: this is a bug")
        else:
            self.counts[job.state.plan, "done"] += 1
            self.cpu_seconds += found.cpu_seconds
            job.change(status="done", ended=now_text(), cpu_seconds=round(found.cpu_seconds, 3),
                       tasks=found.tasks, notes=found.notes)  # fmt: skip
            job.done(job, found)

    def _end(self, job: Job, status: str, reason: str) -> None:
        plan = job.state.plan if job.state.plan in PROFILERS else ""  # a name somebody made up
        self.counts[plan, status] += 1
        job.change(status=status, reason=reason, ended=now_text())
        job.done(job, None)
