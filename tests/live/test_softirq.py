"""cpu.softirq against stalls of known length and against /proc/softirqs."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from huatuo.model.metric import edges
from huatuo.probes.cpu.softirq import Softirq
from tests.live.conftest import disturbed, events, metric, row, running
from tests.live.stall import stall

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

NET_RX = 3
COUNT, MILLISECONDS = 5, 20
DELAY, RUN = "huatuo_cpu_softirq_delay_seconds", "huatuo_cpu_softirq_run_seconds"


def slots(probe: Softirq, name: str, vector: str) -> npt.NDArray[np.uint64]:
    found = metric(probe, name)
    counts: npt.NDArray[np.uint64] = found.values[row(found, vector=vector)].sum(axis=0)
    return counts


def slot_of(seconds: float) -> int:
    return int(np.searchsorted(edges(27), seconds, "right"))


def proc_softirqs() -> dict[str, int]:
    found = {}
    for line in Path("/proc/softirqs").read_text().splitlines()[1:]:
        name, *counts = line.split()
        found[name.rstrip(":").lower()] = sum(map(int, counts))
    return found


def send_datagrams(count: int, gap_seconds: float = 0.0) -> None:
    """Each datagram over loopback is at least one run of NET_RX on the sender's CPU."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        for _ in range(count):
            sender.sendto(b"x", receiver.getsockname())
            receiver.recv(1)
            time.sleep(gap_seconds)


def test_long_runs_have_their_number_and_length() -> None:
    """Stalls after our entry program are part of the run: exact count, slot and sum."""
    with (
        running(Softirq) as probe,
        stall("softirq_entry", milliseconds=MILLISECONDS, count=COUNT, vector=NET_RX) as stalls,
    ):
        send_datagrams(COUNT + 1, gap_seconds=0.05)
        assert len(stalls) == COUNT
        runs = slots(probe, RUN, "net_rx")
        assert runs[slot_of(MILLISECONDS / 1e3) :].sum() == COUNT
        assert runs[slot_of(MILLISECONDS / 1e3)] == COUNT or disturbed()
        assert slots(probe, DELAY, "net_rx")[slot_of(MILLISECONDS / 1e3) :].sum() == 0
        found = metric(probe, RUN)
        assert found.sums is not None
        total = found.sums[row(found, vector="net_rx")][0]
        assert stalls.seconds <= total < stalls.seconds + (0.1 if disturbed() else 0.005)


def test_long_runs_are_events() -> None:
    """Each names the vector, its length and the process that was interrupted: the sender."""
    with (
        running(Softirq) as probe,
        stall("softirq_entry", milliseconds=MILLISECONDS, count=COUNT, vector=NET_RX) as stalls,
    ):
        send_datagrams(COUNT + 1, gap_seconds=0.05)
        rows = events(probe, "slow_runs")
        rows = rows[rows["vector"] == NET_RX]
        truth = stalls.rows()
        assert len(rows) == len(truth) == COUNT
        assert (rows["run"] >= truth["duration"]).all()
        assert (rows["run"] < truth["duration"] + 5_000_000).all() or disturbed()
        assert (rows["cpu"] == truth["cpu"]).all()
        assert (rows["tgid"] == os.getpid()).sum() >= COUNT - 1
        assert probe.account().produced >= COUNT


def test_long_delays_have_their_number_and_length() -> None:
    """Stalls before our entry program are delay."""
    with (
        stall("softirq_entry", milliseconds=MILLISECONDS, count=COUNT, vector=NET_RX) as stalls,
        running(Softirq) as probe,
    ):
        before = len(stalls)
        send_datagrams(COUNT + 3, gap_seconds=0.05)
        expected = COUNT - before
        delays = slots(probe, DELAY, "net_rx")
        assert expected > 0
        assert delays[slot_of(MILLISECONDS / 1e3) :].sum() == expected
        assert delays[slot_of(MILLISECONDS / 1e3)] == expected or disturbed()
        assert slots(probe, RUN, "net_rx")[slot_of(MILLISECONDS / 1e3) :].sum() == 0


def test_runs_are_those_of_proc_softirqs() -> None:
    """Every run is counted once; runs without a known raise are below 1 %."""
    stop = threading.Event()
    with running(Softirq) as probe:
        before, ours_before = proc_softirqs(), totals(probe, RUN)
        sender = threading.Thread(target=lambda: flood(stop))
        sender.start()
        time.sleep(2)
        stop.set()
        sender.join()
        after, ours_after = proc_softirqs(), totals(probe, RUN)
        delayed = totals(probe, DELAY)
    for vector, ours in ours_after.items():
        expected = after[vector] - before[vector]
        assert ours - ours_before[vector] == pytest.approx(expected, abs=20 + 0.002 * expected)
    assert ours_after["net_rx"] > 1000
    assert delayed["net_rx"] == pytest.approx(ours_after["net_rx"], rel=0.01)


def totals(probe: Softirq, name: str) -> dict[str, int]:
    found = metric(probe, name)
    counts = found.values.sum(axis=1).tolist()
    return dict(zip(map(str, found.labels["vector"].values), counts, strict=True))


def flood(stop: threading.Event) -> None:
    while not stop.is_set():
        send_datagrams(200)


def test_vectors_are_the_kernels() -> None:
    """The labels are, in order, the vectors of /proc/softirqs."""
    with running(Softirq) as probe:
        labels = [str(v) for v in metric(probe, RUN).labels["vector"].values]
    assert labels == list(proc_softirqs())
