"""cpu.lockup against lines written to the kernel's log, and against a lockup that is real."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from huatuo.enrich.enricher import Enricher
from huatuo.model.event import Event
from huatuo.probes.cpu.lockup import Lockup
from tests.live.conftest import HOST, metric, need, row, running
from tests.live.memory import need_disposable_host
from tests.live.stall import stall

pytestmark = pytest.mark.live

KMSG = Path("/dev/kmsg")
SOFT = """\
watchdog: BUG: soft lockup - CPU#3 stuck for 26s! [a name: too:4711]
Modules linked in: veth
CPU: 3 UID: 0 PID: 4711 Comm: a name: too Not tainted 6.12.0 #1
RIP: 0010:spin_forever+0x12/0x30
Call Trace:
 <TASK>
 do_syscall_64+0x57/0x180
 </TASK>"""
SELF = """\
rcu: INFO: rcu_preempt self-detected stall on CPU
rcu: \t7-....: (20999 ticks this GP) idle=2b4c/1/0x4000000000000000 softirq=1/1 fqs=5000
rcu: \t(t=2500 jiffies g=5 q=24 ncpus=8)
CPU: 7 UID: 0 PID: 99 Comm: spinner Tainted: G  6.12.0 #1
Call Trace:
 <TASK>
 </TASK>"""
EXPEDITED = "rcu: INFO: rcu_sched detected expedited stalls on CPUs/tasks: { 5-.... } 21003 jiffies"
HARD = "watchdog: Watchdog detected hard LOCKUP on cpu 2"
POOL = "BUG: workqueue lockup - pool cpus=6 node=0 flags=0x0 nice=-20 stuck for 35s!"


def write(text: str) -> None:
    """The kernel takes ten lines in five seconds from each who has the log open."""
    lines = text.splitlines()
    for first in range(0, len(lines), 10):
        with KMSG.open("w") as log:
            for line in lines[first : first + 10]:
                log.write(f"<0>{line}\n")
                log.flush()


def told(probe: Lockup, seconds: float) -> list[Event]:
    enricher, found = Enricher(HOST), []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found += [e for batch in probe.drain() for e in enricher.events(batch, Lockup)]
        time.sleep(0.05)
    return found


@pytest.fixture(autouse=True)
def need_log() -> None:
    need(os.access(KMSG, os.W_OK), "the kernel's log cannot be written")


def test_reports_become_events_with_what_they_say() -> None:
    with running(Lockup) as probe:
        write(SOFT)
        write("something else: that is not about it")
        write(SELF)
        write(EXPEDITED)
        write(HARD)
        write(POOL)
        soft, self_detected, expedited, hard, pool = told(probe, 1.2)
        assert soft.title == "CPU 3 was not given back by a name: too[4711] for 26 s"
        assert soft.process
        assert (soft.process.pid, soft.process.comm) == (4711, "a name: too")
        assert soft.fields["report"] == SOFT.splitlines()
        assert self_detected.fields["report"] == SELF.splitlines()  # with their tabs
        seconds = 2500 * HOST.jiffy_ns / 1e9
        assert self_detected.fields["stuck_ns"] == seconds * 1e9
        assert (self_detected.fields["cpu"], self_detected.fields["rcu"]) == (7, "rcu_preempt")
        assert self_detected.title.startswith("rcu_preempt waits for CPU 7 for ")
        assert self_detected.title.endswith("spinner[99] ran")
        assert (expedited.fields["kind"], expedited.fields["cpu"]) == ("rcu_stall", 5)
        assert (hard.fields["kind"], hard.fields["cpu"]) == ("hard_lockup", 2)
        assert (pool.fields["kind"], pool.fields["stuck_ns"]) == ("workqueue_lockup", 35e9)
        found = metric(probe, "huatuo_cpu_lockup_reports_total")
        counts = {k: int(found.values[row(found, kind=k)][0]) for k in found.labels["kind"].values}
        assert counts == {
            "soft_lockup": 1,
            "hard_lockup": 1,
            "rcu_stall": 2,
            "workqueue_lockup": 1,
        }


def test_hostile_and_endless_reports_are_bounded() -> None:
    """Numbers beyond all bounds are no report, and no report is longer than there is room."""
    with running(Lockup) as probe:
        write("BUG: soft lockup - CPU#99999999999999999999 stuck for 1s! [x:1]")
        write("BUG: soft lockup - CPU#1 stuck for 2s! [y:99999999999999999999]")
        assert told(probe, 0.8) == []
        write(HARD + "\n" + "\n".join(f"{n}: {'x' * 300}" for n in range(200)))
        (found,) = told(probe, 1.0)
        assert len(found.fields["report"]) <= 64
        assert sum(map(len, found.fields["report"])) <= 4096
        assert probe.collect_errors == 0


@contextmanager
def impatient(**settings: int) -> Iterator[None]:
    """The kernel's watchdogs with other limits, by their files; as before afterwards."""
    files = {
        "watchdog_thresh": HOST.proc / "sys/kernel/watchdog_thresh",
        "rcu_cpu_stall_timeout": HOST.sys / "module/rcupdate/parameters/rcu_cpu_stall_timeout",
    }
    before = {name: HOST.read(files[name]) for name in settings}
    try:
        for name, value in settings.items():
            files[name].write_text(str(value))
        time.sleep(1.5)
        yield
    finally:
        for name, text in before.items():
            files[name].write_text(text)


def reported(kind: str, milliseconds: int) -> tuple[list[Event], int]:
    """Events of a kind when a CPU stalls for so long with interrupts off, and which CPU that is."""
    tid = threading.get_native_id()
    with (
        running(Lockup) as probe,
        stall("sched_switch", milliseconds=milliseconds, tid=tid) as stalls,
    ):
        for _ in range(20):
            time.sleep(0.01)
        assert len(stalls) == 1
        found = [event for event in told(probe, 6.0) if event.fields["kind"] == kind]
        return found, int(stalls.rows()["cpu"][0])


def test_a_real_soft_lockup() -> None:
    """By the watchdog whose patience is two seconds."""
    need_disposable_host("a soft lockup")
    with impatient(watchdog_thresh=1):
        found, cpu = reported("soft_lockup", 5000)
    assert len(found) >= 1
    assert found[0].fields["cpu"] == cpu
    assert found[0].fields["stuck_ns"] >= 2e9
    assert any("RIP" in line for line in found[0].fields["report"])


def test_a_real_stall_of_rcu() -> None:
    """A CPU that passes no quiescent state for longer than RCU's patience of three seconds."""
    need_disposable_host("a stall of RCU")
    with impatient(rcu_cpu_stall_timeout=3):
        found, cpu = reported("rcu_stall", 5800)
    assert len(found) >= 1
    assert found[0].fields["cpu"] == cpu
    assert found[0].fields["stuck_ns"] >= 3e9
    assert found[0].fields["rcu"].startswith("rcu_")
