"""What live tests share: whether BPF works here, a probe that runs, a cgroup of one's own.

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

with cgroup("name") as group, running(Oom, slow_threshold=10**7) as probe:
    group.run(["stress", …])
    assert metric(probe, "huatuo_…").values …
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pytest

from huatuo.errors import KernelLacks
from huatuo.kernel.cgroupfs import hierarchies
from huatuo.kernel.features import bpf_unavailable
from huatuo.kernel.host import Host
from huatuo.model.metric import Metric
from huatuo.probes.base import Probe

__all__ = ["Group", "cgroup", "disturbed", "emulated", "events", "metric", "need", "row", "running"]

HOST = Host()
AnyProbe = TypeVar("AnyProbe", bound=Probe)


def need(condition: object, reason: str) -> None:
    """Skip the test with the reason unless the condition holds."""
    if not condition:
        pytest.skip(reason)


@cache
def emulated() -> bool:
    """Whether the CPU is emulated, as in the matrix: counts are exact, times are longer."""
    return "TCG" in HOST.read(HOST.proc / "cpuinfo")


def disturbed() -> bool:
    """Whether emulation, or others who want the CPUs just now, add to the times that are measured.

    Counts are exact all the same, and a time is never shorter than what was injected.
    """
    if emulated():
        return True
    try:
        some = HOST.read(HOST.proc / "pressure/cpu").split()  # some avg10=0.22 …
    except OSError:
        return False
    return float(some[1].removeprefix("avg10=")) > 5


@pytest.fixture(scope="session")
def need_bpf() -> None:
    """Skip where no BPF program can be loaded, with the reason that `huatuo probes` gives."""
    if missing := bpf_unavailable(HOST):
        pytest.skip(missing)


@contextmanager
def running(probe_class: type[AnyProbe], host: Host = HOST, **settings: int) -> Iterator[AnyProbe]:
    """The started probe; the test is skipped where this kernel cannot run it."""
    module = probe_class.__module__
    if module.startswith("huatuo.probes."):  # what discover() does for all of them
        probe_class.name = module.removeprefix("huatuo.probes.")
    if missing := probe_class.unavailable(host):
        pytest.skip(missing)
    probe = probe_class(host, settings)
    try:
        probe.start()
    except KernelLacks as error:
        if "no hook works on this kernel" not in str(error):
            raise  # a program that should load and does not
        pytest.skip(str(error))
    try:
        yield probe
    finally:
        probe.stop()


def metric(probe: Probe, name: str) -> Metric:
    """The probe's metric family of that full name, as it is now."""
    found = {m.name: m for m in probe.collect()}
    assert name in found, f"{name} is not among {sorted(found)}"
    return found[name]


def row(found: Metric, **labels: object) -> npt.NDArray[np.int64]:
    """Indices of a family's samples that have these label values; may be none or several."""
    match = np.ones(len(found), bool)
    for label, wanted in labels.items():
        match &= np.asarray(found.labels[label].values) == wanted
    return np.flatnonzero(match)


def events(probe: Probe, ring: str, seconds: float = 0.0) -> npt.NDArray[np.void]:
    """Records of one ring that are there now, or come within `seconds`; others are dropped."""
    schema = type(probe).event_schemas()[ring]
    batches = [np.empty(0, schema.dtype)]
    end = time.monotonic() + seconds
    while True:
        batches += [batch.rows for batch in probe.drain() if batch.ring == ring]
        if time.monotonic() >= end:
            return np.concatenate(batches)
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Group:
    """A cgroup made for one test: `id` is what the kernel's records hold."""

    directory: Path

    @property
    def id(self) -> int:
        return self.directory.stat().st_ino

    def start(self, argv: Sequence[str], stdin: bool = False) -> subprocess.Popen[str]:
        """Run a command in it from its first instruction on, without waiting for it."""
        enter = f'echo $$ > {self.directory}/cgroup.procs && exec "$@"'
        return subprocess.Popen(
            ["sh", "-c", enter, "sh", *argv],
            stdin=subprocess.PIPE if stdin else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, argv: Sequence[str], timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command in it to its end; its exit status is the caller's business."""
        with self.start(argv) as process:
            output, _ = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(argv, process.returncode, output)

    def write(self, file: str, value: object) -> None:
        """One of its control files; skips the test where the controller is not there."""
        path = self.directory / file
        need(path.exists(), f"{path}: this cgroup hierarchy has no such file")
        path.write_text(str(value))


@contextmanager
def cgroup(name: str, controller: str = "memory") -> Iterator[Group]:
    """A fresh cgroup below the root of the hierarchy that has the controller's files.

    "memory" is the hierarchy of cgroup ids; "blkio" that of block requests. On a v2 host they are
    one, and its controllers are switched on for children of the root where they are not.
    """
    root = hierarchies(HOST).controller(controller)
    if root is None or not os.access(root, os.W_OK):
        pytest.skip(f"no writable cgroup hierarchy with {controller}")
    if root == hierarchies(HOST).v2:
        for each in ("memory", "io", "cpu", "pids"):
            with suppress(OSError):
                (root / "cgroup.subtree_control").write_text(f"+{each}")
    directory = root / f"huatuo-{name}-{os.getpid()}"
    directory.mkdir()
    try:
        yield Group(directory)
    finally:
        _remove(directory)


def _remove(directory: Path) -> None:
    for _ in range(50):
        try:
            directory.rmdir()
            return
        except FileNotFoundError:
            return  # the test removed it
        except OSError:
            for pid in (directory / "cgroup.procs").read_text().split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.05)
    raise TimeoutError(f"{directory} cannot be removed: a process in it does not die")
