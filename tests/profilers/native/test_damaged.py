"""Files of strangers: whatever their bytes are, rows come out, in bounded time."""

from __future__ import annotations

import random
import time
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huatuo.errors import Malformed
from huatuo.kernel.elf import Elf
from huatuo.profilers.native.rows import UnwindFile
from huatuo.profilers.native.rules import NOTHING
from tests.profilers.native.image import (
    EXECUTE,
    PAGE,
    READ,
    Function,
    Part,
    cie,
    eh_frame,
    eh_frame_hdr,
    elf,
    program,
)
from tests.profilers.native.test_oracle import find

PUSH = b"\x41\x0e\x10\x86\x02"


def check(data: bytes, most_pages: int = 64) -> None:
    """Rows of all pages have the promised form; nothing but Malformed, and that at opening."""
    try:
        file = Elf(data)
        unwind = UnwindFile(file)
    except Malformed:
        return
    pages = {
        page
        for segment in file.segments
        if segment.is_executable
        for page in range(segment.offset // PAGE, (segment.offset + segment.size) // PAGE + 1)[:16]
    }
    for page in [*sorted(pages)[:most_pages], -1, 1 << 52]:
        rows = unwind.rows(page)
        offsets = [offset for offset, _ in rows]
        assert offsets[0] == 0
        assert offsets == sorted(set(offsets))
        assert offsets[-1] < PAGE


@cache
def small() -> bytes:
    programs = [
        PUSH * 3,
        b"\x0a\x41\x0e\x20\x0b",
        b"\x0f\x05\x77\x10\x06\x23\x08",
        b"",
        b"\x86\x02",
    ]
    functions = [Function(0x1000 + i * 0x90, 0x80, programs[i % 5]) for i in range(40)]
    return program(functions, start=0x1090)


@cache
def real() -> bytes:
    path = find("libffi.so.8") or find("libz.so.1") or Path("/bin/true")
    return path.read_bytes()


@pytest.mark.parametrize("source", [small, real])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_bytes(source, data: st.DataObject) -> None:  # type: ignore[no-untyped-def]
    raw = bytearray(source())
    with Elf(bytes(raw)) as file:
        places = [(0, 64), (64, 64 * 12)] + [
            (section.offset, section.size)
            for name, section in file.sections.items()
            if name in (".eh_frame", ".eh_frame_hdr")
        ]
    for _ in range(data.draw(st.integers(1, 12))):
        begin, size = data.draw(st.sampled_from(places))
        at = begin + data.draw(
            st.integers(0, min(size, data.draw(st.sampled_from([40, size]))) - 1)
        )
        raw[at] = data.draw(st.sampled_from([0, 1, 0x0F, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    check(bytes(raw[: data.draw(st.just(len(raw)) | st.integers(0, len(raw)))]))


@settings(max_examples=300, deadline=None)
@given(code=st.binary(max_size=120), kind=st.binary(max_size=40))
def test_random_programs(code: bytes, kind: bytes) -> None:
    """In a function, and in what functions share."""
    check(program([Function(0x1040, 0x800, code), Function(0x1900, 0x10, PUSH)]))
    frames, table = eh_frame(0x8000, [Function(0x1040, 0x80, code)], kind=cie(program=kind))
    text = Part(".text", 0x1000, b"\x90" * PAGE, READ | EXECUTE)
    header = Part(".eh_frame_hdr", 0x7000, eh_frame_hdr(0x7000, 0x8000, table))
    check(elf([text, Part(".eh_frame", 0x8000, frames), header]))


@settings(max_examples=100, deadline=None)
@given(frames=st.binary(max_size=400), header=st.binary(max_size=60), debug=st.binary(max_size=300))
def test_random_sections(frames: bytes, header: bytes, debug: bytes) -> None:
    parts = [
        Part(".text", 0x1000, b"\x90" * PAGE, READ | EXECUTE),
        Part(".eh_frame", 0x8000, frames),
        Part(".eh_frame_hdr", 0x7000, b"\x01\x1b\x03\x3b" + header),
        Part(".debug_frame", 0, debug),
    ]
    check(elf(parts))
    check(elf([*parts[:2], *parts[3:]]))


def spent(data: bytes, page: int) -> float:
    with Elf(data) as file:
        unwind = UnwindFile(file)
        begin = time.process_time()
        rows = unwind.rows(page)
        assert len(rows) <= PAGE
        print(f"{len(rows)} rows in {time.process_time() - begin:.3f} s")
        return time.process_time() - begin


def text_page(data: bytes) -> int:
    with Elf(data) as file:
        return next(s.offset // PAGE for s in file.segments if s.is_executable)


def test_the_dearest_page_is_bounded() -> None:
    """A function at every byte, with programs that are as long as can be."""
    busy = (b"\x0a\x0b" * 30 + b"\x0e\x10\x86\x02" * 10) * 40
    functions = [Function(0x1000 + i, 1, busy) for i in range(PAGE)]
    assert spent(program(functions, b"\x90" * PAGE), 1) < 2
    long = b"\x0f\x04\x77\x10\x06\x96" * 40000
    functions = [Function(0x1000 + i * 8, 8, long) for i in range(64)]
    assert spent(program(functions, b"\x90" * PAGE), 1) < 2
    endless = b"\x0e" + b"\xff" * 200_000
    assert spent(program([Function(0x1000, 8, endless)]), 1) < 0.1
    # a table that is not sorted: the search ends at its beginning, all that follows is too low
    count = 1 << 20
    entries = bytearray(8 * count)
    for place in {count >> i for i in range(1, 21)}:
        entries[8 * place : 8 * place + 4] = (0x1000001 - 0x100).to_bytes(4, "little")
    header = eh_frame_hdr(0x100, 0x1000, [])[:8] + count.to_bytes(4, "little") + bytes(entries)
    text = Part(".text", 0x1000000, b"\x90" * PAGE, READ | EXECUTE)
    data = elf([text, Part(".eh_frame_hdr", 0x100, header), Part(".eh_frame", 0x2000000, cie())])
    assert spent(data, text_page(data)) < 0.1
    # gaps that have to be looked at
    functions = [Function(0x1000 + i * 32, 1) for i in range(2 * PAGE // 32)]
    assert spent(program(functions), 1) < 1


def test_the_longest_search_without_a_table_is_bounded() -> None:
    """More entries than are looked at, all for the same page, sound or broken."""
    text = Part(".text", 0x1000, b"\x90" * PAGE, READ | EXECUTE)
    kind = cie(0x03, program=b"")
    for content in (b"\1\0\0\0\x10\0\0\0\0", b"\xff" * 9):
        entry = b"\x10\0\0\0"
        count = 400_000
        body = bytearray(kind)
        one = content + bytes(16 - 4 - len(content))
        for _ in range(count):
            body += entry + (len(body) + 4).to_bytes(4, "little") + one
        data = elf([text, Part(".eh_frame", 0x10000, bytes(body))])
        assert spent(data, 1) < 3


def test_a_file_that_shrinks_while_it_is_open(tmp_path: Path) -> None:
    """As when a program is overwritten in place."""
    path = tmp_path / "program"
    path.write_bytes(real())
    with Elf(path) as file:
        unwind = UnwindFile(file)
        page = next(s.offset // PAGE for s in file.segments if s.is_executable)
        assert unwind.rows(page) != [(0, NOTHING)]
        path.write_bytes(b"")
        found = [unwind.rows(random.Random(1).randrange(page, page + 4)) for _ in range(9)]
        assert all(rows[0][0] == 0 for rows in found)
        assert found[-1] == [(0, NOTHING)]
