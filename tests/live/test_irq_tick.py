"""irq.tick against stalls of known length, with interrupts off and with softirqs off."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from huatuo.enrich.enricher import Enricher
from huatuo.enrich.symbols.kernel import KernelSymbols
from huatuo.model.metric import edges
from huatuo.probes.irq.tick import Tick
from tests.live.conftest import HOST, disturbed, emulated, events, metric, row, running
from tests.live.stall import stall
from tests.live.workload import Hog

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

MS = 1_000_000
NET_RX = 3
LATE, STUCK = "late_ticks", "stuck_cpus"
DELAY, LONGEST = "huatuo_irq_tick_delay_seconds", "huatuo_irq_tick_longest_seconds"


@contextmanager
def on_one_cpu() -> Iterator[int]:
    """This thread stays on one CPU, which is given."""
    before = os.sched_getaffinity(0)
    cpu = max(before)
    os.sched_setaffinity(0, {cpu})
    try:
        yield cpu
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def hogs(cpu: int, seconds: float, count: int = 1) -> Iterator[list[Hog]]:
    """Processes that compute on that CPU meanwhile."""
    ready = get_context("fork").Event()
    found = [Hog(cpu, seconds, None, ready) for _ in range(count)]
    ready.set()
    time.sleep(0.1)
    yield found
    for hog in found:
        hog.wait()


def test_interrupts_that_are_off_are_late_ticks_with_the_stack_of_the_culprit() -> None:
    """Stalls in sched_switch, where interrupts are off: number, length up to a tick, CPU, place."""
    count, milliseconds = 4, 60
    with (
        on_one_cpu() as cpu,
        running(Tick, late_threshold=(milliseconds - 12) * MS) as probe,
        hogs(cpu, 3),
        stall(
            "sched_switch",
            milliseconds=milliseconds,
            count=count,
            gap_milliseconds=60,
            tid=threading.get_native_id(),
        ) as stalls,
    ):
        for _ in range(100):
            time.sleep(0.01)  # leaves the CPU, in the middle of its ticks
            if len(stalls) == count:
                break
        truth = stalls.rows()
        assert len(truth) == count
        time.sleep(0.05)
        rows = events(probe, LATE, 0.1)
        rows = rows[rows["cpu"] == cpu]
        assert len(rows) == count or (len(rows) > count and disturbed())
        tick = HOST.jiffy_ns
        for each in truth:
            end = each["time"] + each["duration"]
            mine = rows[(rows["time"] >= each["time"]) & (rows["time"] < end + 20 * MS)]
            assert len(mine) == 1 or disturbed()
            late = mine["late"][0]
            assert each["duration"] - tick - MS <= late
            assert late <= each["duration"] + 5 * MS or disturbed()
        found = metric(probe, LONGEST)
        longest = float(found.values[row(found, cpu=cpu)][0])
        assert longest >= rows["late"].max() / 1e9
        assert longest == pytest.approx(rows["late"].max() / 1e9) or disturbed()
        slot = int(np.searchsorted(edges(27), 0.03125, "right"))
        assert int(metric(probe, DELAY).values[0][slot:].sum()) >= count
    symbols = KernelSymbols(HOST)
    stacks = [" ".join(symbols.stack(r["stack"].tolist())) for r in rows]
    assert any("schedule" in stack or "finish_task_switch" in stack for stack in stacks)


def test_without_stalls_few_ticks_are_late() -> None:
    """Each CPU that computes has its ticks, and they come in time."""
    with on_one_cpu() as cpu, running(Tick) as probe:
        before = metric(probe, DELAY).values[0].copy()
        with hogs(cpu, 1.0):
            pass
        grown = metric(probe, DELAY).values[0] - before
    per_second = 1e9 / HOST.jiffy_ns
    assert grown.sum() >= 0.8 * per_second or emulated()
    assert grown.sum() <= 2.5 * per_second * HOST.cpus
    early = int(np.searchsorted(edges(27), 0.004, "right"))
    assert grown[:early].sum() >= 0.9 * grown.sum() or disturbed()


def receive(cpu_seconds: float) -> None:
    """Datagrams over loopback: each runs NET_RX on top of this thread."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        end = time.monotonic() + cpu_seconds
        while time.monotonic() < end:
            sender.sendto(b"x", receiver.getsockname())
            receiver.recv(1)


def test_a_task_that_keeps_others_from_its_cpu_is_an_event_while_it_does() -> None:
    """A stall in a softirq in front of this thread; a hog waits for the CPU meanwhile."""
    milliseconds, threshold = 900, 300
    tid = threading.get_native_id()
    with (
        on_one_cpu() as cpu,
        running(Tick, stuck_threshold=threshold * MS) as probe,
        hogs(cpu, 2.5),
        stall("softirq_entry", milliseconds=milliseconds, vector=NET_RX, tid=tid) as stalls,
    ):
        receive(1.5)
        truth = stalls.rows()
        assert len(truth) == 1
        rows = events(probe, STUCK, 0.1)
        rows = rows[rows["cpu"] == cpu]
        assert len(rows) == 1
        found = rows[0]
        tick = HOST.jiffy_ns
        assert threshold * MS <= found["stuck"] <= threshold * MS + tick
        assert truth["time"][0] <= found["time"] < truth["time"][0] + truth["duration"][0]
        assert (found["tgid"], found["tid"]) == (os.getpid(), tid)
        assert found["waiting"] >= 1
        stack = " ".join(KernelSymbols(HOST).stack(found["stack"].tolist()))
        assert "softirq" in stack


def _kernel_work(cpu: int, seconds: float) -> None:
    """In the kernel nearly all the time, in calls that take long and give way."""
    os.sched_setaffinity(0, {cpu})
    end = time.monotonic() + seconds
    buffer = bytearray(64 << 20)
    with Path("/dev/zero").open("rb", buffering=0) as zero:
        while time.monotonic() < end:
            zero.readinto(buffer)


def test_tasks_that_give_way_are_no_events() -> None:
    """Two that compute and one that is in the kernel for long, all on one CPU."""
    with on_one_cpu() as cpu, running(Tick, stuck_threshold=200 * MS) as probe:
        worker = get_context("fork").Process(target=_kernel_work, args=(cpu, 2.0))
        worker.start()
        with hogs(cpu, 2.0, count=2):
            pass
        worker.join(60)
        rows = events(probe, STUCK, 0.1)
        assert len(rows[rows["cpu"] == cpu]) == 0


def test_titles_say_whether_the_hypervisor_may_have_done_it() -> None:
    fields = {
        "comm": "python",
        "pid": 7,
        "tid": 7,
        "cpu": 1,
        "late_ns": 50 * MS,
        "stolen_ns": 10 * MS,
    }
    assert Tick.describe(fields) == "interrupts of CPU 1 were off for 50 ms, under python[7]"
    assert "or the hypervisor" in Tick.describe(fields | {"stolen_ns": 40 * MS})


def test_what_is_stolen_is_that_of_proc_stat() -> None:
    with on_one_cpu() as cpu, running(Tick, late_threshold=30 * MS) as probe:
        tid = threading.get_native_id()
        with hogs(cpu, 1), stall("sched_switch", milliseconds=50, tid=tid) as stalls:
            for _ in range(20):
                time.sleep(0.01)
            assert len(stalls) == 1
        batches = [batch for batch in probe.drain() if batch.ring == LATE]
        assert batches
        told = [e for batch in batches for e in Enricher(HOST).events(batch, Tick)]
        lines = {w[0]: w for w in map(str.split, HOST.read(HOST.proc / "stat").splitlines())}
        for event in told:
            ever = int(lines[f"cpu{event.fields['cpu']}"][8]) * 10 * MS
            assert 0 <= event.fields["stolen_ns"] <= ever
            assert event.stack
