"""pprof files, read by Google's tool and written by Go's own profiler."""

from __future__ import annotations

import gzip
import os
import random
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given

from huatuo.errors import HuatuoError
from huatuo.export import pprof
from huatuo.export import pprof_messages as proto
from huatuo.export.compression import TooLarge, compressed, expanded
from huatuo.export.foreign import MOST_FRAMES
from huatuo.model.profile import (
    PROFILE_TYPES,
    FrameKind,
    Line,
    Location,
    Profile,
    Stack,
    StackStatus,
)
from tests.export.descriptors import PPROF, messages
from tests.export.profiles import INLINED, MAIN, NS, PYTHON, START, TOTAL, profile, stack_lists
from tests.serve.memory_profiles import Row, merged, rows_of

Stacks = Sequence[tuple[Stack, int]]

_T = messages("perftools.profiles", **PPROF)


def rows_in(data: bytes, **options: object) -> list[Row]:
    found = pprof.read(data, **options)  # type: ignore[arg-type]
    return [row for samples in found.samples for row in rows_of(samples)]


def contents(one: Profile) -> Counter[tuple[Location, ...]]:
    """Stack → value: what a tree holds, whatever the order of its nodes."""
    found: Counter[tuple[Location, ...]] = Counter()
    for node, value in enumerate(one.self_values.tolist()):
        stack = []
        while node > 0:
            stack.append(one.locations[one.location[node]])
            node = int(one.parent[node])
        if value:
            found[tuple(stack)] += value
    return found


# -- Google's tool ---------------------------------------------------------------------------------


def go_pprof(path: Path, *words: str) -> str:
    if shutil.which("go") is None:
        pytest.skip("go is not installed (Debian: golang-go)")
    call = ["go", "tool", "pprof", "-symbolize=none", *words, str(path)]
    return subprocess.run(call, capture_output=True, text=True, check=True).stdout


def test_googles_tool_reads_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "p.pb.gz").write_bytes(pprof.write(profile()))
    raw = go_pprof(tmp_path / "p.pb.gz", "-raw")
    head, rest = raw.split("Samples:\n")
    samples, rest = rest.split("Locations\n")
    locations, mappings = rest.split("Mappings\n")
    assert "PeriodType: cpu nanoseconds" in head
    assert "Duration: 10s" in head
    lines = samples.splitlines()
    assert lines[0] == "cpu/nanoseconds[dflt]"
    shown = {line.split(":")[1].strip(): int(line.split(":")[0]) for line in lines[1:]}
    assert shown == {"1 2": 5_000_000, "3 1 2": 3_000_000, "4 3 2": 2_000_000, "5 4 3 2": 1_000_000,
                     "6 6 2": 7_000_000, "7 6": 4_000_000}  # fmt: skip
    words = [re.sub(r" +", " ", line).strip() for line in locations.splitlines()]
    assert words[:4] == [
        "1: 0x1020 M=1 std::min<int>(int, int) algo.h:7 s=0",
        "work app.c:20 s=0",
        "2: 0x1010 M=1 main app.c:10 s=0",
        "3: 0x8612b M=2",
    ]
    assert "4: 0xffffffff81000010 M=3 do_syscall_64 :0 s=0" in words
    assert [line.split() for line in mappings.splitlines()] == [
        ["1:", "0x0/0x1021/0x0", "app", "aa01", "[FN][FL][LN][IN]"],
        ["2:", "0x0/0x8612c/0x0", "libc.so.6", "bb02"],
        ["3:", "0x0/0xffffffff81000011/0x0", "[vmlinux]", "[FN]"],
        ["4:", "0x0/0xffffffffc0000021/0x0", "[nf_tables]", "[FN]"],
        ["5:", "0x0/0x7f0000001235/0x0", "python3.11", "[FN][FL][LN]"],
        ["6:", "0x0/0x7fffaa001001/0x0", "[anon]"],
    ]


def test_googles_tool_adds_up_the_same(tmp_path: Path) -> None:
    (tmp_path / "p.pb.gz").write_bytes(pprof.write(profile()))
    top = go_pprof(tmp_path / "p.pb.gz", "-top", "-unit=ns")
    rows = [line.split(maxsplit=5) for line in top.split("cum%\n")[1].splitlines()]
    flat = {row[5]: int(row[0].removesuffix("ns")) for row in rows}
    cumulative = {row[5]: int(row[3].removesuffix("ns")) for row in rows}
    assert sum(flat.values()) == TOTAL
    assert flat["handle"] == 7_000_000
    assert flat["std::min<int>(int, int) (inline)"] == 5_000_000
    assert cumulative["main"] == TOTAL - 4_000_000
    assert cumulative["handle"] == 11_000_000  # recursion counts once


@pytest.mark.parametrize("name", PROFILE_TYPES)
def test_googles_tool_knows_every_type(name: str, tmp_path: Path) -> None:
    (tmp_path / "p.pb.gz").write_bytes(pprof.write(profile(name=name)))
    top = go_pprof(tmp_path / "p.pb.gz", "-top")
    assert f"Type: {PROFILE_TYPES[name].sample}" in top


def test_a_profile_of_gos_own(tmp_path: Path) -> None:
    """Burn a second of CPU time in a known function below another one; no build id, inlining on."""
    if shutil.which("go") is None:
        pytest.skip("go is not installed (Debian: golang-go)")
    (tmp_path / "main.go").write_text(_BURN)
    subprocess.run(
        ["go", "run", "main.go", "cpu.pb.gz"],
        cwd=tmp_path,
        env=os.environ | {"GOCACHE": str(Path(tempfile.gettempdir()) / "huatuo-tests-go")},
        check=True,
    )
    data = (tmp_path / "cpu.pb.gz").read_bytes()
    found = pprof.read(data)
    assert found.ignored == ["samples/count"]
    (samples,) = found.samples
    assert samples.type == "cpu"
    raw = go_pprof(tmp_path / "cpu.pb.gz", "-raw")
    values = [line.split()[1].rstrip(":") for line in raw.split("Samples:\n")[1].splitlines()[1:]
              if ":" in line and line.split()[0].isdigit()]  # fmt: skip
    assert int(samples.values.sum()) == sum(map(int, values)) > 0.5 * NS
    burning = sum(
        value
        for _, value, stack, _ in rows_of(samples)
        if "main.burn" in [line.function for one in stack.locations for line in one.lines]
    )
    assert burning > 0.8 * int(samples.values.sum())
    assert {label["who"] for _, value, _, label in rows_of(samples) if label} == {"tester"}


_BURN = """package main

import (
	"context"
	"os"
	"runtime/pprof"
	"syscall"
	"time"
)

func used() time.Duration {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano())
}

//go:noinline
func burn(enough time.Duration) (x int) {
	for start := used(); used()-start < enough; {
		for i := 0; i < 1000000; i++ {
			x += i * i
		}
	}
	return
}

func main() {
	file, _ := os.Create(os.Args[1])
	pprof.StartCPUProfile(file)
	pprof.Do(context.Background(), pprof.Labels("who", "tester"), func(context.Context) {
		burn(time.Second)
	})
	pprof.StopCPUProfile()
	file.Close()
}
"""


# -- round trips -----------------------------------------------------------------------------------


@given(stack_lists())
def test_reading_what_was_written_gives_the_same_profile(stacks: Stacks) -> None:
    one = profile(stacks)
    data = pprof.write(one)
    again = merged("cpu", rows_in(data))
    assert contents(again) == contents(one)
    theirs = _T["Profile"].FromString(gzip.decompress(data))
    assert sum(sample.value[0] for sample in theirs.sample) == one.total
    assert theirs.time_nanos == one.start_ns
    assert theirs.duration_nanos == one.end_ns - one.start_ns
    assert theirs.string_table[0] == ""


def test_kinds_labels_and_times_come_back() -> None:
    data = pprof.write(profile())
    found = rows_in(data, labels={"container": "web", "__private__": "x"})
    assert {row[0] for row in found} == {START}
    assert {tuple(row[3].items()) for row in found} == {(("container", "web"),)}
    kinds = {one.mapping: one.kind for row in found for one in row[2].locations}
    assert kinds["python3.11"] is FrameKind.RUNTIME
    assert kinds["[anon]"] is FrameKind.JIT
    assert kinds["[nf_tables]"] is FrameKind.KERNEL


# -- strangers' files ------------------------------------------------------------------------------


def foreign(*types: tuple[str, str], period: tuple[str, str, int] = ("", "", 0)) -> proto.Profile:
    """Two samples of main, with values 1, 2, 3 … by type."""
    texts = ["", "main", "main.py"]

    def text(value: str) -> int:
        if value not in texts:
            texts.append(value)
        return texts.index(value)

    values = list(range(1, len(types) + 1))
    return proto.Profile(
        sample_type=[proto.ValueType(text(sample), text(unit)) for sample, unit in types],
        sample=[proto.Sample([1], values), proto.Sample([1, 1], values)],
        location=[proto.Location(1, 0, 0, [proto.Line(1, 3)])],
        function=[proto.Function(1, 1, 0, 2)],
        period_type=proto.ValueType(text(period[0]), text(period[1])),
        period=period[2],
        string_table=texts,
    )


@pytest.mark.parametrize(
    ("types", "period", "expected"),
    [
        ([("samples", "count"), ("cpu", "nanoseconds")], ("cpu", "nanoseconds", 10), {"cpu": 4}),
        ([("samples", "count")], ("cpu", "milliseconds", 10), {"cpu": 2 * 10_000_000}),
        ([("samples", "count")], ("", "", 0), {}),
        ([("cpu", "microseconds")], ("", "", 0), {"cpu": 2000}),
        ([("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"),
          ("inuse_space", "bytes")], ("space", "bytes", 1), {"allocated": 4, "resident": 8}),
        ([("contentions", "count"), ("delay", "nanoseconds")], ("", "", 0), {"lock": 4}),
        ([("wall", "nanoseconds")], ("wall", "nanoseconds", 1), {}),
    ],
)  # fmt: skip
def test_foreign_sample_types(
    types: list[tuple[str, str]], period: tuple[str, str, int], expected: dict[str, int]
) -> None:
    found = pprof.read(foreign(*types, period=period).encode(), now_ns=5)
    assert {samples.type: int(samples.values.sum()) for samples in found.samples} == expected
    assert len(found.ignored) == len(types) - len(expected)
    assert all(set(samples.times.tolist()) == {5} for samples in found.samples)


def test_a_delay_of_pyroscopes_block_profile_is_time_off_the_cpu() -> None:
    found = pprof.read(foreign(("delay", "nanoseconds")).encode(), family="block")
    assert [samples.type for samples in found.samples] == ["blocked"]


def test_functions_without_addresses_stay_apart() -> None:
    """An interpreter's profile has neither addresses nor build ids; the store knows a location by
    them, so two functions must not be one."""
    one = foreign(("cpu", "nanoseconds"))
    one.string_table.append("other")
    one.function.append(proto.Function(2, len(one.string_table) - 1, 0, 2))
    one.location.append(proto.Location(2, 0, 0, [proto.Line(2, 3)]))
    one.sample.append(proto.Sample([2], [1]))
    found = {stack.locations[0] for _, _, stack, _ in rows_in(one.encode())}
    assert len({location[:4] for location in found}) == 2
    assert {location.kind for location in found} == {FrameKind.RUNTIME}
    again = {stack.locations[0] for _, _, stack, _ in rows_in(one.encode())}
    assert again == found


def test_a_stack_without_end_is_cut_and_says_so() -> None:
    one = foreign(("cpu", "nanoseconds"))
    one.sample = [proto.Sample([1] * 5000, [7])]
    ((_, value, stack, _),) = rows_in(one.encode())
    assert value == 7
    assert len(stack.locations) == MOST_FRAMES
    assert stack.status is StackStatus.TOO_DEEP


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: one.sample.append(proto.Sample([9], [1])), "location 9"),
        (lambda one: one.sample.append(proto.Sample([1], [])), "too few values"),
        (lambda one: one.location.append(proto.Location(2, 7)), "mapping 7"),
        (lambda one: one.location.append(proto.Location(2, 0, 0, [proto.Line(5)])), "function 5"),
        (lambda one: one.function.append(proto.Function(2, 99)), "text 99"),
        (lambda one: one.sample_type.clear(), "not a pprof profile"),
    ],
)
def test_references_that_lead_nowhere_are_refused(change, message: str) -> None:  # type: ignore[no-untyped-def]
    one = foreign(("cpu", "nanoseconds"))
    change(one)
    with pytest.raises(HuatuoError, match=message):
        pprof.read(one.encode())


def test_damaged_files_are_read_or_refused() -> None:
    rng = random.Random(2)
    whole = pprof.message(profile()).encode()
    for _ in range(2000):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 5)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            pprof.read(bytes(data))
        except HuatuoError:
            continue


def test_a_small_file_cannot_become_a_large_one() -> None:
    bomb = gzip.compress(bytes(pprof.LARGEST + 1))
    assert len(bomb) < 100_000
    with pytest.raises(TooLarge):
        pprof.read(bomb)
    with pytest.raises(HuatuoError, match="cut off"):
        expanded(compressed(b"x" * 1000)[:-20], 10_000)
    assert expanded(compressed(b"a") + compressed(b"b"), 10) == b"ab"


def test_values_beyond_any_clock_are_bounded() -> None:
    one = foreign(("cpu", "seconds"))
    one.sample = [proto.Sample([1], [2**62])]
    ((_, value, _, _),) = rows_in(one.encode())
    assert value == 2**62


def test_names_that_are_no_utf8_are_written() -> None:
    odd = MAIN._replace(lines=(Line("bad\udcff", "x.c", 1),))
    data = pprof.write(profile([(Stack((odd, INLINED, PYTHON)), 1)]))
    assert "bad?" in _T["Profile"].FromString(gzip.decompress(data)).string_table
