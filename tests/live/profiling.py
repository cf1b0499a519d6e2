"""What tests of profilers share: a profiler that runs, and its samples with named frames.

    with profiled(Cpu, samples_per_second=499) as session:
        run(program)
        for sample in session.samples(pid): …

Names come from nm, which knows nothing of us.
"""

from __future__ import annotations

import bisect
import math
import select
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from huatuo.errors import KernelLacks
from huatuo.model.profile import StackStatus
from huatuo.probes.profiler import Profiler
from huatuo.profilers.native.requests import Budget
from huatuo.profilers.native.unwinder import Unwinder
from tests.live.conftest import HOST, emulated, need

__all__ = ["Frame", "Sample", "Session", "compiled", "functions", "named", "profiled"]

STATUS = [str(status) for status in StackStatus]
NOWHERE, FILE_SHIFT = 1 << 63, 40
PROGRAMS = Path(__file__).parent / "programs"


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of user space: address as linked in a file, or in memory where `file` is ""."""

    file: str
    path: str
    address: int


@dataclass(frozen=True, slots=True)
class Sample:
    row: Any  # struct sample
    status: str
    kernel: tuple[int, ...]
    user: tuple[Frame, ...]


@dataclass(slots=True)
class Session:
    """Serves the unwinder in a thread, as the agent does in its loop."""

    probe: Profiler
    unwinder: Unwinder
    _rows: list[Any] = field(default_factory=list)
    _stacks: dict[int, Any] = field(default_factory=dict)
    _end: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        pause: float | None = None
        while not self._end.is_set():
            waiting = [*self.unwinder.urgent_fds, *self.probe.ring_fds()]
            select.select(waiting, [], [], 0.05 if pause is None else min(pause, 0.05))
            pause = self.unwinder.serve()
            self._take()

    def _take(self) -> None:
        rows = [row for batch in self.probe.drain() for row in batch.rows]
        for stack in self.unwinder.stacks():
            self._stacks[int(stack["id"])] = stack
        self._rows.extend(rows)  # whoever looks meanwhile finds a stack for each

    def end(self) -> None:
        """Take what is there, then no more."""
        if self._thread.is_alive():
            time.sleep(0.2)
            self._end.set()
            self._thread.join()

    def samples(self, pid: int = 0) -> list[Sample]:
        """What was sampled so far, of one process if given."""
        time.sleep(0.2)
        return [self.sample(row) for row in list(self._rows) if pid in (0, int(row["tgid"]))]

    def sample(self, row: Any) -> Sample:
        """A row of struct sample with its stack."""
        stack = self._stacks[int(row["stack"])]
        return Sample(
            row,
            STATUS[int(stack["status"])],
            tuple(stack["kernel"][: stack["kernel_count"]].tolist()),
            tuple(self._frame(f) for f in stack["user"][: stack["user_count"]].tolist()),
        )

    def _frame(self, frame: int) -> Frame:
        if frame & NOWHERE:
            return Frame("", "", frame & ~NOWHERE)
        binary = self.unwinder.binaries.get(frame >> FILE_SHIFT)
        address = binary.address_of(frame & ((1 << FILE_SHIFT) - 1))
        return Frame(binary.name, binary.path, address)


@contextmanager
def profiled(cls: type[Profiler], **settings: int) -> Iterator[Session]:
    """A started profiler; the test is skipped where this kernel cannot run it."""
    cls.name = cls.__module__.removeprefix("huatuo.probes.")
    if missing := cls.unavailable(HOST):
        pytest.skip(missing)
    with Unwinder(HOST) as unwinder:
        if emulated():  # what takes a page 0.3 ms elsewhere takes 30 ms
            unwinder.budget = Budget(math.inf, 1.0)
        probe = cls(HOST, settings)
        probe.unwinder = unwinder
        try:
            probe.start()
        except KernelLacks as error:
            if "no hook works on this kernel" not in str(error):
                raise
            pytest.skip(str(error))
        session = Session(probe, unwinder)
        try:
            yield session
        finally:
            session.end()
            probe.stop()


def compiled(tmp_path: Path, source: str, *flags: str, compiler: str = "gcc") -> Path:
    """A program of tests/live/programs; skips where it cannot be built."""
    need(shutil.which(compiler), f"{compiler} is not installed")
    target = tmp_path / Path(source).stem
    command = [compiler, *flags, str(PROGRAMS / source), "-o", str(target), "-pthread"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    need(done.returncode == 0, f"{' '.join(command[:-4])}: {done.stderr.strip()[-200:]}")
    return target


@cache
def functions(path: Path) -> tuple[list[int], list[str]]:
    """(starts, names) of a binary's functions, by nm."""
    output = subprocess.run(
        ["nm", "--defined-only", str(path)], check=True, capture_output=True, text=True
    ).stdout
    rows = sorted(
        (int(line.split()[0], 16), line.split()[2])
        for line in output.splitlines()
        if line.split()[1] in "tTwWi"
    )
    return [address for address, _ in rows], [name for _, name in rows]


def named(frames: Sequence[Frame], path: Path) -> list[str]:
    """Names of the frames in `path`, whose symbols may be in a twin; others by their file."""
    starts, names = functions(path)
    found = []
    for frame in frames:
        at = bisect.bisect_right(starts, frame.address) - 1
        found.append(
            names[at].split(".")[0] if frame.file.startswith(path.stem) and at >= 0 else frame.file
        )
    return found


def shares(values: dict[str, float]) -> dict[str, float]:
    total = sum(values.values())
    return {name: value / total for name, value in values.items()} if total else {}
