"""What the profile store costs: a day of a busy host with two CPUs, made up.

    python bench/profiles.py [--hours 24] [--stacks 24000] [--epoch-hours 24]

The host: 300 processes of 40 programs in 30 containers, 1,000 threads, of which few do most of the
work (Zipf). A program is a call tree that grew by taking a stack, cutting it at a random depth and
going on from there with other functions, so that its stacks share what real ones share: 30 frames
in the mean, a third of them with a kernel part. How often a stack is seen is Zipf again. Functions
have several call sites, each a location; every fifth location has a function inlined.

Samples: 19 Hz on both CPUs, all day, in batches of 10 s, each standing for 1/19 s; a tenth as many
`blocked` samples with log-normal durations. Labels: container, pod, namespace, comm, pid, tid,
pgid, cpu.

Times are CPU time of this process where not said otherwise; medians.
"""

from __future__ import annotations

import argparse
import gc
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from huatuo.kernel.heap import give_back, return_large_blocks
from huatuo.model.profile import FrameKind, Line, Location, Samples, Stack, StackStatus
from huatuo.store.embedded import EmbeddedStore
from huatuo.store.profile import dictionary
from huatuo.store.profiles import Matcher, ProfileQuery

SECOND = 1_000_000_000
START = 1_790_000_000 * SECOND
BATCH = 10 * SECOND
HZ, CPUS = 19, 2
PROGRAMS, PROCESSES, THREADS, CONTAINERS = 40, 300, 1000, 30
RUNS = 7


def line(name: str, value: str) -> None:
    print(f"  {name:<62} {value:>24}", flush=True)


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)


class Program:
    """The stacks of one binary and the libraries it uses."""

    def __init__(self, rng: np.random.Generator, name: str, stacks: int, kernel: list) -> None:
        self.rng, self.name = rng, name
        self.sites = self.call_sites(600)
        grown: list[list[Location]] = [self.pick(10)]
        for _ in range(stacks - 1):
            old = grown[rng.integers(len(grown))]
            cut = int(rng.integers(4, len(old)))
            length = int(np.clip(rng.normal(27, 9), cut + 1, 120))
            grown.append(old[:cut] + self.pick(length - cut))
        in_kernel = rng.random(len(grown)) < 1 / 3
        self.stacks = []
        for stack, inside in zip(grown, in_kernel.tolist(), strict=True):
            if inside:
                stack = stack + kernel[rng.integers(len(kernel))]
            status = StackStatus.COMPLETE if rng.random() < 0.98 else StackStatus.NO_ROWS
            self.stacks.append(Stack(tuple(stack[::-1]), status))

    def call_sites(self, functions: int) -> list[Location]:
        return call_sites(self.rng, self.name, functions, FrameKind.NATIVE)

    def pick(self, count: int) -> list[Location]:
        where = (self.rng.zipf(1.3, count) - 1) % len(self.sites)
        return [self.sites[at] for at in where.tolist()]


def call_sites(
    rng: np.random.Generator, mapping: str, functions: int, kind: FrameKind
) -> list[Location]:
    build_id = rng.bytes(20).hex()
    words = ["decode", "Request", "Handler", "poll", "tokio", "alloc", "json", "Scheduler"]
    words += ["map", "insert", "flush", "Buffer", "session", "hash", "wait", "encode", "Stream"]
    found = []
    for number in range(functions):
        parts = rng.choice(words, rng.integers(2, 7)).tolist()
        name = f"{mapping.partition('.')[0]}::{'::'.join(parts)}_{number}"
        file = f"/usr/src/{mapping}/src/{parts[0]}/{parts[1]}.cc"
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(1, 2000))
            lines = (Line(name, file, at),)
            if rng.random() < 0.2:
                lines = (
                    Line(f"std::{parts[0]}<{name}>", "/usr/include/c++/12/bits/stl.h", at),
                    *lines,
                )
            found.append(Location(kind, mapping, int(rng.integers(1 << 24)), build_id, lines))
    return found


class Host:
    def __init__(self, stacks: int) -> None:
        self.rng = rng = np.random.default_rng(1)
        sites = call_sites(rng, "[vmlinux]", 2000, FrameKind.KERNEL)
        kernel = [
            [sites[at] for at in rng.integers(len(sites), size=rng.integers(5, 18)).tolist()]
            for _ in range(400)
        ]
        programs = [
            Program(rng, f"program-{i}.so", stacks // PROGRAMS, kernel) for i in range(PROGRAMS)
        ]
        self.stacks = [stack for program in programs for stack in program.stacks]
        self.first = np.cumsum([0, *(len(program.stacks) for program in programs)])
        self.program_of = rng.integers(PROGRAMS, size=PROCESSES)
        self.process_of = np.concatenate(
            [np.arange(PROCESSES), rng.integers(PROCESSES, size=THREADS - PROCESSES)]
        )
        self.tid = rng.permutation(np.arange(1000, 1000 + 7 * THREADS, 7))
        self.labels = [
            self.labels_of(thread, cpu) for thread in range(THREADS) for cpu in range(CPUS)
        ]
        self.threads = zipf(THREADS)
        self.of_program = zipf(stacks // PROGRAMS)

    def labels_of(self, thread: int, cpu: int) -> dict[str, str]:
        process = int(self.process_of[thread])
        container = process % CONTAINERS
        return {
            "container": f"service-{container}",
            "pod": f"service-{container}-7d9f8b6c5d-x{container:04}",
            "namespace": f"team-{container % 5}",
            "comm": f"worker-{self.program_of[process]}",
            "pid": str(self.tid[process]),
            "tid": str(self.tid[thread]),
            "pgid": str(self.tid[process]),
            "cpu": str(cpu),
        }

    def samples(self, name: str, times: np.ndarray, values: np.ndarray) -> Samples:
        n = len(times)
        thread = np.searchsorted(self.threads, self.rng.random(n))
        which = np.searchsorted(self.of_program, self.rng.random(n))
        # A process does not do everything its program can: each begins elsewhere in the order.
        process = self.process_of[thread]
        which = (which + process * 37) % len(self.of_program)
        stack = self.first[self.program_of[process]] + which
        used, stack_of = np.unique(stack, return_inverse=True)
        labels, labels_of = np.unique(
            thread * CPUS + self.rng.integers(CPUS, size=n), return_inverse=True
        )
        return Samples(
            name,
            times,
            values,
            [self.stacks[at] for at in used.tolist()],
            stack_of.astype(np.int32),
            [self.labels[at] for at in labels.tolist()],
            labels_of.astype(np.int32),
        )

    def batches(self, hours: float) -> Iterator[tuple[Samples, Samples]]:
        period = SECOND // HZ
        ticks = HZ * BATCH // SECOND
        for start in range(START, START + int(hours * 3600) * SECOND, BATCH):
            clock = start + np.arange(ticks) * period
            jitter = self.rng.normal(0, 300_000, (CPUS, ticks)).astype(np.int64)
            times = (clock + np.arange(CPUS).reshape(-1, 1) * 11_000_000 + jitter).ravel()
            cpu = self.samples("cpu", times, np.full(len(times), period))
            n = len(times) // 10
            slept = np.exp(self.rng.normal(17, 2, n)).astype(np.int64)
            yield cpu, self.samples("blocked", start + self.rng.integers(BATCH, size=n), slept)


def zipf(n: int) -> np.ndarray:
    """Cumulative."""
    weights = np.cumsum(1 / np.arange(1, n + 1))
    return weights / weights[-1]


def fill(store: EmbeddedStore, host: Host, hours: float) -> None:
    costs, blocked = [], []
    for cpu, others in host.batches(hours):
        for batch, into in ((cpu, costs), (others, blocked)):
            begin = time.process_time()
            store.profiles.append(batch)
            into.append(time.process_time() - begin)
        if len(costs) % 60 == 0:
            begin = time.process_time()
            store.expire(int(cpu.times[0]))
    for name, each in (("cpu, 380 samples", costs), ("blocked, 38 samples", blocked)):
        ms = np.array(each) * 1e3
        first = f"{ms[0]:.1f} ms, {ms[1:7].mean():.1f} ms"
        line(f"append {name}: first batch, mean of the next six", first)
        spread = f"{np.percentile(ms, 99):.1f} / {ms.max():.0f} ms"
        text = f"{np.median(ms):.2f} / {ms.mean():.2f} / {spread}"
        line(f"append {name}: median / mean / p99 / max", text)
    line("of one core, both types", f"{(sum(costs) + sum(blocked)) / hours / 36:.3f} %")


def report_disk(store: EmbeddedStore, hours: float) -> None:
    with store._database.read() as db:
        for name in ("cpu", "blocked"):
            samples, groups, rows, blocks = db.execute(
                "SELECT sum(samples), sum(length(groups)), sum(length(rows)), count(*)"
                " FROM profile_blocks WHERE type = ?",
                (name,),
            ).fetchone()
            line(f"{name}: samples in blocks", f"{samples} in {blocks}")
            line(f"{name}: groups, samples", f"{groups / 1e6:.1f}, {rows / 1e6:.1f} MB")
        nodes, locations, names = db.execute(
            "SELECT sum(nodes), sum(locations), sum(names) FROM profile_epochs"
        ).fetchone()
        line("nodes, locations, names", f"{nodes}, {locations}, {names}")
        (size,) = db.execute("SELECT sum(length(data)) FROM profile_nodes").fetchone()
        line("nodes", f"{size / 1e6:.1f} MB")
    used = store.usage().bytes
    line("everything in the file, per day", f"{used / 1e6 * 24 / hours:.1f} MB")


def timed(name: str, call: Callable[[], object], runs: int = RUNS) -> None:
    wall, cpu = [], []
    for _ in range(runs):
        gc.collect()
        begin, cpu_begin = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - begin)
        cpu.append(time.process_time() - cpu_begin)
    text = f"{statistics.median(wall) * 1e3:.0f} / {statistics.median(cpu) * 1e3:.0f} ms"
    line(f"{name}, wall / CPU", f"{text} ({min(cpu) * 1e3:.0f} to {max(cpu) * 1e3:.0f})")


def peak_mib(call: Callable[[], object]) -> float:
    """How much more memory was resident at some moment of a call, seen every millisecond."""
    gc.collect()
    before = resident_mib()
    peak, done = before, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, resident_mib())

    watcher = threading.Thread(target=watch)
    watcher.start()
    call()
    done.set()
    watcher.join()
    return peak - before


def queries(store: EmbeddedStore, hours: float) -> None:
    end = START + int(hours * 3600) * SECOND - 1
    profiles = store.profiles
    day = ProfileQuery("cpu", START, end)
    one = (Matcher("container", "=", "service-3"),)
    some = (Matcher("comm", "=~", "worker-(1|2).*"), Matcher("namespace", "!=", "team-1"))
    hour = end - 3600 * SECOND
    minutes = (START + 3600 * SECOND, START + 3900 * SECOND)
    for name, query in (
        ("merge, everything", day),
        ("merge, everything, one container", ProfileQuery("cpu", START, end, one)),
        ("merge, everything, =~ and !=", ProfileQuery("cpu", START, end, some)),
        ("merge, everything, blocked", ProfileQuery("blocked", START, end)),
        ("merge, last hour", ProfileQuery("cpu", hour, end)),
        ("merge, last hour, one container", ProfileQuery("cpu", hour, end, one)),
        ("merge, five minutes in the past", ProfileQuery("cpu", *minutes)),
    ):
        timed(name, lambda q=query: profiles.merge(q))
    step = (end - START) // 300
    timed("series, everything, 300 steps", lambda: profiles.series(day, step))
    timed("series, everything, by container", lambda: profiles.series(day, step, ["container"]))
    timed("labels, everything", lambda: profiles.labels(day))
    profile = profiles.merge(day)
    sizes = f"{profile.samples}, {len(profile.parent)}, {len(profile.locations)}"
    line("profile: samples, nodes, locations", sizes)
    timed("its totals", profile.totals)
    del profile
    peak = peak_mib(lambda: profiles.merge(day))
    line("memory, more at the peak of a merge of everything", f"{peak:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--stacks", type=int, default=24_000)
    parser.add_argument("--directory", type=Path, help="keep the store here")
    parser.add_argument("--epoch-hours", type=float, default=24, help="of the dictionary")
    options = parser.parse_args()
    dictionary._DAY_NS = int(options.epoch_hours * 3600) * SECOND
    return_large_blocks()
    host = Host(options.stacks)
    frames = np.mean([len(stack.locations) for stack in host.stacks])
    print(f"\n{options.hours:g} h, {len(set(host.stacks))} stacks of {frames:.1f} frames")
    with tempfile.TemporaryDirectory() as directory:
        where = options.directory or Path(directory)
        store = EmbeddedStore(where, max_bytes=1 << 30, max_age_seconds=7 * 86400)
        gc.collect()
        gc.freeze()  # an agent has no host in memory to look through for garbage
        before = resident_mib()
        fill(store, host, options.hours)
        gc.collect()
        give_back()  # as the agent does every minute
        line("memory: before → after", f"{before:.0f} → {resident_mib():.0f} MiB")
        report_disk(store, options.hours)
        queries(store, options.hours)
        store.close()


if __name__ == "__main__":
    main()
