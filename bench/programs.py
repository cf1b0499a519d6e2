"""Nanoseconds per run of each BPF program under load, beside the tool a user would pick instead.

Read from BPF statistics, less what the statistics themselves add (kernel/calibration.py). Entering
a program costs about 64 ns more, which statistics cannot see, for every program of either side.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from bench.overhead import fast_device, fio_randread, sched_messaging, sched_pipe, tcp_round_trips
from huatuo.kernel.calibration import statistics_overhead_ns
from huatuo.kernel.host import Host
from huatuo.kernel.object import statistics_window
from huatuo.probes.base import discover

PAGE = 4096

# probe → (tool of Debian's libbpf-tools, its arguments)
COUNTERPARTS = {
    "cpu.sched": ("runqlat", []),
    "cpu.softirq": ("softirqs", ["-d"]),
    "block.latency": ("biolatency", []),
    "net.drop": ("", []),
    "net.receive": ("", []),  # in its window
    "memory.faults": ("", []),
    "irq.handler": ("hardirqs", ["-d"]),
    "irq.tick": ("", []),
    "task.exit": ("", []),
    "task.fork": ("", []),
}


def run_counts() -> dict[int, tuple[str, int, int]]:
    """Program id → (name, run time ns, runs) of every program on the machine."""
    result = subprocess.run(
        ["bpftool", "-j", "prog", "show"], check=True, capture_output=True, text=True
    )
    return {
        p["id"]: (p.get("name", "?"), p.get("run_time_ns", 0), p.get("run_cnt", 0))
        for p in json.loads(result.stdout)
    }


@contextmanager
def probe(name: str) -> Iterator[None]:
    running = discover()[name](Host())
    running.start()
    try:
        yield
    finally:
        running.stop()


@contextmanager
def tool(name: str, arguments: list[str]) -> Iterator[None]:
    """A tool of libbpf-tools, attached."""
    path = next(p for p in (f"/usr/sbin/bpf-{name}", f"/usr/sbin/{name}") if Path(p).exists())
    with subprocess.Popen([path, *arguments, "60", "1"], stdout=subprocess.DEVNULL) as child:
        time.sleep(2)
        try:
            yield
        finally:
            child.kill()


def cost_of_new_programs(
    start: Callable[[ExitStack], None], load: Callable[[], float]
) -> dict[str, tuple[float, int]]:
    """Program → (ns per run net of statistics, runs) of those that `start` brings."""
    before = set(run_counts())
    with ExitStack() as stack:
        start(stack)
        window = statistics_window()
        try:
            began = run_counts()
            load()
            ended = run_counts()
        finally:
            os.close(window)
    found = {}
    for number in set(ended) - before:
        name, spent, runs = ended[number]
        _, spent_before, runs_before = began.get(number, (name, 0, 0))
        if runs - runs_before > 100:
            per_run = (spent - spent_before) / (runs - runs_before)
            found[name] = (per_run - statistics_overhead_ns(), runs - runs_before)
    return found


def run(rounds: int) -> str:
    """One table; medians over rounds that alternate ours and theirs."""
    lines = [
        "### ns per run of each program",
        "",
        "| probe | load | ours: program ns x runs | libbpf-tools: program ns x runs |",
        "|---|---|---|---|",
    ]
    with fast_device() as device:
        loads: dict[str, tuple[str, Callable[[], float]]] = {
            "cpu.sched": ("sched pipe", sched_pipe),
            "cpu.sched ": ("sched messaging", sched_messaging),
            "cpu.softirq": ("TCP over loopback", tcp_round_trips),
            "block.latency": ("fio randread", lambda: fio_randread(device)),
            "net.drop": ("UDP to a closed port", closed_port),
            "net.receive": ("TCP over loopback", tcp_round_trips),
            "memory.faults": ("starting a program", many_starts),
            "irq.handler": ("direct reads of a file", direct_reads),
            "irq.tick": ("naps of 50 µs", naps),
            "task.exit": ("fork and kill", forks_and_kills),
            "task.fork": ("fork and kill", forks_and_kills),
        }
        for key, (title, load) in loads.items():
            name = key.strip()
            theirs_name, arguments = COUNTERPARTS[name]
            ours: list[dict[str, tuple[float, int]]] = []
            theirs: list[dict[str, tuple[float, int]]] = []
            for _ in range(rounds):
                ours.append(cost_of_new_programs(lambda s, n=name: s.enter_context(probe(n)), load))
                if theirs_name and shutil.which("bpftool"):
                    theirs.append(
                        cost_of_new_programs(
                            lambda s, n=theirs_name, a=arguments: s.enter_context(tool(n, a)), load
                        )
                    )
            lines.append(f"| {name} | {title} | {_show(ours)} | {_show(theirs)} |")
    return "\n".join(lines)


def closed_port() -> float:
    """20,000 datagrams that nobody wants."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(20_000):
            sender.sendto(b"x", ("127.0.0.1", 9))
    return 0.0


def many_starts() -> float:
    """A program and its libraries mapped 300 times, all in memory: hardly a fault waits."""
    for _ in range(300):
        subprocess.run(["/bin/true"], check=True)
    return 0.0


def direct_reads() -> float:
    """5,000 pages past the page cache, from where the disk is: an interrupt each."""
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file, mmap.mmap(-1, PAGE) as buffer:
        file.write(random.randbytes(1000 * PAGE))
        file.flush()
        os.fsync(file.fileno())
        fd = os.open(file.name, os.O_RDONLY | os.O_DIRECT)
        for _ in range(5000):
            os.preadv(fd, [buffer], random.randrange(1000) * PAGE)
        os.close(fd)
    return 0.0


def naps() -> float:
    """20,000 timers that are not the tick's, and the ticks meanwhile."""
    for _ in range(20_000):
        time.sleep(0.000_05)
    return 0.0


def forks_and_kills() -> float:
    """2,000 processes that end by themselves, and 500 that are killed."""
    for at in range(2500):
        pid = os.fork()
        if not pid:
            time.sleep(60 * (at % 5 == 0))
            os._exit(0)
        if at % 5 == 0:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return 0.0


def _show(rounds: list[dict[str, tuple[float, int]]]) -> str:
    names = sorted({name for found in rounds for name in found})
    shown = []
    for name in names:
        costs = [found[name] for found in rounds if name in found]
        shown.append(
            f"{name} {median(c for c, _ in costs):.0f} x {median(n for _, n in costs):.0f}"
        )
    return "<br>".join(shown) or "-"
