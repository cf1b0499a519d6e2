"""task.syscalls beside system calls of known number, made by a process in a cgroup of its own."""

from __future__ import annotations

import platform
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from huatuo.probes.task.syscalls import Syscalls
from tests.live.conftest import Group, cgroup, disturbed, metric, need, row, running

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

DURATION = "huatuo_task_syscalls_duration_seconds"
UNTIMED = "huatuo_task_syscalls_untimed_total"
CONTAINER = "huatuo_task_syscalls_container_duration_seconds"
CONTAINER_UNTIMED = "huatuo_task_syscalls_container_untimed_total"
ERRORS = "huatuo_task_syscalls_errors_total"
OBSERVED = "huatuo_task_syscalls_observed_seconds_total"
ALWAYS = {"window": 1_000_000_000, "every": 1_000_000_000}
# Runs each line that it is sent, and says how long that took.
DOER = """
import ctypes, mmap, os, signal, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
print("ready", flush=True)
for line in sys.stdin:
    began = time.monotonic()
    exec(line)
    print(time.monotonic() - began, flush=True)
"""


# mov $20, %eax; int $0x80; ret: getpid by the number and the gate of 32-bit programs
GETPID_32 = """
import ctypes, mmap
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex("b814000000cd80c3"))
getpid_32 = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
"""


class Doer:
    """A process that makes the system calls it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert self._said() == "ready"

    def _said(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def has_said(self, seconds: float) -> bool:
        """Whether there is an answer within so many seconds."""
        return bool(select.select([self._process.stdout], [], [], seconds)[0])

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGUSR1)

    def tell(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def done(self) -> float:
        """Seconds that it took."""
        return float(self._said())

    def do(self, line: str) -> float:
        self.tell(line)
        return self.done()


@contextmanager
def doer(name: str) -> Iterator[tuple[Group, Doer]]:
    with cgroup(name) as group, group.start([sys.executable, "-c", DOER], stdin=True) as process:
        try:
            yield group, Doer(process)
        finally:
            process.kill()


def count(probe: Syscalls, family: str, **labels: object) -> tuple[int, float]:
    """(number, sum of seconds) of these calls; none if there is no such row."""
    found = {each.name: each for each in probe.collect()}.get(family)
    if found is None:
        return 0, 0.0
    rows = row(found, **labels)
    seconds = float(found.sums[rows].sum()) if found.sums is not None else 0.0
    return int(found.values[rows].sum()), seconds


def test_every_call_counts_with_its_error_and_its_time() -> None:
    with doer("syscalls") as (group, process), running(Syscalls, **ALWAYS) as probe:

        def of_kind(kind: str) -> tuple[int, float]:
            return count(probe, CONTAINER, container=group.id, kind=kind)

        before = {kind: of_kind(kind) for kind in ("process", "wait", "network")}
        process.do("for _ in range(20_000): os.getppid()")
        assert of_kind("process")[0] - before["process"][0] == 20_000

        took = process.do("for _ in range(5): time.sleep(0.02)")
        number, seconds = (a - b for a, b in zip(of_kind("wait"), before["wait"], strict=True))
        assert number == 5
        assert 5 * 0.02 <= seconds <= took

        process.do("for _ in range(7): os.access('/nowhere', 0); libc.open(b'/nowhere', 0)")
        process.do("for _ in range(4): libc.close(999)")
        process.do("for _ in range(3): libc.connect(999, None, 0)")
        errors = {
            ("openat", "enoent"): 7,
            ("close", "ebadf"): 4,
            ("connect", "ebadf"): 3,
        }
        for (syscall, error), times in errors.items():
            labels = {"container": group.id, "syscall": syscall, "error": error}
            assert count(probe, ERRORS, **labels)[0] == times, syscall
        assert of_kind("network")[0] - before["network"][0] == 3
        assert count(probe, CONTAINER_UNTIMED, container=group.id, kind="process")[0] == 0
        assert probe.account().lost["map_full"] == 0


def test_calls_have_their_names_and_no_others_rows() -> None:
    """By calls that nobody else here makes; threads make them side by side."""
    thread = "for _ in range(2_500): libc.sched_rr_get_interval(0, buffer)"
    with doer("syscalls") as (_, process), running(Syscalls, **ALWAYS) as probe:
        process.do("buffer = ctypes.create_string_buffer(64)")
        process.do(
            f"work = compile({thread!r}, 'w', 'exec'); "
            "threads = [threading.Thread(target=exec, args=(work, globals())) for _ in range(4)]; "
            "[each.start() for each in threads]; [each.join() for each in threads]"
        )
        assert count(probe, DURATION, syscall="sched_rr_get_interval")[0] == 10_000
        assert count(probe, UNTIMED, syscall="sched_rr_get_interval")[0] == 0
        named = set(metric(probe, DURATION).labels["syscall"].values)
        assert {"read", "write", "futex", "clock_nanosleep"} & named
        assert "fspick" not in named, "nobody makes it"


def test_sleeps_are_in_the_slot_of_their_length() -> None:
    """clock_nanosleep of 20 ms: between 2^-6 and 2^-5 s, where nothing delays it."""
    with doer("syscalls") as (group, process), running(Syscalls, **ALWAYS) as probe:
        for _ in range(10):
            process.do("time.sleep(0.02)")
        found = metric(probe, CONTAINER)
        slots = found.values[row(found, container=group.id, kind="wait")].sum(axis=0)
        slot = 15  # from 2^(15-21) s on: bpf/histogram.bpf.h
        assert slots[:slot].sum() == 0
        assert slots[slot:].sum() == 10
        assert disturbed() or slots[slot] >= 8


def test_a_call_that_began_before_the_window_is_untimed() -> None:
    with doer("syscalls") as (group, process):
        process.do("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])")
        process.tell("signal.sigwait([signal.SIGUSR1])")
        time.sleep(0.3)
        with running(Syscalls, **ALWAYS) as probe:
            process.interrupt()
            process.done()
            wait = {"container": group.id, "kind": "wait"}
            assert count(probe, CONTAINER_UNTIMED, **wait)[0] == 1
            assert count(probe, CONTAINER, **wait)[0] == 0


def test_windows_give_the_true_rate() -> None:
    """A fifth of the time: calls per observed second are those that were really made per second."""
    with (
        doer("syscalls") as (group, process),
        running(Syscalls, window=100_000_000, every=500_000_000) as probe,
    ):
        calls = 200_000  # some seconds; a call is dearer in a window, which must not matter
        process.tell(f"for _ in range({calls}): os.getppid(); sum(range(2000))")
        began, attached = time.monotonic(), []
        while not process.has_said(0.01):
            assert probe.object
            attached.append(probe.object.is_attached("sys_exit"))
        took, elapsed = process.done(), time.monotonic() - began
        seen, _ = count(probe, CONTAINER, container=group.id, kind="process")
        observed = float(metric(probe, OBSERVED).values[0])
        assert probe.duty() == pytest.approx(0.2)
        assert 0.1 < observed / elapsed < 0.4
        assert 0.1 < seen / calls < 0.4
        assert seen / observed == pytest.approx(calls / took, rel=0.5 if disturbed() else 0.25)
        assert 0.05 < sum(attached) / len(attached) < 0.6, "its hooks are there in windows only"


def test_rows_of_containers_that_are_gone_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Syscalls, "map_sizes", {"by_container": 100})
    with running(Syscalls, **ALWAYS) as probe:
        gone = set()
        for number in range(40):  # each has a row per kind of call: at least three
            with cgroup(f"syscalls-{number}") as group:
                group.run(["true"])
                gone.add(group.id)
        assert probe.account().lost["map_full"] > 0, "there was not enough room"
        assert not gone & set(metric(probe, CONTAINER).labels["container"].values)
        with cgroup("syscalls") as group:
            group.run(["true"])
            assert count(probe, CONTAINER, container=group.id, kind="memory")[0] > 0


def test_calls_of_32_bit_programs_do_not_pass_for_others() -> None:
    """Number 20 is writev to 64-bit programs."""
    need(platform.machine() == "x86_64", "made of x86 instructions")
    works = subprocess.run([sys.executable, "-c", GETPID_32 + "getpid_32()"], check=False)
    need(works.returncode == 0, "this kernel runs no 32-bit programs")
    with doer("syscalls") as (group, process), running(Syscalls, **ALWAYS) as probe:
        process.do(f"exec({GETPID_32!r})")
        of_kind = {"container": group.id, "kind": "other"}
        before = count(probe, DURATION, syscall="other")[0], count(probe, CONTAINER, **of_kind)[0]
        process.do("for _ in range(6): assert getpid_32() == os.getpid()")
        assert count(probe, DURATION, syscall="other")[0] - before[0] == 6
        assert count(probe, CONTAINER, **of_kind)[0] - before[1] == 6
