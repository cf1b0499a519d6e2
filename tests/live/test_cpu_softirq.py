"""cpu.softirq against stalls of known length and against /proc/softirqs."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from huatuo.model.metric import edges
from huatuo.probes.cpu.softirq import Softirq
from tests.live.conftest import HOST, disturbed, emulated, events, metric, row, running
from tests.live.stall import Stalls, stall

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

NET_RX = 3
COUNT, MILLISECONDS = 5, 20
DELAY, RUN = "huatuo_cpu_softirq_delay_seconds", "huatuo_cpu_softirq_run_seconds"


def slots(probe: Softirq, name: str, vector: str) -> npt.NDArray[np.uint64]:
    found = metric(probe, name)
    counts: npt.NDArray[np.uint64] = found.values[row(found, vector=vector)].sum(axis=0)
    return counts


SLOT = int(np.searchsorted(edges(27), MILLISECONDS / 1e3, "right"))


def late(probe: Softirq, name: str) -> int:
    """How many of NET_RX took as long as a stall, or longer."""
    return int(slots(probe, name, "net_rx")[SLOT:].sum())


def proc_softirqs() -> dict[str, int]:
    found = {}
    for line in Path("/proc/softirqs").read_text().splitlines()[1:]:
        name, *counts = line.split()
        found[name.rstrip(":").lower()] = sum(map(int, counts))
    return found


def send_datagrams(count: int, until: Callable[[], bool] = lambda: False) -> None:
    """Each datagram over loopback is one run of NET_RX, nearly always in front of the sender."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        for _ in range(count):
            sender.sendto(b"x", receiver.getsockname())
            receiver.recv(1)
            if until():
                return


def stalled_receives() -> AbstractContextManager[Stalls]:
    """Stalls of NET_RX where it interrupts this thread."""
    tid = threading.get_native_id()
    return stall("softirq_entry", milliseconds=MILLISECONDS, count=COUNT, vector=NET_RX, tid=tid)


def receive_all(stalls: Stalls) -> None:
    """Send until all stalls have happened."""

    def done() -> bool:
        time.sleep(0.03)
        return len(stalls) == COUNT

    send_datagrams(50, done)
    assert len(stalls) == COUNT


def test_long_runs_have_their_number_and_length() -> None:
    """Stalls after our entry program are part of the run: exact count, slot and sum."""
    with running(Softirq) as probe, stalled_receives() as stalls:
        receive_all(stalls)
        assert late(probe, RUN) >= COUNT
        if not disturbed():
            assert late(probe, RUN) == slots(probe, RUN, "net_rx")[SLOT] == COUNT
            assert late(probe, DELAY) == 0
        found = metric(probe, RUN)
        assert found.sums is not None
        total = found.sums[row(found, vector="net_rx")][0]
        assert stalls.seconds <= total < stalls.seconds + (0.1 if disturbed() else 0.005)


def test_long_runs_are_events() -> None:
    """Each names the vector, its length and the process that was interrupted: the sender."""
    with running(Softirq) as probe, stalled_receives() as stalls:
        receive_all(stalls)
        rows = events(probe, "slow_runs")
        rows = rows[rows["vector"] == NET_RX]
        truth = stalls.rows()
        rows = rows[rows["tgid"] == os.getpid()]  # others' runs may be slow too
        assert len(rows) == len(truth) == COUNT
        assert (rows["run"] >= truth["duration"]).all()
        assert (rows["run"] < truth["duration"] + 5_000_000).all() or disturbed()
        assert (rows["cpu"] == truth["cpu"]).all()
        assert probe.account().produced >= COUNT


def test_long_delays_have_their_number_and_length() -> None:
    """Stalls before our entry program are delay."""
    with stalled_receives() as stalls, running(Softirq) as probe:
        receive_all(stalls)
        if disturbed():  # packets of others that come during a stall count with the one before
            assert late(probe, DELAY) >= COUNT - 2
        else:
            assert late(probe, DELAY) == slots(probe, DELAY, "net_rx")[SLOT] == COUNT
            assert late(probe, RUN) == 0


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
        assert ours - ours_before[vector] == pytest.approx(expected, abs=50 + 0.002 * expected)
    assert ours_after["net_rx"] > 1000
    assert delayed["net_rx"] == pytest.approx(ours_after["net_rx"], rel=0.01)


def test_runs_that_are_not_timed_are_counted_and_the_slow_ones_found() -> None:
    """Far above `timed_per_second`: the count is the kernel's still, stalls are events."""
    stop, cpus = threading.Event(), os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cpus)})
    others = threading.Thread(target=flood, args=(stop,))
    try:
        with running(Softirq, timed_per_second=1) as probe, stalled_receives() as stalls:
            before, ours_before = proc_softirqs(), totals(probe, RUN)
            others.start()
            receive_all(stalls)
            stop.set()
            others.join()
            expected = proc_softirqs()["net_rx"] - before["net_rx"]
            time.sleep(0.05)  # a pause: the next run is timed, and stands for those before it
            send_datagrams(1)
            ours = totals(probe, RUN)["net_rx"] - ours_before["net_rx"]
            rows = events(probe, "slow_runs")
    finally:
        os.sched_setaffinity(0, cpus)
        stop.set()
    rows = rows[(rows["vector"] == NET_RX) & (rows["tgid"] == os.getpid())]
    by_jiffies = rows["run"] % HOST.jiffy_ns == 0
    assert len(rows) == COUNT or (len(rows) > COUNT and disturbed())
    assert by_jiffies.any() or emulated(), "none of them met a run that was not timed"
    off = rows["run"].astype(np.int64) - MILLISECONDS * 1_000_000
    assert (abs(off) <= 2 * HOST.jiffy_ns).all() or disturbed()
    assert ours == pytest.approx(expected, abs=50 + 0.002 * expected)


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
