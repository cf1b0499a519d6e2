"""The agent by itself: CPU when idle, memory, start, scrape, ring."""

from __future__ import annotations

import ctypes
import os
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from bench.overhead import DEFAULT, FOUNDATION, started_agent
from huatuo.export.prometheus import text
from huatuo.kernel.host import Host
from huatuo.kernel.object import BpfObject
from huatuo.model.meaning import Role
from huatuo.model.metric import Column, Metric

_IDLE_SECONDS = float(os.environ.get("HUATUO_BENCH_IDLE", "120"))
_FLOOD = Path(__file__).parents[1] / "tests/live/inject/flood.bpf.o"


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / Host().ticks_per_second


def _resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * Host().page_size / (1 << 20)


def _first_sample(address: str, began: float) -> float:
    while time.monotonic() - began < 20:
        with urllib.request.urlopen(f"http://{address}/metrics") as answer:
            if b"huatuo_cpu_sched_wait_seconds_count" in answer.read():
                return time.monotonic() - began
        time.sleep(0.05)
    raise TimeoutError("no sample")


def idle(probes: Sequence[str], name: str, seconds: float) -> list[str]:
    """Start, idle CPU and memory of one agent with these probes."""
    began = time.monotonic()
    with started_agent(probes) as (pid, address):
        first = _first_sample(address, began)
        time.sleep(10)
        cpu, at = _cpu_seconds(pid), time.monotonic()
        time.sleep(seconds)
        used = (_cpu_seconds(pid) - cpu) / (time.monotonic() - at)
        resident = _resident_mib(pid)
    return [
        f"| {name}: start to first sample | {first:.2f} s | <= 2 s |",
        f"| {name}: CPU when idle, over {seconds:.0f} s | {used:.2%} of one core | <= 0.3 % |",
        f"| {name}: resident memory after {seconds + 12:.0f} s | {resident:.0f} MiB | <= 80 MB |",
    ]


def scrape(rounds: int) -> str:
    """Rendering 10,000 series as text: counters with three labels, and histograms."""
    rng = np.random.default_rng(1)
    families = [
        Metric(
            f"huatuo_bench_{number}_total",
            Role.COUNTER,
            "a counter",
            rng.random(1000) * 1e6,
            {
                "container": Column([f"container-{i}" for i in range(1000)]),
                "device": Column([f"sd{i % 26}" for i in range(1000)]),
            },
        )
        for number in range(10)
    ]
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        rendered = text(families)
        times.append(time.perf_counter() - began)
    return (
        f"| scrape of 10,000 series | {median(times) * 1e3:.1f} ms, "
        f"{len(rendered) >> 10} KiB | <= 30 ms |"
    )


def drain(rounds: int) -> str:
    """Records per second out of a full ring, reading only."""
    everything = 10**9
    tunables = {
        "only_tgid": os.getpid(),
        "max_per_second": everything,
        "max_per_second_per_container": everything,
    }
    libc = ctypes.CDLL(None)
    rates = []
    with BpfObject(_FLOOD, tunables, {"numbers": 4 << 20}) as opened:
        for _ in range(rounds):
            for _ in range(100_000):
                libc.prctl(15, b"huatuo-bench", 0, 0, 0)
            began = time.perf_counter()
            count = len(opened.rings["numbers"].drain())
            rates.append(count / (time.perf_counter() - began))
    return f"| ring drain | {median(rates) / 1e6:.1f} M records/s | >= 1 M/s |"


def run(rounds: int) -> str:
    """One table."""
    lines = ["### The agent by itself", "", "| | measured | aim |", "|---|---|---|"]
    lines += idle(FOUNDATION, "the foundation's probes", _IDLE_SECONDS)
    lines += idle(DEFAULT, "all default probes", _IDLE_SECONDS)
    lines.append(scrape(rounds))
    lines.append(drain(rounds))
    return "\n".join(lines)
