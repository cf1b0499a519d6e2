"""CPU samples of Go programs: whole over the runtime's own stack switches, and in and out of C.

The other sources: the chains that the program prints of itself (runtime.Callers), the profile that
Go's runtime takes of the same run, and the source, which says what calls what how often. Names are
those of addr2line and nm.
"""

from __future__ import annotations

import subprocess
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pytest

from huatuo.kernel.features import unwinding_unavailable
from huatuo.probes.profile.cpu import Cpu
from tests.enrich.symbols.toolchain import GO_CACHE, GO_TOOLS, addr2line, compile_go
from tests.live.conftest import disturbed, emulated, need
from tests.live.profiling import PROGRAMS, Frame, Sample, functions, profiled

pytestmark = [
    pytest.mark.live,
    pytest.mark.usefixtures("need_bpf"),
    pytest.mark.skipif(not GO_TOOLS, reason="go is not installed"),
]

SECONDS = 12 if emulated() else 3
RATE = 97 if emulated() else 397
ENOUGH = 150
COMPLETE = 0.95 if emulated() else 0.995
STRIPPED = "-ldflags=-s -w"
KINDS = {
    "plain": ([], False),
    "pie": (["-buildmode=pie"], False),
    "stripped": ([STRIPPED], False),
    "system linker": (["-buildmode=pie", "-ldflags=-linkmode=external"], True),
}
TURNS = {"main.spinA": 6, "main.spinB": 3, "main.byLeaf.Less": 1, "main.recovering.func1": 1}
# what goes over to the thread's own stack most often, by the source
SOURCE = {("main.allocating", "main.turn", "main.worker"), ("main.grow", "main.growing.func1")}
SWITCHES = {"runtime.systemstack", "runtime.morestack"}
# of goroutines, threads and the program, and what never returns to the goroutine that called it
BEGINS = {"runtime.goexit", "runtime.mstart", "runtime.rt0_go", "_rt0_amd64_linux", "_start"}
BEGINS |= {"runtime.mcall", "runtime.morestack"}
# made by the compiler; the runtime does not show them
WRAPPERS = {"main.main.func1", "main.main.func2", "main.(*byLeaf).Less"}
# asmcgocall before Go 1.21 has no frame of its own, so that its caller is not found; and a name
# that only the runtime's record has
LEFT_OUT = {"runtime.cgocall", "runtime.systemstack_switch", "runtime.asmcgocall"}
Chain = tuple[str, ...]


def build(source: str, tmp_path: Path, options: list[str], cgo: bool) -> tuple[Path, Path]:
    """(program, its unstripped twin)."""
    need(not unwinding_unavailable(), unwinding_unavailable())
    need(not emulated() or (GO_CACHE and not cgo), "too much for an emulated CPU")
    program = twin = tmp_path / "program"
    kept = [option for option in options if option != STRIPPED]
    try:
        compile_go(GO_TOOLS[0], PROGRAMS / source, program, *options, cgo=cgo)
        if kept != options:
            twin = tmp_path / "program.twin"
            compile_go(GO_TOOLS[0], PROGRAMS / source, twin, *kept, cgo=cgo)
    except subprocess.CalledProcessError as error:
        if not cgo:
            raise
        pytest.skip(f"this Go does not work with the system's linker: {error.stderr[-200:]}")
    return program, twin


def ran(program: Path, *arguments: str) -> tuple[list[Sample], list[Chain]]:
    """(samples of its second run, when its rows are there, chains that it printed)."""
    command = [str(program), str(SECONDS), *arguments]
    with profiled(Cpu, samples_per_second=RATE) as session:
        for _ in range(2):
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                told, _ = process.communicate(timeout=120)
        samples = session.samples(process.pid)
    need(len(samples) > ENOUGH, f"only {len(samples)} samples: the machine is busy")
    return samples, [tuple(line.split()) for line in told.splitlines()]


def expanded(samples: Sequence[Sample], twin: Path) -> list[Chain]:
    """Names of each sample's functions, inlined ones too; of other files' their name."""
    own = sorted({f.address for s in samples for f in s.user if is_own(f)})
    lines = dict(zip(own, addr2line(twin, own), strict=True))
    starts, names = functions(twin)

    def of(frame: Frame) -> list[str]:
        if not is_own(frame):
            return [frame.file]
        inlined = [name for name, _, _ in lines[frame.address] if name]
        found = inlined or [names[bisect_right(starts, frame.address) - 1]]
        return [name.removesuffix(".abi0") for name in found]

    chains = [[name for frame in sample.user for name in of(frame)] for sample in samples]
    return [tuple(name for name in chain if name not in WRAPPERS) for chain in chains]


def is_own(frame: Frame) -> bool:
    return frame.file == "program"


def check_complete(samples: Sequence[Sample], chains: Sequence[Chain]) -> None:
    statuses = Counter(sample.status for sample in samples)
    print(f"{len(samples)} samples {dict(statuses)}, from {Counter(c[-1:] for c in chains)}")
    late = statuses["no_rows"] if disturbed() else 0  # of code that ran for the first time
    assert late <= 0.05 * len(samples)
    assert statuses["complete"] + late >= COMPLETE * len(samples)


def pprof_chains(program: Path, profile: Path) -> list[Chain]:
    """Stacks of Go's own profile, by Go's own reader."""
    command = [GO_TOOLS[0], "tool", "pprof", "-traces", str(program), str(profile)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = []
    for block in said.split("-----------+")[1:]:
        lines = [line.removesuffix(" (inline)").split() for line in block.splitlines()[1:]]
        found.append(tuple(words[-1] for words in lines if words))
    return [chain for chain in found if chain]


def callers(chain: Chain) -> Chain:
    """Without the runtime, some of whose functions it does not show; recursion as one call."""
    return tuple(n for n, _ in groupby(n for n in chain if not n.startswith("runtime.")))


@pytest.mark.parametrize("kind", KINDS)
def test_chains_are_those_that_the_runtime_sees(kind: str, tmp_path: Path) -> None:
    need(not emulated() or kind == "plain", "the same as elsewhere")
    program, twin = build("chain.go", tmp_path, *KINDS[kind])
    samples, said = ran(program, str(tmp_path / "profile"))
    told = [callers(chain) for chain in said]
    chains = expanded(samples, twin)
    check_complete(samples, chains)
    whole = [c for c, s in zip(chains, samples, strict=True) if s.status == "complete" and c]
    begins = Counter(chain[-1] for chain in whole)
    assert begins["runtime.goexit"] > (0.7 if emulated() else 0.9) * len(whole)
    assert {name for name in begins if ".so" not in name} <= BEGINS
    burnt = Counter[str]()
    for chain in whole:
        if chain[:1] == ("main.leaf",):
            burnt[chain[1]] += 1
            assert callers(chain)[1:] in told
    assert set(burnt) == set(TURNS)
    total = sum(burnt.values())
    for name, turns in TURNS.items():
        share = turns / sum(TURNS.values())
        margin = 4 * (share * (1 - share) / total) ** 0.5 + (0.1 if emulated() else 0.02)
        assert burnt[name] / total == pytest.approx(share, abs=margin), burnt
    check_switches(whole, pprof_chains(twin, tmp_path / "profile"))


def check_switches(chains: Sequence[Chain], said: Sequence[Chain]) -> None:
    """What ran on the thread's own stack for a goroutine has that goroutine's callers."""
    left = [
        chain for chain in chains if SWITCHES & set(chain) and chain[-1:] == ("runtime.goexit",)
    ]
    found = Counter(callers(chain) for chain in left)
    print("over a switch:", found.most_common(8))
    assert set(found) >= SOURCE
    grown = [chain for chain in left if "runtime.newstack" in chain and "main.grow" in chain]
    assert grown
    assert {callers(chain)[-2:] for chain in grown} == {("main.grow", "main.growing.func1")}
    known = {callers(chain) for chain in said} | SOURCE
    strange = {outer for outer, count in found.items() if count >= 10} - known - {()}
    assert not strange, "the runtime has never seen that"
    asked = [chain for chain in chains if chain[:1] == ("[vdso]",) and "time.Now" in chain]
    assert {chain[-1] for chain in asked} <= {"runtime.goexit"}
    assert emulated() or any("main.asking" in chain for chain in asked), "the vdso reads the clock"


def test_into_c_and_back_into_go(tmp_path: Path) -> None:
    """Both ways each stack is whole: Go's part as Go says it, C's as the source does."""
    program, twin = build("cgo.go", tmp_path, [], True)
    samples, (told,) = ran(program)
    chains = expanded(samples, twin)
    check_complete(samples, chains)
    into = [chain for chain in chains if chain[:1] == ("c_leaf",)]
    back = [chain for chain in chains if chain[:2] == ("main.leaf", "main.goSpin")]
    assert len(into) + len(back) > 0.9 * len(samples)
    assert len(back) / len(into) == pytest.approx(2, rel=0.25)
    for chain in into:
        assert chain[:3] == ("c_leaf", "c_spin", "runtime.asmcgocall")
        assert chain[-3:] == ("main.main", "runtime.main", "runtime.goexit")
        assert "main.intoC" in chain
    for chain in back:
        c = [name for name in chain if "." not in name and not name.startswith("_cgoexp")]
        assert c == ["crosscall2", "goSpin", "c_call_back"]
        assert go_part(chain[1:], c) == go_part(told, c)


def go_part(chain: Chain, c: Sequence[str]) -> list[str]:
    """Without what is of C; inlined recursion as one call."""
    return [name for name, _ in groupby(n for n in chain if n not in LEFT_OUT and n not in c)]
