"""What task.syscalls costs a system call, in a window and over time, and with many cgroups.

python -m bench syscalls            needs root

The load is one thread that calls getppid as fast as it can: the worst there is. In a window its
calls take the kernel's slower path and run two programs; what that costs is the difference of whole
runs, alternated. Over time it is that, for the share of the time that windows take by default.
"""

from __future__ import annotations

import ctypes
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import median

from bench.compare import alternate, table
from bench.programs import cost_of_new_programs, probe
from huatuo.kernel.cgroupfs import hierarchies
from huatuo.kernel.host import Host
from huatuo.probes.task.syscalls import Syscalls

_CALLS = 2_000_000
_PER_VISIT = 500  # calls between two moves to another cgroup
_ROUND_TRIPS = 10  # likewise
_CGROUPS = 1000
_SECOND = 1_000_000_000


@contextmanager
def _watching(window: int, every: int) -> Iterator[None]:
    running = Syscalls(Host(), {"window": window, "every": every})
    running.start()
    try:
        yield
    finally:
        running.stop()


def _storm(calls: int = _CALLS) -> float:
    """ns per call, the loop included."""
    getppid = ctypes.CDLL(None).getppid
    began = time.perf_counter_ns()
    for _ in range(calls):
        getppid()
    return (time.perf_counter_ns() - began) / calls


@contextmanager
def _cgroups(count: int) -> Iterator[list[Path]]:
    root = hierarchies(Host()).identity
    assert root
    parent = root / f"huatuo-bench-{os.getpid()}"
    children = [parent / str(number) for number in range(count)]
    home = root / "cgroup.procs"
    parent.mkdir()
    try:
        for child in children:
            child.mkdir()
        yield children
    finally:
        home.write_text(str(os.getpid()))
        for child in children:
            child.rmdir()
        parent.rmdir()


def _travel(cgroups: list[Path]) -> float:
    """The same number of calls, switches and moves, whatever the number of cgroups."""
    getppid = ctypes.CDLL(None).getppid
    me = str(os.getpid()).encode()
    files = [os.open(cgroup / "cgroup.procs", os.O_WRONLY) for cgroup in cgroups]
    here, there = socket.socketpair()
    echo = os.fork()
    if echo == 0:
        here.close()
        while data := there.recv(1):
            there.send(data)
        os._exit(0)
    there.close()
    cpus = os.sched_getaffinity(0)
    for pid in (0, echo):
        os.sched_setaffinity(pid, {min(cpus)})  # every round trip is two switches
    try:
        for at in range(2 * _CGROUPS):
            os.write(files[at % len(files)], me)
            for _ in range(_PER_VISIT):
                getppid()
            for _ in range(_ROUND_TRIPS):
                here.send(b"x")
                here.recv(1)
    finally:
        here.close()
        os.waitpid(echo, 0)
        os.sched_setaffinity(0, cpus)
        for file in files:
            os.close(file)
    return 0.0


def _by_cgroups(rounds: int) -> list[str]:
    """Program by program, in turn with one cgroup and with many."""
    watchers: dict[str, tuple[Callable[[], AbstractContextManager[None]], tuple[str, ...]]] = {
        "task.syscalls": (lambda: _watching(_SECOND, _SECOND), ("sys_enter", "sys_exit")),
        "cpu.sched": (lambda: probe("cpu.sched"), ("sched_switch__exact",)),
    }
    found: dict[tuple[str, int], list[float]] = {}
    with _cgroups(_CGROUPS) as all_of_them:
        for _ in range(rounds):
            for watcher, programs in watchers.values():
                for count in (1, _CGROUPS):
                    costs = cost_of_new_programs(
                        lambda stack, w=watcher: stack.enter_context(w()),
                        lambda n=count: _travel(all_of_them[:n]),
                    )
                    for program in programs:
                        found.setdefault((program, count), []).append(costs[program][0])
    lines = [f"| probe | program | ns, one cgroup | ns, {_CGROUPS} |", "|---|---|---:|---:|"]
    for name, (_, programs) in watchers.items():
        for program in programs:
            one, many = (median(found[program, count]) for count in (1, _CGROUPS))
            lines.append(f"| {name} | {program} | {one:.0f} | {many:.0f} |")
    return lines


def _turning() -> float:
    """Seconds of CPU that opening and closing a window takes, of our thread."""
    running = Syscalls(Host(), {"window": _SECOND // 50, "every": _SECOND // 10})
    running.start()
    time.sleep(3.05)
    windows, spent = 30, running.own_seconds()
    running.stop()
    return spent / windows


def run(rounds: int) -> str:
    """Two tables, and what follows from the first."""
    variants = {"in a window": lambda: _watching(_SECOND, _SECOND)}
    rows = alternate(_storm, variants, rounds)
    running = Syscalls(Host())
    share, turning = running.duty(), _turning()
    per_second = turning * 1e9 / running.settings["every"]
    at_a_million = rows[1].difference * 1e6 / 1e9 * share + per_second
    so = (
        f"Windows are {share:.0%} of the time by default; opening and closing one takes "
        f"{turning * 1e3:.1f} ms of CPU. At 1,000,000 calls a second: {at_a_million:.2%} of a CPU."
    )
    return "\n".join(
        [
            table("getppid, over and over, in one thread", "ns per call", rows),
            "",
            so,
            "",
            "### Programs and the number of cgroups",
            "",
            *_by_cgroups(rounds),
        ]
    )
