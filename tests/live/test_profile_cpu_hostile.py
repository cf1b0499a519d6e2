"""CPU samples of processes that make it hard: what they are called, mapped, and how long they live.

And of a machine whose CPUs come and go.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from huatuo.kernel.features import unwinding_unavailable
from huatuo.probes.profile.cpu import Cpu
from huatuo.profilers.native.requests import Budget
from tests.live.conftest import emulated, need
from tests.live.profiling import Sample, compiled, named, profiled
from tests.live.test_profile_cpu import WARM_UP, OldCpu

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

SECONDS = "12" if emulated() else "1"
RATE = 99 if emulated() else 499
CHAIN = ["burn", "deep", "crowd", "main"]


def chains(samples: list[Sample], program: Path, count: int = 50) -> Counter[tuple[str, ...]]:
    """From the program's first function on; of samples in it."""
    found = Counter[tuple[str, ...]]()
    for sample in samples:
        names = named(sample.user, program)
        if "burn" in names and "main" in names:
            found[tuple(names[names.index("burn") : names.index("main") + 1])] += 1
    need(found.total() >= count, f"only {found.total()} samples: the machine is busy")
    return found


@pytest.mark.parametrize("cls", [Cpu, OldCpu], ids=["rows", "frame pointers"])
def test_ten_thousand_mappings(cls: type[Cpu], tmp_path: Path) -> None:
    """Deep trees in the kernel, long files in /proc: the chain is the same, and nobody waits."""
    need(cls is OldCpu or not unwinding_unavailable(), unwinding_unavailable())
    program = compiled(tmp_path, "crowded.c", "-O2", "-fno-omit-frame-pointer")
    with profiled(cls, samples_per_second=RATE) as session:
        for seconds in (str(WARM_UP), SECONDS):
            with subprocess.Popen([program, seconds], stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == b"mapped\n"
                count = len(Path(f"/proc/{process.pid}/maps").read_text().splitlines())
        samples = session.samples(process.pid)
        spent = session.unwinder.counts.seconds
    assert count > 10_000
    found = chains(samples, program)
    assert found[tuple(CHAIN)] > 0.97 * found.total(), found
    print(f"{count} mappings, {found.total()} samples, serving took {spent:.2f} s")


def sleeping_copy(how: str, program: Path, tmp_path: Path) -> subprocess.Popen[bytes]:
    """The program, running from a file that nothing leads to any more."""
    if how == "memory":
        fd = os.memfd_create("hidden")
        os.write(fd, program.read_bytes())
        os.set_inheritable(fd, True)
        name = f"/proc/self/fd/{fd}"
        process = subprocess.Popen([name, SECONDS, "0"], stdout=subprocess.PIPE, pass_fds=[fd])
        os.close(fd)
    else:
        name = str(tmp_path / "gone")
        Path(name).write_bytes(program.read_bytes())
        Path(name).chmod(0o755)
        process = subprocess.Popen([name, SECONDS, "0"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"mapped\n"
    (tmp_path / "gone").unlink(missing_ok=True)
    return process


@pytest.mark.parametrize("how", ["memory", "deleted"])
def test_files_that_nothing_leads_to(how: str, tmp_path: Path) -> None:
    need(not unwinding_unavailable(), unwinding_unavailable())
    program = compiled(tmp_path, "crowded.c", "-O2", "-fomit-frame-pointer")
    with profiled(Cpu, samples_per_second=RATE) as session:
        with sleeping_copy(how, program, tmp_path) as process:
            process.wait(60)
        samples = session.samples(process.pid)
        names = {frame.file for sample in samples for frame in sample.user}
    settled = samples[len(samples) // 2 :]
    complete = sum(sample.status == "complete" for sample in settled)
    assert complete > 0.97 * len(settled), Counter(sample.status for sample in settled)
    (own,) = [name for name in names if name.startswith(("gone", "memfd:hidden"))]
    twin = program.with_name(own.removesuffix("gone") or "gone")
    twin.write_bytes(program.read_bytes())
    found = chains(settled, twin)
    assert found[tuple(CHAIN)] > 0.97 * found.total(), found


def test_processes_that_are_gone_before_they_are_looked_at(tmp_path: Path) -> None:
    """A thousand that live some milliseconds, each a file of its own; then all is as before."""
    need(not unwinding_unavailable(), unwinding_unavailable())
    program = compiled(tmp_path, "crowded.c", "-O2", "-static")
    data = program.read_bytes()
    with profiled(Cpu, samples_per_second=RATE) as session:
        for i in range(30 if emulated() else 200):
            copy = tmp_path / f"copy{i}"
            copy.write_bytes(data)
            copy.chmod(0o755)
            subprocess.run([copy, "0.003", "0"], stdout=subprocess.DEVNULL, check=True)
            copy.unlink()
        known = session.unwinder.files
        with subprocess.Popen([program, SECONDS, "0"], stdout=subprocess.DEVNULL) as process:
            process.wait(60)
        samples = session.samples(process.pid)
        lost = session.unwinder.lost()
        problems = [each.problem for each in session.unwinder.binaries._known.values()]
    print(f"{known} files met, lost {lost}, {sum(map(bool, problems))} could not be read")
    found = chains(samples[len(samples) // 2 :], program)
    assert found[tuple(CHAIN)] > 0.97 * found.total(), found
    assert lost["files"] == 0


def test_cpus_that_come_and_go(tmp_path: Path) -> None:
    """The clock of a CPU that was away runs again once it is back."""
    need(os.environ.get("HUATUO_DISPOSABLE_HOST"), "CPUs are taken away only on disposable hosts")
    switch = Path("/sys/devices/system/cpu/cpu1/online")
    need(switch.exists(), "there is no CPU that can be taken away")
    program = compiled(tmp_path, "crowded.c", "-O2", "-fno-omit-frame-pointer")

    def burnt() -> Counter[int]:
        """Samples by CPU, of a process that wants to be on CPU 1."""
        command = ["taskset", "-c", "1", str(program), SECONDS, "0"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            process.wait(120)
        return Counter(int(sample.row["cpu"]) for sample in session.samples(process.pid))

    with profiled(Cpu, samples_per_second=RATE) as session:
        before = burnt()
        switch.write_text("0")
        try:
            list(session.probe.collect())
            time.sleep(0.5)
            alone = len(session.samples())
        finally:
            switch.write_text("1")
        list(session.probe.collect())
        after = burnt()
    assert alone > 0
    print(f"before {before}, after {after}")
    assert after[1] > 0.5 * before[1] > 20  # (a process begins where its parent is)


def test_serving_keeps_to_its_budget(tmp_path: Path) -> None:
    """However much code is new: what is not served now waits, and is served later."""
    need(not unwinding_unavailable(), unwinding_unavailable())
    need(not emulated(), "one page may cost more than the budget of this test")
    program = compiled(tmp_path, "crowded.c", "-O2", "-fomit-frame-pointer")
    with profiled(Cpu, samples_per_second=1999) as session:
        unwinder = session.unwinder
        unwinder.budget, before, began = Budget(0.02, 0.01), unwinder.counts.seconds, time.time()
        for _ in range(3):
            subprocess.run([sys.executable, "-c", "import ssl, sqlite3, json, email"], check=True)
        spent, wall = unwinder.counts.seconds - before, time.time() - began
        waiting = len(unwinder._requests)
        print(f"{spent * 1e3:.0f} ms in {wall:.1f} s, {waiting} pages wait")
        assert waiting > 20
        assert spent < 0.02 + 0.01 * wall + 0.05, "a slice, and files that are opened"
        unwinder.budget = Budget(math.inf, 1.0)
        for seconds in (str(WARM_UP), SECONDS):
            with subprocess.Popen([program, seconds, "0"], stdout=subprocess.DEVNULL) as process:
                process.wait(60)
        samples = session.samples(process.pid)
    found = chains(samples, program)
    assert found[tuple(CHAIN)] > 0.97 * found.total(), found
