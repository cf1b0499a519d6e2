"""Loads of known size for live tests. All stop by themselves."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path
from typing import NamedTuple

__all__ = ["Hog", "Schedstat", "nap_storm", "schedstat", "switches"]


def _hog(cpu: int, seconds: float, join: str, ready: object) -> None:
    if join:
        Path(join, "cgroup.procs").write_text(str(os.getpid()))
    os.sched_setaffinity(0, {cpu})
    ready.wait()  # type: ignore[attr-defined]
    time.sleep(0.01)  # what runs on is charged to the cgroup it was switched in with
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


class Hog:
    """A process that wants one CPU for `seconds`, in the cgroup directory `cgroup` if given."""

    def __init__(self, cpu: int, seconds: float, cgroup: Path | None, ready: object) -> None:
        target = (cpu, seconds, str(cgroup or ""), ready)
        self._process = multiprocessing.get_context("fork").Process(target=_hog, args=target)
        self._process.start()
        assert self._process.pid
        self.pid: int = self._process.pid

    def wait(self) -> None:
        self._process.join(60)


class Schedstat(NamedTuple):
    """The kernel's own account of a task: /proc/PID/schedstat."""

    run_ns: int
    run_delay_ns: int


def schedstat(pid: int) -> Schedstat:
    """Time on CPU and time waited on a run queue so far."""
    run, delay, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    return Schedstat(int(run), int(delay))


def switches(pid: int) -> tuple[int, int]:
    """(voluntary, involuntary) context switches of a process's main thread."""
    found = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if "ctxt_switches" in line:
            name, value = line.split(":")
            found[name] = int(value)
    return found["voluntary_ctxt_switches"], found["nonvoluntary_ctxt_switches"]


def nap_storm(seconds: float, threads: int, busy_seconds: float = 0.004) -> None:
    """More runnable threads than CPUs, sleeping and computing in turn: many waits of all sizes."""
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=_napper, args=(seconds, busy_seconds * (1 + i % 5), i))
        for i in range(threads)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)


def _napper(seconds: float, busy: float, seed: int) -> None:
    end = time.monotonic() + seconds
    nap = 0.0005 * (1 + seed % 7)
    while time.monotonic() < end:
        until = time.monotonic() + busy
        while time.monotonic() < until:
            pass
        time.sleep(nap)
