"""CPU samples of programs whose call chains and shares are known.

The chains must be exact, and complete from the innermost function to the start of the thread; the
shares must be within what a sample of that size allows.
"""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from huatuo.kernel.features import unwinding_unavailable
from huatuo.kernel.forms import Program
from huatuo.kernel.object import BpfObject
from huatuo.probes.profile.cpu import Cpu
from tests.live.conftest import disturbed, emulated, need
from tests.live.profiling import Sample, named, profiled

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

SOURCE = Path(__file__).parent / "programs/chain.c"
SECONDS = 4 if emulated() else 1.2
WARM_UP = 12 if emulated() else 0.6
RATE = 99 if emulated() else 499
CHAINS = {
    "spin_a": ["spin_a", "deeper", "deep", "turn", "main"],
    "spin_b": ["spin_b", "turn", "main"],
    "compare": ["compare", "*", "sort", "turn", "main"],
}
WANTED = {"spin_a": 0.6, "spin_b": 0.3, "compare": 0.1}
BUILDS = {
    "gcc -O0": ["gcc", "-O0"],
    "gcc -O1": ["gcc", "-O1", "-fomit-frame-pointer"],
    "gcc -O2": ["gcc", "-O2", "-fomit-frame-pointer"],
    "gcc -O3": ["gcc", "-O3", "-fomit-frame-pointer"],
    "gcc with frame pointers": ["gcc", "-O2", "-fno-omit-frame-pointer"],
    "gcc no-pie": ["gcc", "-O2", "-no-pie", "-fomit-frame-pointer"],
    "gcc static": ["gcc", "-O2", "-static", "-fomit-frame-pointer"],
    "gcc static-pie": ["gcc", "-O2", "-static-pie", "-fomit-frame-pointer"],
    "gcc lto": ["gcc", "-O2", "-flto", "-fomit-frame-pointer"],
    "gcc stripped": ["gcc", "-O2", "-fomit-frame-pointer", "-s"],
    "gcc without unwind tables": [
        *("gcc", "-O1", "-fno-omit-frame-pointer", "-fno-asynchronous-unwind-tables"),
        "-fno-unwind-tables",
    ],
    "clang -O2": ["clang", "-O2", "-fomit-frame-pointer"],
    "clang -O3 lld": ["clang", "-O3", "-fomit-frame-pointer", "-fuse-ld=lld"],
}

EMULATED = ("gcc -O2", "gcc static-pie", "gcc with frame pointers")


class OldKernel(BpfObject):
    """As on a kernel where rows cannot be looked up."""

    def _list_programs(self) -> list[Program]:
        found = super()._list_programs()
        for program in found:
            if program.form == "unwind_rows":
                program.missing = "refused"
        return found


class OldCpu(Cpu):
    @classmethod
    def object_path(cls) -> Path:
        return Cpu.object_path()

    def _open(self, tunables: Mapping[str, int]) -> BpfObject:
        assert self.unwinder is not None
        return OldKernel(self.object_path(), tunables, shared=self.unwinder.shared)


def build(tmp_path: Path, command: list[str]) -> tuple[Path, Path]:
    """(program, its unstripped twin)."""
    need(shutil.which(command[0]), f"{command[0]} is not installed")
    program, twin = tmp_path / "chain", tmp_path / "chain.twin"
    for flags, target in ((command, program), ([f for f in command if f != "-s"], twin)):
        done = subprocess.run(
            [*flags, str(SOURCE), "-o", str(target)], capture_output=True, text=True, check=False
        )
        need(done.returncode == 0, f"{' '.join(flags)}: {done.stderr.strip()[-200:]}")
    return program, twin


def chain_of(sample: Sample, twin: Path) -> tuple[str, list[str]]:
    """(which of the three, its functions from there to main); ("", …) outside of them."""
    names = named(sample.user, twin)
    for leaf in CHAINS:
        if leaf in names:
            names = names[names.index(leaf) :]
            return leaf, names[: names.index("main") + 1] if "main" in names else names
    return "", names


def matches(names: list[str], pattern: list[str]) -> bool:
    """`*` stands for any number of functions of libc, one at least."""
    if "*" not in pattern:
        return names == pattern
    at = pattern.index("*")
    head, tail = pattern[:at], pattern[at + 1 :]
    return names[:at] == head and names[-len(tail) :] == tail and len(names) > len(pattern) - 1


def burnt(program: Path, cls: type[Cpu] = Cpu) -> tuple[list[Sample], list[str]]:
    """(samples of its second run, when its rows are there and it has begun, the probe's notes)."""
    with profiled(cls, samples_per_second=RATE) as session:
        for seconds in (WARM_UP, SECONDS):
            with subprocess.Popen([program, str(seconds)]) as process:
                process.wait(60)
        samples = session.samples(process.pid)
        notes = session.probe.notes
    need(len(samples) > 0.4 * RATE * SECONDS, f"only {len(samples)} samples: the machine is busy")
    return samples[len(samples) // 4 :], notes


@pytest.mark.parametrize("name", BUILDS)
def test_chains_are_exact_and_shares_are_right(name: str, tmp_path: Path) -> None:
    need(not unwinding_unavailable(), unwinding_unavailable())
    need(not emulated() or name in EMULATED, "too much for an emulated CPU")
    program, twin = build(tmp_path, BUILDS[name])
    settled, _ = burnt(program)
    complete = sum(s.status == "complete" for s in settled) / len(settled)
    statuses = Counter(s.status for s in settled)
    print(f"{name}: {len(settled)} samples, {complete:.2%} complete {dict(statuses)}")
    assert complete >= (0.9 if emulated() else 0.99), statuses
    counts: Counter[str] = Counter()
    for sample in settled:
        leaf, chain = chain_of(sample, twin)
        if leaf and sample.status == "complete":
            counts[leaf] += 1
            assert matches(chain, CHAINS[leaf]), chain
    total = sum(counts.values())
    assert total > 0.95 * len(settled)
    for leaf, share in WANTED.items():
        margin = 4 * (share * (1 - share) / total) ** 0.5 + (0.1 if emulated() else 0.01)
        assert counts[leaf] / total == pytest.approx(share, abs=margin), counts


def test_without_rows_frame_pointers_are_followed(tmp_path: Path) -> None:
    """Chains are exact where they are kept; nothing is called complete, and the probe says why."""
    program, twin = build(tmp_path, BUILDS["gcc with frame pointers"])
    settled, notes = burnt(program, OldCpu)
    assert [note for note in notes if "by frame pointers" in note]
    assert {sample.status for sample in settled if sample.user} == {"frame_pointers"}
    counts = Counter(leaf for leaf, chain in (chain_of(s, twin) for s in settled) if leaf)
    exact = [chain_of(s, twin)[1] for s in settled if chain_of(s, twin)[0] in ("spin_a", "spin_b")]
    assert sum(counts.values()) > 0.95 * len(settled)
    assert counts["spin_a"] / counts["spin_b"] == pytest.approx(2, rel=0.4)
    wrong = [chain for chain in exact if chain not in CHAINS.values()]
    assert len(wrong) < 0.02 * len(exact), wrong


def test_weights_add_up_to_the_cpu_time(tmp_path: Path) -> None:
    """Samples x period equal what the kernel says the process used."""
    program, _ = build(tmp_path, BUILDS["gcc -O2"])
    with profiled(Cpu, samples_per_second=RATE) as session:
        with subprocess.Popen([program, str(SECONDS)]) as process:
            process.wait(60)
        samples = session.samples(process.pid)
    used = sum(int(s.row["value"]) for s in samples) / 1e9
    tolerance = 0.5 if emulated() else 0.3 if disturbed() else 0.08
    assert used == pytest.approx(SECONDS, rel=tolerance)
