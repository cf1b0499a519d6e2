"""Unwinding of user stacks: what a sample costs, how many are whole, and what new programs cost.

Beside `perf record --call-graph` dwarf and fp where perf is installed, with the same clock at the
same rate on the same programs. A stack of perf's counts as whole if it has `main` or what threads
begin with; ours if it says so itself, which tests/live/test_profile_cpu*.py prove. In the kernel
ours is by BPF statistics, net of what they add; what perf does there cannot be seen from outside.
In user space ours is compiling rows that were still missing, perf's is `perf script`.
"""

from __future__ import annotations

import os
import re
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from huatuo.kernel.calibration import statistics_overhead_ns
from huatuo.kernel.host import Host
from huatuo.kernel.object import statistics_window
from huatuo.model.profile import StackStatus
from huatuo.probes.base import discover
from huatuo.probes.profiler import Profiler
from huatuo.profilers.native.unwinder import Unwinder

_PROGRAMS = Path(__file__).parents[1] / "tests/live/programs"
_SECONDS, _RATE, _NEW = 2, 199, 60
_STATUSES = list(StackStatus)
_BEGINS = re.compile(
    rb"^(_start|_dl_start|__?clone3?|start_thread|runtime\.(goexit|m(start|call)).*)$"
)
_PYTHON = "import time\ndef work(n): return sum(i*i for i in range(n))\n"
_PYTHON += f"end = time.process_time() + {_SECONDS}\nwhile time.process_time() < end: work(1000)"


class Measured(NamedTuple):
    """Of one run: `kernel` and `user` are microseconds of CPU time per sample."""

    samples: int
    complete: float
    kernel: float | None
    user: float
    bytes: float | None = None  # on disk


def _programs(folder: Path) -> dict[str, list[str]]:
    """Title → command; those that can be built here."""
    builds = {
        "C, gcc -O2": ["gcc", "-O2", "-fomit-frame-pointer", "chain.c"],
        "C, with frame pointers": ["gcc", "-O2", "-fno-omit-frame-pointer", "chain.c"],
        "Go": ["go", "build", "chain.go"],
    }
    found = {}
    environment = {**os.environ, "GO111MODULE": "off", "CGO_ENABLED": "0"}
    environment["GOCACHE"] = str(folder / "cache")
    for number, (title, (compiler, *options, source)) in enumerate(builds.items()):
        if shutil.which(compiler):
            out = folder / f"program{number}"
            command = [compiler, *options, "-o", str(out), str(_PROGRAMS / source)]
            subprocess.run(command, check=True, capture_output=True, env=environment)
            found[title] = [str(out), str(_SECONDS)]
    found["Python"] = [sys.executable, "-c", _PYTHON]
    return found


class Session:
    """profile.cpu, served as the agent does it."""

    def __init__(self) -> None:
        self.unwinder = Unwinder(Host())
        probe = discover()["profile.cpu"](Host(), {"samples_per_second": _RATE})
        assert isinstance(probe, Profiler)
        self.probe = probe
        self.rows: Counter[tuple[int, int]] = Counter()  # (pid, stack) → samples
        self.statuses: dict[int, StackStatus] = {}
        probe.unwinder = self.unwinder
        probe.start()

    def run(self, command: Sequence[str]) -> int:
        """The pid, once it has ended."""
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            pause = 0.05
            while process.poll() is None:
                fds = [*self.unwinder.urgent_fds, *self.probe.ring_fds()]
                select.select(fds, [], [], min(pause, 0.05))
                pause = self._serve()
        self._serve()
        return process.pid

    def _serve(self) -> float:
        pause = self.unwinder.serve()
        for batch in self.probe.drain():
            pairs = zip(batch.rows["tgid"].tolist(), batch.rows["stack"].tolist(), strict=True)
            self.rows.update(pairs)
        for stack in self.unwinder.stacks():
            self.statuses[int(stack["id"])] = _STATUSES[int(stack["status"])]
        return 1.0 if pause is None else pause

    def complete(self, pid: int) -> tuple[int, float]:
        """(samples, share of whole ones)."""
        mine = {stack: count for (owner, stack), count in self.rows.items() if owner == pid}
        whole = sum(n for s, n in mine.items() if self.statuses[s] is StackStatus.COMPLETE)
        return sum(mine.values()), whole / max(sum(mine.values()), 1)

    def close(self) -> None:
        self.probe.stop()
        self.unwinder.close()


def _ours(command: list[str]) -> Measured:
    """The second run: the rows are there."""
    session = Session()
    try:
        session.run(command)
        before, window = session.unwinder.counts.seconds, statistics_window()
        try:
            pid = session.run(command)
            (cost,) = session.probe.cost().values()
        finally:
            os.close(window)
        kernel = (cost.run_time_ns / max(cost.run_count, 1) - statistics_overhead_ns()) / 1e3
        user = (session.unwinder.counts.seconds - before) / max(cost.run_count, 1) * 1e6
        return Measured(*session.complete(pid), kernel, user)
    finally:
        session.close()


def _perf(command: list[str], kind: str, folder: Path) -> Measured:
    data, silent = folder / "perf.data", subprocess.DEVNULL
    options = ["-e", "cpu-clock", "-F", str(_RATE), "--call-graph", kind, "-o", str(data)]
    recording = ["perf", "record", *options, *command]
    subprocess.run(recording, stdout=silent, stderr=silent, check=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    reading = ["perf", "script", "-i", str(data), "-F", "ip,sym", "--no-inline"]
    stacks = subprocess.run(reading, stdout=subprocess.PIPE, stderr=silent, check=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = [block.split() for block in stacks.split(b"\n\n") if block.strip()]
    whole = sum(b"main" in words or bool(_BEGINS.match(words[-1])) for words in found)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    count = len(found)
    return Measured(count, whole / count, None, spent / count * 1e6, data.stat().st_size / count)


def _new_programs(folder: Path) -> str:
    """Files nobody has seen before, one after the other: what reading them takes."""
    binary = folder / "static"
    source = str(_PROGRAMS / "chain.c")
    subprocess.run(["gcc", "-O2", "-static", "-o", str(binary), source], check=True)
    data = binary.read_bytes()
    session = Session()
    try:
        session.run([str(binary), "0.5"])
        pages, seconds, files = _counts(session)
        began = time.monotonic()
        for number in range(_NEW):
            copy = folder / f"new{number}"
            copy.write_bytes(data)
            copy.chmod(0o755)
            session.run([str(copy), "0.1"])
            copy.unlink()
        wall = time.monotonic() - began
        more_pages, more_seconds, more_files = _counts(session)
    finally:
        session.close()
    files, pages, spent = more_files - files, more_pages - pages, more_seconds - seconds
    return (
        f"{files} files and {pages} pages in {wall:.1f} s take {spent * 1e3:.0f} ms of CPU time, "
        f"{spent / max(files, 1) * 1e3:.1f} ms per file, "
        f"{spent / max(pages, 1) * 1e6:.0f} us per page, {spent / wall:.1%} of one CPU"
    )


def _counts(session: Session) -> tuple[int, float, int]:
    counts = session.unwinder.counts
    return counts.pages, counts.seconds, session.unwinder.files


def _middle(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{median(known):.0f}" if known else "-"


def run(rounds: int) -> str:
    lines = [
        "### Unwinding: CPU time per sample and whole stacks",
        "",
        "| program | by | samples | whole | us in the kernel | us in user space | bytes kept |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    kinds = ("dwarf", "fp") if shutil.which("perf") else ()
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        for title, command in _programs(folder).items():
            ways = {"huatuo": [_ours(command) for _ in range(rounds)]}
            for kind in kinds:
                ways[f"perf, {kind}"] = [_perf(command, kind, folder) for _ in range(rounds)]
            for way, found in ways.items():
                whole = median(each.complete for each in found)
                lines.append(
                    f"| {title} | {way} | {sum(each.samples for each in found)} | {whole:.1%} "
                    f"| {_middle(each.kernel for each in found)} "
                    f"| {_middle(each.user for each in found)} "
                    f"| {_middle(each.bytes for each in found)} |"
                )
        lines += ["", f"New programs: {_new_programs(folder)}."]
    return "\n".join(lines)
