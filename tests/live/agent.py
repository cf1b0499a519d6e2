"""A real agent for tests: started on a store and a port of its own, asked through its API.

with agent(tmp_path / "store", CONFIG) as running:
    running.get("/api/v1/health")
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.live.conftest import Group, emulated

__all__ = [
    "EATER",
    "SOON",
    "Running",
    "agent",
    "command",
    "events_of",
    "eventually",
    "limit_memory",
]  # fmt: skip

SOON = 10.0 if emulated() else 2.0  # seconds within which an event must be seen
START = 120.0 if emulated() else 30.0
EATER = "b = bytearray(256 << 20); b[::4096] = b'x' * len(b[::4096])"


@dataclass(frozen=True, slots=True)
class Running:
    process: subprocess.Popen[str]
    address: str
    store: Path

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=10) as answer:
            return json.load(answer)

    def state(self, probe: str) -> Any:
        """Of one probe, as the API has it."""
        return next(one for one in self.get("/api/v1/probes") if one["name"] == probe)

    def text(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=10) as answer:
            return str(answer.read().decode())


def command(store: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "huatuo", "run", "--store", str(store), *words]


@contextmanager
def agent(store: Path, config: str = "") -> Iterator[Running]:
    """`config`: the text of a configuration file."""
    words = []
    if config:
        file = store.with_name(f"{store.name}.toml")
        file.write_text(config)
        words = ["--config", str(file)]
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with subprocess.Popen(
        command(store, "--listen", address, *words), stdout=subprocess.PIPE, text=True
    ) as process:
        running = Running(process, address, store)
        try:
            assert eventually(lambda: running.get("/healthz"), START), "the agent did not start"
            yield running
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(START)


def eventually(ask: Callable[[], Any], seconds: float = SOON) -> Any:
    """The first true answer within `seconds`; the last one otherwise."""
    end = time.monotonic() + seconds
    while True:
        answer: Any = None
        with suppress(OSError):
            answer = ask()
        if answer or time.monotonic() > end:
            return answer
        time.sleep(0.05)


def limit_memory(group: Group) -> None:
    is_v2 = (group.directory / "memory.max").exists()
    group.write("memory.max" if is_v2 else "memory.limit_in_bytes", 48 << 20)
    if (group.directory / "memory.swap.max").exists():
        group.write("memory.swap.max", 0)


def events_of(running: Running, probe: str, text: str = "") -> list[dict[str, Any]]:
    found = running.get(f"/api/v1/events?probe={probe}&text={text}&limit=10000")
    return list(found["events"])
