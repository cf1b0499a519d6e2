"""Which tables are wanted, and the worker process that builds them, one at a time.

Small files go together, since a process costs more to start than they to read. If a worker fails,
the file that it was at is tried again with less effort, and given up at last; the others go again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from huatuo.enrich.symbols.binary import BinaryFile
from huatuo.enrich.symbols.build import Effort, Plan, Request, build
from huatuo.enrich.symbols.cache import Cache
from huatuo.kernel.rooted import open_regular, open_root
from huatuo.kernel.worker import Limits, Outcome, Worker

__all__ = ["Builder", "BuilderCounts", "SymbolSettings"]

log = logging.getLogger(__name__)

_MOST_WANTED = 256  # each holds two open files
_SMALL, _MOST_TOGETHER, _BYTES_TOGETHER = 8 << 20, 16, 32 << 20
_BURST_SECONDS = 120.0
_AFTER_TROUBLE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class SymbolSettings:
    """`cpu_share` is how much of one CPU workers may use over time, after the first two minutes.

    `debuginfod`: addresses of servers; none are asked unless they are named here.
    """

    max_bytes: int = 512 << 20
    limits: Limits = Limits()  # noqa: RUF009  (immutable)
    cpu_share: float = 0.05
    debuginfod: tuple[str, ...] = ()
    download_seconds: float = 60
    download_bytes: int = 1 << 30


@dataclass(slots=True)
class BuilderCounts:
    """Since the start; `peak_bytes` is the largest worker's."""

    built: int = 0
    failed: int = 0
    refused: int = 0  # could not be opened, or too many were wanted
    workers: int = 0
    worker_seconds: float = 0.0
    peak_bytes: int = 0


@dataclass(slots=True)
class _Wanted:
    file: BinaryFile
    fd: int
    root: int  # -1: its processes are gone
    effort: int = Effort.ALL

    def close(self) -> None:
        for fd in (self.fd, self.root):
            if fd >= 0:
                os.close(fd)


class _Job(NamedTuple):
    worker: Worker
    keys: list[str]
    passing: list[tuple[Path, int]]


class Builder:
    def __init__(self, cache: Cache, host_root: Path, settings: SymbolSettings) -> None:
        self._cache = cache
        self._settings = settings
        self._host_root = open_root(host_root)
        self._wanted: OrderedDict[str, _Wanted] = OrderedDict()
        self._job: _Job | None = None
        self._credit, self._credited = _BURST_SECONDS, time.monotonic()
        self._not_before = 0.0
        self._wake = asyncio.Event()
        self.is_running = False
        self.counts = BuilderCounts()

    def __contains__(self, key: str) -> bool:
        return key in self._wanted

    def __len__(self) -> int:
        return len(self._wanted)

    def want(self, key: str, file: BinaryFile) -> bool:
        """Opens the file and remembers it; false if it cannot be opened, or too many are wanted."""
        if key in self._wanted:
            return True
        fd = -1
        if len(self._wanted) < _MOST_WANTED:
            with contextlib.suppress(OSError):
                fd = open_regular(file.open_at)
        if fd < 0 or os.fstat(fd).st_size != file.identity.size:  # (gone, or another file now)
            self.counts.refused += 1
            if fd >= 0:
                os.close(fd)
            return False
        root = -1
        with contextlib.suppress(OSError):
            root = open_root(file.root)
        self._wanted[key] = _Wanted(file, fd, root)
        self._wake.set()
        return True

    def poll(self, in_haste: bool = False) -> list[str]:
        """Goes on with the work; keys whose tables are there now, also those that failed.

        `in_haste`: without regard to `cpu_share`.
        """
        done: list[str] = []
        if self._job is not None and (outcome := self._job.worker.poll()) is not None:
            job, self._job = self._job, None
            done = self._finish(job, outcome)
        if self._job is None and self._wanted and not self._pause(in_haste):
            self._start()
        return done

    async def run(self, ready: Callable[[list[str]], None]) -> None:
        """Builds what is wanted, until cancelled; nobody else calls `poll` meanwhile."""
        self.is_running = True
        try:
            while True:
                ready(self.poll())
                self._wake.clear()
                if self._job is not None:
                    await self._job.worker.outcome()
                elif self._wanted:
                    await asyncio.sleep(max(self._pause(), 0.1))
                else:
                    await self._wake.wait()
        finally:
            self.is_running = False

    def wait(self, seconds: float) -> None:
        """Until the running worker ends, or so long; for a caller without an event loop."""
        ended = select.poll()
        if self._job is not None:
            ended.register(self._job.worker, select.POLLIN)
        ended.poll(max(seconds, 0) * 1000)

    def close(self) -> None:
        if self._job is not None:
            self._job.worker.kill()
            self._discard(self._job)
            self._job = None
        for wanted in self._wanted.values():
            wanted.close()
        self._wanted.clear()
        if self._host_root >= 0:
            os.close(self._host_root)
            self._host_root = -1

    def _pause(self, in_haste: bool = False) -> float:
        """Seconds until a worker may start; zero for now."""
        now = time.monotonic()
        self._credit += (now - self._credited) * self._settings.cpu_share
        self._credit = min(self._credit, _BURST_SECONDS)
        self._credited = now
        debt = 0.0 if in_haste else max(-self._credit, 0.0) / self._settings.cpu_share
        return max(debt, self._not_before - now, 0.0)

    def _choose(self) -> list[str]:
        """What the next worker does: the oldest, and with a small one other small ones."""
        chosen: list[str] = []
        total = 0
        for key, wanted in self._wanted.items():
            size = wanted.file.identity.size
            alone = size > _SMALL or wanted.effort > Effort.ALL or self._settings.debuginfod
            if chosen and (alone or total + size > _BYTES_TOGETHER):
                continue
            chosen.append(key)
            total += size
            if alone or len(chosen) >= _MOST_TOGETHER:
                break
        return chosen

    def _start(self) -> None:
        keys, settings = self._choose(), self._settings
        passing: list[tuple[Path, int]] = []
        fds = {self._host_root}
        requests = []
        try:
            for key in keys:
                wanted = self._wanted[key]
                passing.append(self._cache.new())
                out = passing[-1][1]
                fds |= {fd for fd in (wanted.fd, wanted.root, out) if fd >= 0}
                requests.append(
                    Request(wanted.fd, wanted.root, out, wanted.file.path, wanted.effort)
                )
            plan = Plan(
                requests, self._host_root, str(self._cache.directory), settings.limits.cpu_seconds,
                list(settings.debuginfod), settings.download_seconds, settings.download_bytes,
            )  # fmt: skip
            arguments = {"plan": msgspec.to_builtins(plan)}
            worker = Worker(build, arguments, sorted(fds), settings.limits)
        except OSError as error:  # no disk, no memory, no processes: not the files' fault
            self._trouble(error.strerror or str(error))
            for path, fd in passing:
                os.close(fd)
                path.unlink(missing_ok=True)
            return
        self.counts.workers += 1
        self._job = _Job(worker, keys, passing)

    def _finish(self, job: _Job, outcome: Outcome) -> list[str]:
        self._credit -= outcome.cpu_seconds
        self.counts.worker_seconds += outcome.cpu_seconds
        self.counts.peak_bytes = max(self.counts.peak_bytes, outcome.peak_bytes)
        if outcome.problem and not outcome.results:
            self._trouble(outcome.problem)  # it did not even begin: no file is to blame
            self._discard(job)
            return []
        built, failed, current = _told(outcome, len(job.keys))
        done: list[str] = []
        for index, key in enumerate(job.keys):
            if index in built:
                problem = self._cache.keep(job.passing[index][0], key)
            else:
                problem = failed.get(index, "")
            if index in built and not problem:
                self.counts.built += 1
                done.append(self._forget(key))
            elif problem or (index == current and self._less_effort(key, outcome.problem)):
                done.append(self._give_up(key, problem or outcome.problem))
        self._discard(job)
        return done

    def _trouble(self, why: str) -> None:
        log.warning("symbols cannot be built: %s", why)
        self._not_before = time.monotonic() + _AFTER_TROUBLE_SECONDS

    def _less_effort(self, key: str, problem: str) -> bool:
        """Whether nothing less is left to try."""
        wanted = self._wanted[key]
        wanted.effort += 1
        log.info("symbols of %s: the worker %s", wanted.file.path, problem)
        return wanted.effort > Effort.NO_NAMES

    def _give_up(self, key: str, problem: str) -> str:
        log.warning("symbols of %s cannot be read: %s", self._wanted[key].file.path, problem)
        self.counts.failed += 1
        self._cache.keep_failure(key)
        return self._forget(key)

    def _forget(self, key: str) -> str:
        self._wanted.pop(key).close()
        return key

    def _discard(self, job: _Job) -> None:
        for path, fd in job.passing:
            os.close(fd)
            path.unlink(missing_ok=True)  # those that were kept have another name now


def _told(outcome: Outcome, count: int) -> tuple[set[int], dict[int, str], int]:
    """(built, failed → why, at which one the worker ended) as far as its results make sense."""
    built: set[int] = set()
    failed: dict[int, str] = {}
    current = 0
    for result in outcome.results:
        match result:
            case {"at": int(index)} if 0 <= index < count:
                current = index
            case {"built": int(index)} if 0 <= index < count:
                built.add(index)
            case {"failed": int(index), "why": str(why)} if 0 <= index < count:
                failed[index] = why
    return built, failed, current
