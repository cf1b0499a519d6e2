"""A node that never was: generated containers, metrics and events behind the Node protocol.

To look at the UI without a kernel: python -m tests.serve.fake_node [port] [empty] [nodes=100000]

What its metrics say of the CPU time in its profiles: all of it is 98.9 % of what the kernel
counted, but only two thirds of what redis-2 used.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from huatuo.model.application import (
    Ancestor,
    Application,
    ContainerApplication,
    Port,
    RunningProcess,
)
from huatuo.model.event import Container, Event, Process
from huatuo.model.incident import Capture, FunctionShare, Incident, IncidentFile, Suspect
from huatuo.model.meaning import Role
from huatuo.model.metric import Column, Metric
from huatuo.model.profile import Samples
from huatuo.model.state import Decision, Health, ProbeState
from huatuo.selfmetrics import probe_metrics
from huatuo.serve.params import rfc3339
from huatuo.store.base import Store
from huatuo.store.embedded import EmbeddedStore
from tests.serve.made_up_profiles import history
from tests.serve.memory_store import MemoryStore

SLOTS = 27
CONTAINERS = [
    Container(
        "pg-0",
        "container",
        "/kubepods/pod1/pg",
        "3f2a9c",
        "postgres:16",
        "containerd",
        "",
        "db",
        cpu_limit=4.0,
        memory_limit_bytes=2 << 30,
    ),
    Container(
        "etl-7",
        "container",
        "/kubepods/pod2/etl",
        "77aa01",
        "etl:2.4",
        "containerd",
        "",
        "batch",
    ),
    Container(
        "web-1",
        "container",
        "/kubepods/pod3/web",
        "10ab99",
        "nginx:1.27",
        "containerd",
        "",
        "shop",
    ),
    Container(
        "redis-2",
        "container",
        "/kubepods/pod4/redis",
        "aa1b2c",
        "redis:7",
        "containerd",
        "",
        "shop",
    ),
    Container("ssh.service", "service", "/system.slice/ssh.service", runtime="systemd"),
    Container("docker.service", "service", "/system.slice/docker.service", runtime="systemd"),
]
NAMES = [container.name for container in CONTAINERS]
PROBES = [
    ProbeState(
        "block.latency",
        "running",
        "",
        ["events", "metrics"],
        "Time of block requests",
        ["tp_btf/block_rq_issue"],
        [],
        80,
        850.0,
        118.0,
        0.0002,
        31,
        31,
    ),
    ProbeState(
        "cpu.sched",
        "running",
        "",
        ["metrics"],
        "How long runnable tasks wait for a CPU",
        ["tp_btf/sched_switch", "tp_btf/sched_process_fork"],
        [],
        90,
        21840.0,
        101.0,
        0.0011,
    ),
    ProbeState(
        "cpu.softirq",
        "shed",
        "over budget: 1.4 % of the machine, allowed 1 %",
        ["metrics"],
        "Delay and run time of softirqs",
        ["tp_btf/softirq_entry"],
        [],
        40,
        9100.0,
        190.0,
        0.0,
    ),
    ProbeState(
        "hardware.ras",
        "unavailable",
        "no tracepoint ras:mc_event in this kernel",
        ["events"],
        "Hardware errors",
        [],
        [],
        70,
    ),
    ProbeState(
        "memory.oom",
        "running",
        "",
        ["events", "metrics"],
        "OOM kills with the memory state of the domain that ran out",
        ["tp_btf/mark_victim"],
        ["the limit is unknown before 6.1"],
        95,
        0.0,
        0.0,
        0.0,
        3,
        3,
    ),
    ProbeState(
        "net.drop",
        "running",
        "",
        ["events", "metrics"],
        "Packets dropped, with reason and stack",
        ["tp_btf/kfree_skb"],
        [],
        60,
        42.0,
        480.0,
        0.00004,
        5210,
        410,
        {"rate_limited": 4788},
        {"ring_full": 12},
    ),
    ProbeState(
        "profile.cpu",
        "running",
        "",
        ["profiles"],
        "Where CPU time is spent, by stack",
        ["perf_event/cpu-clock"],
        [],
        50,
        38.0,
        11800.0,
        0.0004,
        48_120,
        48_120,
        {"rate_limited": 0},
        {"ring_full": 0},
    ),
    ProbeState(
        "profile.blocked",
        "running",
        "",
        ["profiles"],
        "Where threads wait, for what, and who holds the lock they want",
        ["iter/task"],
        [],
        50,
        cpu_ratio=0.0003,
        produced=9624,
        delivered=9624,
        lost={"ring_full": 0},
        pace_ratio=0.5,
    ),
    ProbeState(
        "profile.lock",
        "unavailable",
        "this kernel has no sleepable task iterator (needs 5.18)",
        ["profiles"],
        "Who waits for which lock",
        [],
        [],
        40,
    ),
]
_REASONS = ["NO_SOCKET", "TCP_INVALID_SEQUENCE", "QDISC_DROP"]


def _incident(now_ns: int) -> Incident:
    burn = FunctionShare("compress_block", "etl", 0.62, 0.81, 0.04)
    return Incident(
        time=rfc3339(now_ns - 60 * 10**9),
        time_ns=now_ns - 60 * 10**9,
        start_ns=now_ns - 360 * 10**9,
        end_ns=now_ns - 60 * 10**9,
        trigger="contention",
        when="rate(cpu_sched_delay_seconds_total{victim!=culprit}) > 40 %",
        per="victim",
        target="pg-0",
        facts=["rate(cpu_sched_delay_seconds_total{victim!=culprit}) = 87.0% (> 40.0%)"],
        summary="contention fired for pg-0. First among those who may have caused it: etl-7.",
        suspects=[Suspect("etl-7", 0.87)],
        before=[burn],
        capture=Capture(1, "cpu", "pg-0", "done", profiles={"cpu": [burn]}),
    )


class FakeCaptures:
    """Jobs that never begin."""

    def __init__(self) -> None:
        self.jobs: list[Capture] = []

    def states(self) -> list[Capture]:
        return self.jobs[::-1]

    def ask(self, plan: str, container: str) -> Capture:
        self.jobs.append(Capture(len(self.jobs) + 1, plan, container, "queued"))
        return self.jobs[-1]

    def stop(self, capture_id: int) -> bool:
        return 0 < capture_id <= len(self.jobs)


class FakeNode:
    """`history_seconds` of made-up past, then live if `run()` is awaited.

    `samples`: its profiles, as the store got them; `profiled`: when they begin and end. There are
    others of the same length a day before.
    """

    def __init__(
        self,
        history_seconds: int = 3600,
        step: int = 5,
        empty: bool = False,
        nodes: int = 20_000,
        cpus: float = 4.0,
        store: Store | None = None,
    ) -> None:
        self.store: Store = store or MemoryStore()
        self.tracing = FakeCaptures()
        self.random = random.Random(7)
        self.rng = np.random.default_rng(7)
        self.step = step
        self.empty = empty
        self.readers: list[asyncio.Queue[Event]] = []
        self.totals: dict[tuple[str, ...], np.ndarray] = {}
        self.sums: dict[tuple[str, ...], float] = {}
        now = time.time_ns()
        self.profiled = (now - history_seconds * 1_000_000_000, now)
        self.samples: list[Samples] = []
        if not empty:
            for ago in (86400 * 1_000_000_000, 0):
                self.samples = list(history(*(end - ago for end in self.profiled), nodes, cpus))
                for batch in self.samples:
                    self.store.profiles.append(batch)
            for back in range(history_seconds, -1, -step):
                self.tick(now - back * 1_000_000_000)
            self.store.incidents.put(_incident(now), [IncidentFile("cpu.pb.gz", b"made up")])

    def health(self) -> Health:
        status, problems = ("ok", []) if not self.empty else ("degraded", ["no BPF: not root"])
        return Health(
            status,
            problems,
            "0.1.0",
            "node-7",
            "6.12.1",
            rfc3339(time.time_ns()),
            0.0011,
            0.01,
            71 << 20,
            128 << 20,
        )

    def probes(self) -> list[ProbeState]:
        return PROBES

    def decisions(self) -> list[Decision]:
        if self.empty:
            return []
        acts = [(60, "faster", "profile.cpu", "profilers cost 0.080% only"),
                (180, "slower", "profile.cpu", "profilers cost 0.350%, over their budget"),
                (240, "shed", "cpu.softirq", "over budget: 1.4 % of the machine")]  # fmt: skip
        now = time.time_ns()
        return [Decision(rfc3339(now - ago * 10**9), *rest) for ago, *rest in acts]

    def containers(self) -> list[Container]:
        return [] if self.empty else CONTAINERS

    def application(self, container: Container) -> ContainerApplication:
        if container.name != "pg-0":
            return ContainerApplication([], [], ["made-up containers do not run"])
        started = rfc3339(time.time_ns() - 7200 * 10**9)[:19] + "Z"
        first = RunningProcess(
            4711, "postgres", local_pid=1, command="postgres -D /var/lib/postgresql/data",
            started=started, threads=1, cpu_seconds=12.5, memory_bytes=180 << 20,
            environment={"PGDATA": "/var/lib/postgresql/data", "POSTGRES_PASSWORD": "***"},
        )  # fmt: skip
        workers = [
            RunningProcess(
                4712 + at,
                "postgres",
                4711,
                30 + at,
                f"postgres: worker {at}",
                started=started,
                threads=1,
                cpu_seconds=1.25 * at,
                memory_bytes=40 << 20,
            )
            for at in range(15)
        ]
        backup = RunningProcess(4800, "python3", 4712, 99, "python3 /backup.py --password=***",
                                "python 3.11", "", started, 3, 0.5, 30 << 20)  # fmt: skip
        ports = [Port("tcp", "0.0.0.0", 5432, 4711, "postgres"),
                 Port("tcp", "::", 5432, 4711, "postgres"),
                 Port("udp", "127.0.0.1", 8125, 4800, "python3")]  # fmt: skip
        return ContainerApplication([first, workers[0], backup, *workers[1:]], ports)

    def metrics(self) -> list[Metric]:
        if self.empty:
            return []
        return [*self._families(0.0), *self._accounts(time.time_ns())]

    async def subscribe(self) -> AsyncIterator[Event]:
        queue: asyncio.Queue[Event] = asyncio.Queue()
        self.readers.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self.readers.remove(queue)

    def publish(self, event: Event) -> Event:
        (stored,) = self.store.append_events([event])
        for queue in self.readers:
            queue.put_nowait(stored)
        return stored

    async def run(self) -> None:
        while not self.empty:
            await asyncio.sleep(self.step)
            self.tick(time.time_ns())

    # ---- generation ----

    def tick(self, now_ns: int) -> None:
        storm = 1.0 if math.sin(now_ns / 1e9 / 120) > 0.75 else 0.0
        self.store.append_metrics(now_ns, [*self._families(storm), *self._accounts(now_ns)])
        if self.random.random() < 0.06 + storm * 0.3:
            self.publish(self.event(now_ns - self.random.randrange(10**9)))

    def event(self, time_ns: int) -> Event:
        kind = self.random.choice(["drop", "drop", "slow", "oom"])
        container = self.random.choice(CONTAINERS)
        pid = self.random.randrange(300, 40000)
        stamp = rfc3339(time_ns)
        if kind == "drop":
            reason = self.random.choice(_REASONS)
            fields = {
                "reason": reason,
                "device": "eth0",
                "protocol": "TCP",
                "source": "10.0.0.7:443",
                "destination": "10.0.0.9:51442",
                "length_bytes": 1500,
            }
            stack = [
                "kfree_skb_reason+0x1",
                "tcp_v4_rcv+0x8e1",
                "ip_protocol_deliver_rcu+0x32",
                "ip_local_deliver_finish+0x86",
                "__netif_receive_skb_one_core+0x8b",
                "process_backlog+0xa0",
                "net_rx_action+0x1a2",
            ]
            title = f"packet of {container.name} dropped: {reason}"
            return Event(
                stamp,
                "net.drop",
                "drops",
                title,
                0,
                container,
                Process(pid, "nginx"),
                fields,
                stack,
            )
        if kind == "slow":
            wait = self.random.randrange(50, 900) * 1_000_000
            fields = {
                "device": "sda",
                "operation": "write",
                "queue_ns": 120_000,
                "device_ns": wait,
                "size_bytes": 4096,
            }
            title = f"write to sda took {wait / 1e6:.0f} ms"
            return Event(
                stamp,
                "block.latency",
                "slow",
                title,
                0,
                container,
                Process(pid, "postgres"),
                fields,
                application=Application(
                    "postgres: worker 3",
                    "",
                    "",
                    rfc3339(time_ns - 10**12),
                    [Ancestor(4711, "postgres", "postgres -D /var/lib/postgresql/data")],
                ),
            )
        fields = {
            "victim_pid": pid,
            "victim_comm": "python3",
            "limit_bytes": 512 << 20,
            "usage_bytes": 512 << 20,
            "scope": "memcg",
            "memory_stat": {"anon": 500 << 20, "file": 4 << 20},
        }
        title = f"python3 ({pid}) of {container.name} killed: out of memory"
        return Event(
            stamp,
            "memory.oom",
            "kills",
            title,
            0,
            container,
            Process(pid, "python3"),
            fields,
            ["oom_kill_process+0x1", "out_of_memory+0x1f0", "mem_cgroup_out_of_memory+0x134"],
        )

    def _grow(self, key: tuple[str, ...], count: int, center: float, spread: float) -> None:
        total = self.totals.setdefault(key, np.zeros(SLOTS, np.uint64))
        slots = np.clip(self.rng.normal(center, spread, count).round(), 0, SLOTS - 1).astype(int)
        np.add.at(total, slots, 1)
        self.sums[key] = self.sums.get(key, 0.0) + float((2.0 ** (slots - 20.6)).sum())

    def _histogram(self, name: str, labels: tuple[str, ...], keys: list[tuple[str, ...]]) -> Metric:
        columns = {label: Column([key[i] for key in keys]) for i, label in enumerate(labels)}
        values = np.array([self.totals[name, *key] for key in keys])
        sums = np.array([self.sums[name, *key] for key in keys])
        return Metric(name, Role.HISTOGRAM, f"made-up {name}", values, columns, sums)

    def _counter(
        self, name: str, labels: tuple[str, ...], grown: dict[tuple[str, ...], float]
    ) -> Metric:
        for key, value in grown.items():
            self.sums[name, *key] = self.sums.get((name, *key), 0.0) + value
        now = {key: self.sums[name, *key] for key in grown}
        return Metric.of(name, Role.COUNTER, f"made-up {name}", now, labels)

    def _accounts(self, now_ns: int) -> list[Metric]:
        """What else says how much CPU time was used, and what the probes say of themselves."""
        used = {
            batch.labels[0]["container"]: float(batch.values[batch.times <= now_ns].sum()) / 1e9
            for batch in self.samples
            if batch.type == "cpu"
        }
        busy = sum(used.values()) / 0.989
        idle = 8 * (now_ns - self.profiled[0]) / 1e9 - busy
        return [
            Metric.of(
                "huatuo_cpu_usage_seconds_total", Role.COUNTER, "made up",
                {("0", "user"): busy, ("0", "idle"): idle}, ("cpu", "state"),
            ),
            Metric.of(
                "huatuo_cpu_cgroup_usage_seconds_total", Role.COUNTER, "made up",
                {(name, "user"): value * (1.5 if name == "redis-2" else 1 / 0.989)
                 for name, value in used.items()}, ("container", "state"),
            ),
            Metric.of(
                "huatuo_governor_pace_ratio", Role.GAUGE, "made up",
                {(state.name,): state.pace_ratio for state in PROBES if "profiles" in state.kind},
                ("probe",),
            ),
            *probe_metrics(PROBES),
        ]  # fmt: skip

    def _families(self, storm: float) -> list[Metric]:
        wait, queue, device = (
            "huatuo_cpu_sched_wait_seconds",
            "huatuo_block_latency_queue_seconds",
            "huatuo_block_latency_device_seconds",
        )
        raise_, run = "huatuo_cpu_softirq_raise_seconds", "huatuo_cpu_softirq_run_seconds"
        for name in NAMES:
            suffers = storm and name in ("pg-0", "web-1")
            self._grow((wait, name), 300, 15.5 if suffers else 5.0, 2.2)
            self._grow((device, "sda", "write", name), 30, 11 + 3 * storm, 2)
            self._grow((queue, "sda", "write", name), 30, 4 + 2 * storm, 2)
        for vector in ("net_rx", "timer", "rcu"):
            self._grow((raise_, vector), 100, 3, 1.5)
            self._grow((run, vector), 100, 5, 2)
        s, r = self.step, self.random.random
        used = {(n,): s * (0.1 + 0.2 * r() + 1.2 * storm * (n == "etl-7")) for n in NAMES}
        delays = {
            ("pg-0", "etl-7"): s * (0.02 + storm),
            ("pg-0", "web-1"): s * 0.05 * r(),
            ("web-1", "etl-7"): s * (0.01 + 0.4 * storm),
            ("redis-2", "pg-0"): s * 0.01,
        }
        drops = {(reason, "web-1"): float(self.rng.poisson(1 + 20 * storm)) for reason in _REASONS}
        return [
            self._histogram(wait, ("container",), [(n,) for n in NAMES]),
            self._histogram(
                device, ("device", "operation", "container"), [("sda", "write", n) for n in NAMES]
            ),
            self._histogram(
                queue, ("device", "operation", "container"), [("sda", "write", n) for n in NAMES]
            ),
            self._histogram(raise_, ("vector",), [(v,) for v in ("net_rx", "timer", "rcu")]),
            self._histogram(run, ("vector",), [(v,) for v in ("net_rx", "timer", "rcu")]),
            self._counter("huatuo_cpu_sched_run_seconds_total", ("container",), used),
            self._counter("huatuo_cpu_sched_delay_seconds_total", ("victim", "culprit"), delays),
            self._counter("huatuo_net_drop_packets_total", ("reason", "container"), drops),
            self._counter(
                "huatuo_memory_oom_kills_total",
                ("scope", "container"),
                {("memcg", "etl-7"): 1.0 if r() < 0.003 else 0.0},
            ),
        ]


@contextlib.contextmanager
def on_disk(**options: Any) -> Iterator[FakeNode]:
    """A FakeNode over the store that an agent has."""
    with tempfile.TemporaryDirectory(prefix="huatuo-node-") as folder:
        store = EmbeddedStore(Path(folder), max_bytes=1 << 30, max_age_seconds=7 * 86400)
        try:
            yield FakeNode(store=store, **options)
        finally:
            store.close()


async def main() -> None:
    from huatuo.serve.app import create_app
    from huatuo.serve.server import serve

    port = int(sys.argv[1]) if len(sys.argv) > 1 else 19799
    nodes = next((int(a[6:]) for a in sys.argv if a.startswith("nodes=")), 20_000)
    with on_disk(empty="empty" in sys.argv, nodes=nodes) as node:
        live = asyncio.create_task(node.run())
        print(f"http://127.0.0.1:{port}/", flush=True)
        try:
            await serve(create_app(node), "127.0.0.1", port)
        finally:
            live.cancel()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
