"""Go's table of frame sizes: made by hand in all its forms, and of real programs beside DWARF.

HUATUO_TEST_GO may name several Go tools, with colons between: each of them is used.
"""

from __future__ import annotations

import random
import re
import shutil
import struct
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huatuo.errors import Malformed
from huatuo.kernel.elf import Elf
from huatuo.profilers.native.encoding import WRONG
from huatuo.profilers.native.golang import GoRows
from huatuo.profilers.native.goswitch import layout_of
from huatuo.profilers.native.rows import UnwindFile
from huatuo.profilers.native.rules import (
    ACROSS,
    FRAME_POINTER,
    OUTERMOST,
    SIGNAL,
    Cfa,
    Rule,
    Saved,
    framed,
)
from tests.enrich.symbols.toolchain import GO_TOOLS, compile_go
from tests.profilers.native.image import EXECUTE, READ, Part, elf
from tests.profilers.native.oracle import functions_of
from tests.profilers.native.test_damaged import check

PROGRAMS = Path(__file__).parents[2] / "live/programs"
TEXT, TABLE = 0x1000, 0x100000
FORMS = ["1.16", "1.18", "1.20"]
TOP, WRITES_SP = 1, 2


class Function(NamedTuple):
    """`moves`: (by how much sp has moved, over so many bytes); none: no sequence."""

    name: str
    size: int
    moves: Sequence[tuple[int, int]] = ()
    flags: int = 0
    kind: int = 0


def number(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def sequence(moves: Sequence[tuple[int, int]]) -> bytes:
    data, before = b"", -1
    for value, span in moves:
        change, before = value - before, value
        data += number(change << 1 if change >= 0 else ~change << 1 | 1) + number(span)
    return data + b"\0"


def table(form: str, functions: Sequence[Function], text: int = TEXT) -> bytes:
    """As Go's linker of that version lays it out."""
    wide = form == "1.16"
    names, numbers, records = b"\0", b"\0", b""
    entries, rows = [], b""
    begin = 0
    for function in functions:
        entries.append((begin, len(records)))
        at = len(numbers) if function.moves else 0
        numbers += sequence(function.moves) if function.moves else b""
        record = struct.pack("<Q", text + begin) if wide else struct.pack("<I", begin)
        record += struct.pack("<iiIIIIII", len(names), 0, 0, at, 0, 0, 0, 0)
        record += struct.pack("<I", 1) if form == "1.20" else b""
        record += bytes([function.kind, 0 if wide else function.flags, 0, 0])
        records += record + bytes(-len(record) % 8)
        names += function.name.encode() + b"\0"
        begin += function.size
    letter = "Q" if wide else "I"
    size = (2 * len(functions) + 1) * (8 if wide else 4)
    for at, offset in entries:
        rows += struct.pack(f"<2{letter}", at + (text if wide else 0), size + offset)
    rows += struct.pack(f"<{letter}", begin + (text if wide else 0))
    magic = {"1.16": 0xFFFFFFFA, "1.18": 0xFFFFFFF0, "1.20": 0xFFFFFFF1}[form]
    head = struct.pack("<IBBBB", magic, 0, 0, 1, 8)
    parts = [names, b"", b"", numbers, rows + records]
    at = 8 + 8 * (7 if wide else 8)
    places = []
    for part in parts:
        places.append(at)
        at += len(part)
    words = [len(functions), 0, *([] if wide else [text]), *places]
    return head + struct.pack(f"<{len(words)}Q", *words) + b"".join(parts)


def rows_of(form: str, functions: Sequence[Function], code: bytes = b"") -> list[tuple[int, Rule]]:
    """All rows, addresses from the begin of the code."""
    code = code.ljust(0x1000, b"\xcc")
    parts = [Part(".text", TEXT, code, READ | EXECUTE)]
    parts.append(Part(".gopclntab", TABLE, table(form, functions)))
    with Elf(elf(parts)) as file:
        unwind = UnwindFile(file)
        assert unwind.source == "go"
        return unwind.rows(TEXT >> 12)


@pytest.mark.parametrize("form", FORMS)
def test_frames_have_the_sizes_the_table_says(form: str) -> None:
    functions = [
        Function("main.leaf", 0x40, [(0, 0x40)]),
        Function("main.framed", 0x60, [(0, 4), (24, 0x50), (0, 0xC)]),
        Function("main.assembly", 0x20),
        Function("runtime.goexit", 0x10, [(0, 0x10)], TOP, 1),
        Function("main.large", 0x30, [(0, 7), (100_000, 0x29)]),
    ]
    found = rows_of(form, functions)
    assert found == [
        (0x00, framed(0)),
        (0x44, framed(24)),
        (0x94, framed(0)),
        (0xA0, FRAME_POINTER),
        (0xC0, OUTERMOST),
        (0xD0, framed(0)),
        (0xD7, framed(100_000)),
        (0x100, FRAME_POINTER),  # behind Go's code: that of C
    ]
    assert framed(24) == Rule(Cfa.REGISTER, 7, 32, 0, Saved.AT_CFA, -8, Saved.AT_CFA, -16)
    assert framed(0).fp is Saved.SAME, "a leaf without a frame has not touched it"


@pytest.mark.parametrize("form", FORMS)
def test_signal_handlers_return_into_what_they_interrupted(form: str) -> None:
    """The address they return to is the first byte of the restorer: looked up one before."""
    functions = [
        Function("runtime.sigtramp", 0x40, [(0, 4), (48, 0x3C)], TOP | WRITES_SP, 7),
        Function("runtime.sigreturn", 0x20, [(0, 0x20)], 0, 9),
        Function("main.main", 0x20, [(0, 0x20)]),
    ]
    found = rows_of(form, functions)
    assert found == [
        (0x00, framed(0)), (0x04, framed(48)), (0x3F, SIGNAL), (0x60, framed(0)),
        (0x80, FRAME_POINTER),
    ]  # fmt: skip


SAVES_FP, TO_SYSTEM, BACK = b"\x55\x48\x89\xe5", b"\x48\x8b\x62\x38", b"\x48\x8b\x60\x38"
GAP = b"\x90" * 8


@pytest.mark.parametrize("form", ["1.18", "1.20"])
def test_functions_that_change_stacks(form: str) -> None:
    """By fp where they have set it up, by their caller's where not; one of them never returns."""
    with_fp = (SAVES_FP + GAP + TO_SYSTEM + GAP + BACK + b"\x5d\xc3").ljust(0x30, b"\xcc")
    without = (GAP + TO_SYSTEM + GAP + BACK + b"\xc3").ljust(0x20, b"\xcc")
    never_back = (GAP + TO_SYSTEM + GAP).ljust(0x20, b"\xcc")
    functions = [
        Function("runtime.nanotime1", 0x30, [(0, 1), (8, 28), (0, 19)], WRITES_SP),
        Function("runtime.racecall", 0x20, [(0, 0x20)], WRITES_SP),
        Function("runtime.mcall", 0x20, [(0, 0x20)], WRITES_SP, 5),
    ]
    assert rows_of(form, functions, with_fp + without + never_back) == [
        (0x00, framed(0)), (0x01, framed(8)), (0x04, ACROSS), (0x1D, framed(0)),
        (0x3C, ACROSS), (0x48, framed(0)),
        (0x5C, OUTERMOST),
        (0x70, FRAME_POINTER),
    ]  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("form", FORMS)
def test_damaged_tables_end_with_an_error_or_rules_of_some_kind(
    form: str, data: st.DataObject
) -> None:
    functions = [
        Function(f"main.f{i}", 0x40, [(0, 4), (24 * i, 0x3C)], i % 4, i) for i in range(20)
    ]
    raw = bytearray(table(form, functions))
    for _ in range(data.draw(st.integers(1, 12))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    parts = [
        Part(".text", TEXT, b"\x90" * 0x800, READ | EXECUTE),
        Part(".gopclntab", TABLE, bytes(raw)),
    ]
    with Elf(elf(parts)) as file:
        with suppress(*WRONG):
            GoRows(file)
        rows = UnwindFile(file).rows(TEXT >> 12)
        assert rows[0][0] == 0
        assert [offset for offset, _ in rows] == sorted({offset for offset, _ in rows})


@pytest.mark.skipif(not GO_TOOLS, reason="go is not installed")
def test_damaged_programs_of_go(tmp_path: Path) -> None:
    """Bytes changed where a real table says what it consists of, or anywhere in it."""
    raw = compile_go(GO_TOOLS[0], PROGRAMS / "chain.go", tmp_path / "chain").read_bytes()
    with Elf(raw) as file:
        places = [file.sections[name] for name in (".gopclntab", ".noptrdata", ".text")]
    rng, longest = random.Random(7), 0.0
    for turn in range(80):
        changed = bytearray(raw)
        in_head = turn % 2
        for _ in range(rng.randint(1, 3) if in_head else rng.choice([10, 1000, 30_000])):
            section = places[0] if in_head else rng.choice(places)
            size = 80 if in_head else section.size
            changed[section.offset + rng.randrange(size)] = rng.choice([0, 1, 0x80, 0xFF])
        began = time.process_time()
        check(bytes(changed))
        longest = max(longest, time.process_time() - began)
    print(f"{longest:.3f} s at most")
    assert longest < 3


def test_what_is_no_table_that_is_known() -> None:
    parts = [Part(".text", TEXT, b"\x90" * 64, READ | EXECUTE)]
    with Elf(elf([*parts, Part(".gopclntab", TABLE, b"\xfb\xff\xff\xff" + bytes(100))])) as file:
        with pytest.raises(Malformed, match="not known"):
            GoRows(file)
        assert UnwindFile(file).rows(TEXT >> 12)[0] == (0, FRAME_POINTER)


KINDS = {
    "plain": ([], False),
    "pie": (["-buildmode=pie"], False),
    "system linker": (["-buildmode=pie", "-ldflags=-linkmode=external -compressdwarf=false"], True),
}


@pytest.mark.skipif(not GO_TOOLS, reason="go is not installed")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("go", GO_TOOLS)
def test_frame_sizes_are_those_of_dwarf(go: str, kind: str, tmp_path: Path) -> None:
    """At every instruction of every function, but for those of the runtime that change stacks."""
    options, cgo = KINDS[kind]
    options = options if cgo else [*options, "-ldflags=-compressdwarf=false"]
    try:
        program = compile_go(go, PROGRAMS / "chain.go", tmp_path / "chain", *options, cgo=cgo)
    except subprocess.CalledProcessError as error:
        if not cgo:
            raise
        pytest.skip(f"this Go does not work with the system's linker: {error.stderr[-200:]}")
    compared, others = 0, set()
    with Elf(program) as file:
        rows = GoRows(file)
        pages = {a >> 12 for s in file.segments if s.is_executable
                 for a in range(s.address, s.address + s.size, 4096)}  # fmt: skip
        for function in functions_of(program, pages):
            ours = rows._read(max(rows._index(function.begin), 0))
            if ours.begin != function.begin:
                continue  # C
            found = rows.rows(function.begin, function.end)
            if any(rule not in (framed(rule.cfa_offset - 8), FRAME_POINTER) for _, rule in found):
                others.add(ours.name)
                continue
            steps = [function.rows[0]]
            steps += [row for before, row in pairwise(function.rows) if row[1] != before[1]]
            sizes = [(address, f"rsp+{rule.cfa_offset}", "c-8") for address, rule in found]
            assert sizes == [(address, said[0], said[2]) for address, said in steps]
            compared += len(steps)
    assert compared > 5000
    assert {"runtime.systemstack", "runtime.morestack", "runtime.mcall"} <= others
    assert all(name.startswith("runtime.") or name in ("gogo", "time.now", "") for name in others)


def members(program: Path, kind: str) -> dict[str, int]:
    """Member → where it is in a structure, by the debug information."""
    command = ["llvm-dwarfdump", f"--name={kind}", "--show-children", str(program)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    member = re.compile(r'DW_TAG_member\s+DW_AT_name\s+\("(\w+)"\)\s+\S+_location\s+\((\w+)\)')
    return {name: int(place, 0) for name, place in member.findall(said)}


@pytest.mark.skipif(not GO_TOOLS, reason="go is not installed")
@pytest.mark.skipif(not shutil.which("llvm-dwarfdump"), reason="llvm is not installed")
@pytest.mark.parametrize("go", GO_TOOLS)
def test_the_layout_of_goroutines_is_that_of_dwarf(go: str, tmp_path: Path) -> None:
    flags = "-ldflags=-compressdwarf=false"
    program = compile_go(go, PROGRAMS / "chain.go", tmp_path / "chain", flags)
    g, m, left = (members(program, f"runtime.{name}") for name in ("g", "m", "gobuf"))
    with Elf(program) as file:
        rows = GoRows(file)
        functions = {rows._read(i).name: rows._read(i) for i in range(len(rows._begins))}
        codes = (rows._code(functions[f"runtime.{n}"]) for n in ("systemstack", "morestack"))
        layout = layout_of(*codes)
    assert layout == (-8, m["curg"], g["sched"] + left["bp"])
    # as bpf/unwind.bpf.h and goswitch.py have them
    assert (g["m"], g["sched"] + left["sp"], g["sched"] + left["pc"]) == (0x30, 0x38, 0x40)
