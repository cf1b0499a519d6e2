"""ELF files: readelf is the independent source; broken and hostile files are refused."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huatuo.errors import Malformed
from huatuo.kernel.elf import Elf, text_at

BINARIES = [
    path
    for path in (
        Path(sys.executable).resolve(),
        Path("/usr/lib/x86_64-linux-gnu/libc.so.6").resolve(),
        Path("/usr/bin/bash"),
    )
    if path.exists()
]
need_readelf = pytest.mark.skipif(not shutil.which("readelf"), reason="readelf is not installed")


def readelf(option: str, path: Path) -> str:
    return subprocess.run(
        ["readelf", "--wide", option, str(path)], check=True, capture_output=True, text=True
    ).stdout


@need_readelf
@pytest.mark.parametrize("path", BINARIES, ids=lambda p: p.name)
def test_sections_segments_and_build_id_are_those_of_readelf(path: Path) -> None:
    line = re.compile(r"\[ *\d+\] (\S+) +\S+ +([0-9a-f]{16}) ([0-9a-f]+) ([0-9a-f]+) ")
    wanted = {
        name: (int(address, 16), int(offset, 16), int(size, 16))
        for name, address, offset, size in line.findall(readelf("--sections", path))
    }
    load = re.compile(r"LOAD +(0x\w+) (0x\w+) 0x\w+ (0x\w+) 0x\w+ (.{3})")
    loads = [
        (int(offset, 16), int(address, 16), int(size, 16), "E" in flags)
        for offset, address, size, flags in load.findall(readelf("--segments", path))
    ]
    with Elf(path) as elf:
        found = {n: (s.address, s.offset, s.size) for n, s in elf.sections.items() if n}
        assert found == wanted
        segments = [(s.offset, s.address, s.size, s.is_executable) for s in elf.segments]
        assert segments == sorted(loads, key=lambda segment: segment[1])
        noted = re.search(r"Build ID: (\w+)", readelf("--notes", path))
        assert elf.build_id == (noted[1] if noted else "")


@need_readelf
@pytest.mark.parametrize("path", BINARIES, ids=lambda p: p.name)
def test_dynamic_symbols_are_those_of_readelf(path: Path) -> None:
    line = re.compile(r"^ *\d+: ([0-9a-f]{16}) +(\d+|0x\w+) (?:FUNC) +\S+ +\S+ +\S+ (\S+)", re.M)
    wanted = {
        (name.partition("@")[0], int(value, 16), int(size, 0))
        for value, size, name in line.findall(readelf("--dyn-syms", path))
    }
    with Elf(path) as elf:
        rows, names = elf.symbol_table(".dynsym")
    functions = rows[rows["info"] & 15 == 2]
    found = {
        (text_at(names, name), value, size)
        for name, value, size in functions[["name", "value", "size"]].tolist()
    }
    assert found == wanted


@pytest.mark.parametrize("path", BINARIES, ids=lambda p: p.name)
def test_offsets_and_addresses_are_each_others_inverse(path: Path) -> None:
    with Elf(path) as elf:
        for segment in (s for s in elf.segments if s.is_executable):
            for address in (segment.address, segment.address + segment.size - 1):
                offset = elf.offset_of(address)
                assert offset is not None
                assert elf.address_of(offset) == address
        assert elf.offset_of(2**63) is None


def test_what_is_no_elf_file_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"\x7fELF", b"#!/bin/sh\n" * 100, b"\x7fELF\x01\x01" + bytes(100)):
        with pytest.raises(Malformed, match="not a 64-bit"):
            Elf(content)
    with pytest.raises(OSError):
        Elf(tmp_path / "gone")


def test_a_descriptor_is_as_good_as_a_path() -> None:
    with BINARIES[0].open("rb") as stream:
        elf = Elf(stream.fileno())
    with elf, Elf(BINARIES[0]) as other:  # it has a descriptor of its own
        assert elf.section_list == other.section_list


def test_a_section_beyond_the_limit_is_refused() -> None:
    with Elf(BINARIES[0]) as elf, pytest.raises(Malformed, match="limit is 16"):
        elf.contents(".dynsym", limit=16)


SMALL = Path(__file__).parents[1] / "live/inject/empty.bpf.o"


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_files_raise_malformed_and_nothing_else(data: st.DataObject) -> None:
    source = SMALL if SMALL.exists() else BINARIES[-1]
    raw = bytearray(source.read_bytes()[: 1 << 16])
    headers = int.from_bytes(raw[40:48], "little")
    places = st.integers(0, 63) | st.integers(headers, max(len(raw) - 1, headers))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(places)
        if at < len(raw):
            raw[at] = data.draw(st.integers(0, 255))
    length = data.draw(st.integers(0, len(raw)) | st.just(len(raw)))
    try:
        with Elf(bytes(raw[:length])) as elf:
            for name in elf.sections:
                elf.contents(name, limit=1 << 20)
            elf.symbol_table()
            elf.build_id  # noqa: B018
            elf.segments  # noqa: B018
    except Malformed:
        pass
