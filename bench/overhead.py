"""What an agent with all its probes costs the work of the machine, alternated run by run."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.compare import Comparison, alternate, table

_ROUND_TRIPS = 20_000
DEFAULT = ("auto",)
FOUNDATION = [
    "cpu.sched",
    "cpu.softirq",
    "block.latency",
    "memory.oom",
    "net.drop",
    "block.cgroup",
    "block.devices",
    "cpu.cgroup",
    "cpu.load",
    "cpu.usage",
    "fs.handles",
    "irq.interrupts",
    "memory.cgroup",
    "memory.info",
    "memory.vmstat",
    "net.cgroup",
    "net.protocols",
    "net.sockets",
    "netdev.cgroup",
    "netdev.softnet",
    "netdev.stats",
    "task.cgroup",
    "task.pressure",
]


@contextmanager
def started_agent(probes: Sequence[str] = DEFAULT) -> Iterator[tuple[int, str]]:
    """A new agent with these probes: (pid, address), as soon as it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as store:
        config = Path(store, "huatuo.toml")
        config.write_text(f"probes = {json.dumps(list(probes))}\n")
        places = ["--config", str(config), "--store", f"{store}/store", "--listen", address]
        command = [sys.executable, "-m", "huatuo", "run", *places]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
            try:
                _wait_until_healthy(address)
                yield child.pid, address
            finally:
                child.terminate()


@contextmanager
def agent(probes: Sequence[str] = DEFAULT) -> Iterator[None]:
    """A running agent with these probes, after its first collection."""
    with started_agent(probes):
        time.sleep(2)
        yield


def _wait_until_healthy(address: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(OSError), urllib.request.urlopen(f"http://{address}/healthz"):
            return
        time.sleep(0.02)
    raise TimeoutError(f"the agent does not answer on {address}")


def perf_bench(*words: str) -> float:
    """Microseconds per operation, or seconds in all where perf gives no rate."""
    result = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    if found := re.search(r"([0-9.]+) usecs/op", result):
        return float(found[1])
    found = re.search(r"Total time: ([0-9.]+)", result)
    assert found, result
    return float(found[1]) * 1e6


def sched_pipe() -> float:
    """us per round trip of the worst case: nothing but context switches, on one CPU."""
    return perf_bench("taskset", "-c", "1", "perf", "bench", "sched", "pipe", "-l", "100000")


def sched_messaging() -> float:
    """us in all: 10 groups of 40 processes that chat."""
    return perf_bench("perf", "bench", "sched", "messaging", "-l", "300")


def fio_randread(device: Path) -> float:
    """us per 4 KiB read, queue depth 1, from a loop device on tmpfs, on one CPU."""
    job = [
        "--cpus_allowed=1",
        "--name=r",
        "--rw=randread",
        "--bs=4k",
        "--direct=1",
        "--ioengine=psync",
    ]
    limits = ["--size=64m", "--runtime=2", "--time_based", "--output-format=json"]
    result = subprocess.run(
        ["fio", f"--filename={device}", *job, *limits], check=True, capture_output=True, text=True
    )
    found = json.loads(result.stdout[result.stdout.index("{") :])
    return 1e6 / float(found["jobs"][0]["read"]["iops"])


def tcp_round_trips() -> float:
    """us per 1-byte request and response over loopback TCP, both ends on one CPU.

    Left free to move, whether they share a CPU decides everything: 18 us or 75.
    """
    os.sched_setaffinity(0, {1})
    try:
        return _round_trip_us()
    finally:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))


def _round_trip_us() -> float:
    with socket.create_server(("127.0.0.1", 0)) as server:
        echo = multiprocessing.get_context("fork").Process(target=_echo, args=(server,))
        echo.start()
        with socket.create_connection(server.getsockname()) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            began = time.perf_counter()
            for _ in range(_ROUND_TRIPS):
                client.send(b"x")
                client.recv(1)
            spent = time.perf_counter() - began
        echo.join(10)
    return spent / _ROUND_TRIPS * 1e6


def _echo(server: socket.socket) -> None:
    peer, _ = server.accept()
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with peer:
        while data := peer.recv(1):
            peer.send(data)


@contextmanager
def fast_device() -> Iterator[Path]:
    """A loop device over a file in memory."""
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        file.truncate(64 << 20)
        device = subprocess.run(
            ["losetup", "--find", "--show", "--direct-io=off", file.name],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        try:
            yield Path(device)
        finally:
            subprocess.run(["losetup", "--detach", device], check=True)


def run(rounds: int) -> str:
    """All four workloads; the text of a Markdown section."""
    parts = []
    variants = {
        "agent, the foundation's probes": lambda: agent(FOUNDATION),
        "agent, all default probes": agent,
    }
    with fast_device() as device:
        loads: dict[str, Callable[[], float]] = {
            "perf bench sched pipe, both ends on one CPU": sched_pipe,
            "perf bench sched messaging": sched_messaging,
            "fio randread 4k on a loop device in memory, on one CPU": lambda: fio_randread(device),
            "loopback TCP request/response, both ends on one CPU": tcp_round_trips,
        }
        for name, load in loads.items():
            rows: list[Comparison] = alternate(load, variants, rounds)
            parts.append(table(name, "us", rows))
    return "\n\n".join(parts)
