"""From the fact to the event that can be queried: packets to closed ports, asked for by HTTP."""

from __future__ import annotations

import json
import random
import socket
import statistics
import threading
import time
import urllib.request
from itertools import count

from bench.overhead import started_agent

_FACTS = 30  # of each kind per round
_APART_SECONDS = (0.3, 1.5)
_ASK_SECONDS = 0.005
_PORTS = count(20_000)


def _send(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"latency", ("127.0.0.1", port))


def _seen(address: str, port: int) -> bool:
    url = f"http://{address}/api/v1/events?probe=net.drop&text={port}&limit=1"
    with urllib.request.urlopen(url) as answer:
        return bool(json.load(answer)["events"])


def _latency(address: str) -> float:
    """Seconds until a drop can be queried."""
    port = next(_PORTS)
    began = time.monotonic()
    _send(port)
    while not _seen(address, port):
        if time.monotonic() - began > 10:
            raise TimeoutError(f"no event of the packet to port {port}")
        time.sleep(_ASK_SECONDS)
    return time.monotonic() - began


def _measure(address: str, facts: int) -> list[float]:
    found = []
    for _ in range(facts):
        time.sleep(random.uniform(*_APART_SECONDS))
        found.append(_latency(address))
    return found


def _row(name: str, seconds: list[float]) -> str:
    high = statistics.quantiles(seconds, n=100)[98]
    median = statistics.median(seconds)
    return f"| {name} | {median * 1e3:.0f} ms | {high * 1e3:.0f} ms | {len(seconds)} |"


def run(rounds: int) -> str:
    """One table: alone, and while other events come all the time."""
    lines = [
        "### From fact to queryable event",
        "",
        "| | median | 99th percentile | facts |",
        "|---|---|---|---|",
    ]
    facts = _FACTS * rounds
    with started_agent() as (_, address):
        time.sleep(3)
        lines.append(_row("a drop now and then", _measure(address, facts)))
        stop = threading.Event()

        def others() -> None:
            while not stop.wait(0.5):
                _send(next(_PORTS))

        thread = threading.Thread(target=others)
        thread.start()
        try:
            lines.append(_row("among two others a second", _measure(address, facts)))
        finally:
            stop.set()
            thread.join()
    return "\n".join([*lines, "", "Aim: median <= 200 ms, 99th percentile <= 1 s."])
