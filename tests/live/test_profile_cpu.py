"""CPU samples of programs whose call chains and shares are known.

The chains must be exact, and complete from the innermost function to the start of the thread; the
shares must be within what a sample of that size allows.
"""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from huatuo.probes.profile.cpu import Cpu
from tests.live.conftest import disturbed, emulated, need
from tests.live.profiling import Sample, named, profiled

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

SOURCE = Path(__file__).parent / "programs/chain.c"
SECONDS = 1.2
RATE = 499
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


@pytest.mark.parametrize("name", BUILDS)
def test_chains_are_exact_and_shares_are_right(name: str, tmp_path: Path) -> None:
    program, twin = build(tmp_path, BUILDS[name])
    with profiled(Cpu, samples_per_second=RATE) as session:
        with subprocess.Popen([program, str(SECONDS)]) as process:
            process.wait(60)
        samples = session.samples(process.pid)
    settled = samples[len(samples) // 4 :]  # the rows of its code are there by then
    need(len(settled) > 200, f"only {len(settled)} samples: the machine is busy")
    complete = sum(s.status == "complete" for s in settled) / len(settled)
    statuses = Counter(s.status for s in settled)
    print(f"{name}: {len(samples)} samples, {complete:.2%} complete {dict(statuses)}")
    assert complete >= 0.99, statuses
    counts: Counter[str] = Counter()
    for sample in settled:
        leaf, chain = chain_of(sample, twin)
        if leaf and sample.status == "complete":
            counts[leaf] += 1
            assert matches(chain, CHAINS[leaf]), chain
    total = sum(counts.values())
    assert total > 0.95 * len(settled)
    for leaf, share in WANTED.items():
        margin = 4 * (share * (1 - share) / total) ** 0.5 + 0.01
        assert counts[leaf] / total == pytest.approx(share, abs=margin), counts


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
