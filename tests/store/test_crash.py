"""kill -9 at any moment: nothing acknowledged is lost, nothing is torn, the file is intact."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from huatuo.model.profile import Line, Samples
from huatuo.store.base import EventQuery, MetricQuery
from huatuo.store.embedded import EmbeddedStore
from huatuo.store.profile import dictionary, log
from huatuo.store.profiles import ProfileQuery
from tests.contracts.profiles import batch, place
from tests.contracts.store import SECOND, START, counter, event, histogram, serials

ROUNDS = 100
BATCH = 150
STEP_NS = 120 * SECOND  # between snapshots: five per chunk, so that upkeep is always going on
FAMILIES = [f"huatuo_family_{i}_total" for i in range(30)]  # too wide for one frame
SAMPLES = 20
ACK = struct.Struct("<QQQ")  # what comes next: event, snapshot, batch of samples
Next = tuple[int, int, int]


def open_store(directory: Path) -> EmbeddedStore:
    return EmbeddedStore(directory, max_bytes=16 << 20, max_age_seconds=2 * 86400)


def samples(number: int) -> Samples:
    """As many at each second, on a stack that tells the number; often on one never seen before."""
    stack = [place("lib", number), place("lib", number % 7), place("app", number % 100)]
    now = START + number * SECOND
    return batch([(now, number, stack, {"i": str(number), "n": str(n)}) for n in range(SAMPLES)])


def write_until_killed(directory: Path, pipe: int, begin: Next) -> None:
    """Acknowledge after each call that returned."""
    log._JOINED = dictionary._CHUNKS = 4  # so that joining is always going on
    dictionary._EPOCH_NODES = 200
    serial, snapshot, number = begin
    store = open_store(directory)

    def acknowledge() -> None:
        os.write(pipe, ACK.pack(serial, snapshot, number))

    while True:
        store.append_events([event(n) for n in range(serial, serial + BATCH)])
        serial += BATCH
        acknowledge()
        values = np.full(150, float(snapshot))
        metrics = [counter(values, name) for name in FAMILIES] + [histogram(snapshot)]
        store.append_metrics(START + snapshot * STEP_NS, metrics)
        snapshot += 1
        acknowledge()
        for _ in range(5):
            store.profiles.append(samples(number))
            number += 1
            acknowledge()
        store.profiles.set_lines({place("lib", number - 1): (Line("named"),)})
        if snapshot % 7 == 0:
            store.expire(START + snapshot * STEP_NS)


def killed_writer(directory: Path, begin: Next, after: float) -> Next:
    """What was acknowledged when it died."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        try:
            write_until_killed(directory, write_end, begin)
        finally:
            os._exit(1)
    os.close(write_end)
    first = os.read(read_end, ACK.size) if after > 0.01 else b""  # else: killed while opening
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the writer died by itself"
    with os.fdopen(read_end, "rb") as pipe:
        acks = first + pipe.read()
    whole = len(acks) // ACK.size * ACK.size
    return ACK.unpack(acks[whole - ACK.size : whole]) if whole else begin


def check(directory: Path, acknowledged: Next) -> Next:
    """Everything acknowledged is there, and whole; returns where to go on."""
    store = open_store(directory)
    serial, snapshot, number = acknowledged
    going_on = (
        check_events(store, serial),
        check_metrics(store, snapshot),
        check_profiles(store, number),
    )
    assert store.usage().notices == ()
    store.close()
    return going_on


def check_events(store: EmbeddedStore, serial: int) -> int:
    found = serials(store.events(EventQuery(limit=2000)))
    newest = found[0] + 1 if found else 0
    assert newest >= serial, f"{serial - newest} acknowledged events are lost"
    assert newest % BATCH == 0, "a batch is torn"
    assert found == list(range(newest))[::-1][: len(found)], "events are missing or double"
    return newest


def check_metrics(store: EmbeddedStore, snapshot: int) -> int:
    since = START + max(snapshot - 50, 0) * STEP_NS
    axes = []
    for name in (FAMILIES[0], FAMILIES[-1], "huatuo_test_seconds"):
        series = store.metrics(MetricQuery(name, since))
        for one in series[:: max(len(series) - 1, 1)]:
            steps = ((one.times - START) // STEP_NS).tolist()
            values = one.values if one.values.ndim == 1 else one.values[:, 1]
            scale = 2 if one.labels["container"] == "b" else 1
            assert (values / scale).tolist() == steps
        axes.append(series[0].times.tolist() if series else [])
    assert axes[0] == axes[1] == axes[2], "a snapshot is torn"
    taken = (axes[0][-1] - START) // STEP_NS + 1 if axes[0] else 0
    assert taken >= snapshot, f"{snapshot - taken} acknowledged snapshots are lost"
    return taken


def check_profiles(store: EmbeddedStore, number: int) -> int:
    """The last hundred batches and what was in flight."""
    since = max(number - 100, 0)
    query = ProfileQuery("cpu", START + since * SECOND)
    numbers = sorted(map(int, store.profiles.labels(query).get("i", ())))
    newest = numbers[-1] + 1 if numbers else since
    assert newest >= number, f"{number - newest} acknowledged batches are lost"
    assert numbers == list(range(since, newest)), "batches are missing"
    profile = store.profiles.merge(query)
    assert profile.samples == SAMPLES * len(numbers), "a batch is torn or double"
    ends = [
        (profile.locations[at].address, value)
        for at, value in zip(profile.location.tolist(), profile.self_values.tolist(), strict=True)
        if value
    ]
    assert sorted(ends) == [(n, SAMPLES * n) for n in numbers if n], "stacks are mixed up"
    return newest


def integrity(directory: Path, pragma: str) -> str:
    db = sqlite3.connect(directory / "huatuo.db")
    try:
        return str(db.execute(f"PRAGMA {pragma}").fetchone()[0])
    finally:
        db.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_kill_at_any_moment(tmp_path: Path) -> None:
    chance = random.Random(20260921)
    reached = (0, 0, 0)
    for round_number in range(ROUNDS):
        after = chance.uniform(0, 0.15)
        reached = killed_writer(tmp_path, reached, after)
        reached = check(tmp_path, reached)
        if round_number % 10 == 0:
            assert integrity(tmp_path, "quick_check") == "ok"
    assert integrity(tmp_path, "integrity_check") == "ok"
    serial, snapshot, number = reached
    assert serial > 10 * ROUNDS
    assert snapshot > ROUNDS
    assert number > 5 * ROUNDS
