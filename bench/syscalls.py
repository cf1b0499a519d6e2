"""What task.syscalls costs a system call, in a window and over time, and with many cgroups.

python -m bench syscalls            needs root

The load is one thread that calls getppid as fast as it can: the worst there is. In a window its
calls take the kernel's slower path and run two programs; what that costs is the difference of whole
runs, alternated. Over time it is that, for the share of the time that windows take by default.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from bench.compare import alternate, table
from bench.programs import cost_of_new_programs
from huatuo.kernel.cgroupfs import hierarchies
from huatuo.kernel.host import Host
from huatuo.probes.task.syscalls import Syscalls

_CALLS = 2_000_000
_PER_VISIT = 500  # calls between two moves to another cgroup
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
    """The same number of calls and moves, whatever the number of cgroups."""
    getppid = ctypes.CDLL(None).getppid
    me = str(os.getpid()).encode()
    files = [os.open(cgroup / "cgroup.procs", os.O_WRONLY) for cgroup in cgroups]
    try:
        for at in range(2 * _CGROUPS):
            os.write(files[at % len(files)], me)
            for _ in range(_PER_VISIT):
                getppid()
    finally:
        for file in files:
            os.close(file)
    return 0.0


def _by_cgroups(rounds: int) -> list[str]:
    lines = ["| cgroups | sys_enter ns | sys_exit ns | runs |", "|---:|---:|---:|---:|"]
    found: dict[int, list[dict[str, tuple[float, int]]]] = {1: [], _CGROUPS: []}
    with _cgroups(_CGROUPS) as all_of_them:
        for _ in range(rounds):
            for count, costs in found.items():

                def start(stack: ExitStack) -> None:
                    stack.enter_context(_watching(_SECOND, _SECOND))

                costs.append(cost_of_new_programs(start, lambda n=count: _travel(all_of_them[:n])))
    for count, costs in found.items():
        enter, leave = (median(c[name][0] for c in costs) for name in ("sys_enter", "sys_exit"))
        runs = median(c["sys_exit"][1] for c in costs)
        lines.append(f"| {count} | {enter:.0f} | {leave:.0f} | {runs:.0f} |")
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
            "### task.syscalls and the number of cgroups",
            "",
            *_by_cgroups(rounds),
        ]
    )
