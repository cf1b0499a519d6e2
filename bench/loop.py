"""How late the agent's loop is while the store writes and reads.

    python bench/loop.py [--seconds 20]

A task sleeps for 2 ms at a time and notes how late it is woken. Four times a second 250 events, a
snapshot of 1,000 series (a minute later each time, so that upkeep goes on) and 10 s of CPU samples
are appended, every five seconds old data is expired: about twenty times what a busy host does, so
that whatever blocks is seen. Once the loop writes itself, once a thread does, as in the agent, and
once readers merge all profiles in two other threads at the same time, as the web server's do.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bench.profiles import Host
from bench.store import START, Node, events
from huatuo.model.event import Event
from huatuo.model.metric import Metric
from huatuo.model.profile import Samples
from huatuo.store.embedded import EmbeddedStore
from huatuo.store.profiles import ProfileQuery

SECOND = 1_000_000_000
PAUSE = 0.25
Work = tuple[list[Event], list[Metric], Samples]


def made_up(rounds: int) -> list[Work]:
    """Before anything is measured: making it up blocks, too."""
    batches, node, host = events(rounds * 300), Node(1000), Host(24_000).batches(rounds / 360)
    found = []
    for _ in range(rounds):
        batch = [event for _ in range(3) for event in next(batches)]
        found.append((batch, node.snapshot(), next(host)[0]))
    return found


async def lateness(
    store: EmbeddedStore, work: list[Work], writers: int, readers: int
) -> np.ndarray:
    """In ms, of each waking."""
    loop = asyncio.get_running_loop()
    late: list[float] = []
    stopped = False

    async def tick() -> None:
        while True:
            due = time.perf_counter() + 0.002
            await asyncio.sleep(0.002)
            late.append((time.perf_counter() - due) * 1e3)

    def read() -> None:
        while not stopped:
            store.profiles.merge(ProfileQuery("cpu"))

    pool = ThreadPoolExecutor(max(readers, 1))
    writer = ThreadPoolExecutor(1)

    async def write(call: Callable[..., object], *arguments: object) -> None:
        if writers:
            await loop.run_in_executor(writer, call, *arguments)
        else:
            call(*arguments)

    reading = [loop.run_in_executor(pool, read) for _ in range(readers)]
    ticking = asyncio.create_task(tick())
    for at, (batch, snapshot, samples) in enumerate(work):
        now = START + at * 60 * SECOND
        await write(store.append_events, batch)
        await asyncio.sleep(PAUSE / 3)
        await write(store.append_metrics, now, snapshot)
        await asyncio.sleep(PAUSE / 3)
        if batch:
            await write(store.profiles.append, samples)
        await asyncio.sleep(PAUSE / 3)
        if at % 20 == 19:
            await write(store.expire, now)
    ticking.cancel()
    stopped = True
    await asyncio.gather(*reading)
    pool.shutdown()
    writer.shutdown()
    return np.array(late)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    work = made_up(int(options.seconds / PAUSE))
    gc.freeze()
    print("lateness of the loop, ms            median      p99    p99.9      max  over 10 ms")
    for name, writers, readers in (
        ("nothing is written", 1, 0),
        ("the loop writes", 0, 0),
        ("a thread writes", 1, 0),
        ("a thread writes, one merges", 1, 1),
        ("a thread writes, two merge", 1, 2),
    ):
        with tempfile.TemporaryDirectory() as directory:
            store = EmbeddedStore(Path(directory), max_bytes=1 << 30, max_age_seconds=7 * 86400)
            for batch, snapshot, samples in work:
                store.append_events(batch)
                store.append_metrics(START - 86400 * SECOND, snapshot)
                store.profiles.append(samples)
            nothing = [([], [], work[0][2])] * len(work) if name.startswith("nothing") else None
            late = asyncio.run(lateness(store, nothing or work, writers, readers))
            store.close()
        spread = [np.percentile(late, p) for p in (50, 99, 99.9, 100)]
        numbers = " ".join(f"{value:8.2f}" for value in spread)
        print(f"{name:<33} {numbers} {(late > 10).sum():>8}", flush=True)


if __name__ == "__main__":
    main()
