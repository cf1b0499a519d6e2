"""Damaged and hostile files: a worker may fail, the agent and the other files may not."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huatuo.enrich.symbols.build import Effort, Request, _layer, _Opened, readable
from huatuo.enrich.symbols.debug_files import OpenElf
from huatuo.enrich.symbols.layer import compact
from huatuo.enrich.symbols.native import BinaryFile, Identity, Symbols, SymbolSettings
from huatuo.enrich.symbols.table import Source
from huatuo.errors import Malformed
from huatuo.kernel.elf import Elf
from huatuo.kernel.host import Host
from huatuo.kernel.worker import Limits
from tests.enrich.symbols.toolchain import binary_file, run, tool

Compile = Callable[..., Path]


def answers(made: Symbols, path: Path, address: int) -> str:
    file = binary_file(path)
    made.lines(file, [address])
    assert made.settle(60)
    [lines] = made.lines(file, [address])
    return lines[-1].function if lines else ""


def main_of(path: Path) -> int:
    line = next(x for x in run(tool("nm"), path).splitlines() if x.endswith(" T main"))
    return int(line.split()[0], 16)


def test_debug_information_that_unpacks_to_too_much(compiled: Compile, tmp_path: Path) -> None:
    """150 MB of zeros, packed: the names are read without lines, and the next file as always."""
    path, zeros = tmp_path / "bomb", tmp_path / "zeros"
    with zeros.open("wb") as file:
        file.truncate(150 << 20)
    shutil.copy(compiled("shapes.c"), path)
    run(tool("objcopy"), "--update-section", f".debug_str={zeros}", path)
    run(tool("objcopy"), "--compress-debug-sections=zlib", path)
    zeros.unlink()
    assert path.stat().st_size < 2 << 20
    made = Symbols(
        Host(), tmp_path / "symbols", SymbolSettings(limits=Limits(memory_bytes=120 << 20))
    )
    assert answers(made, path, main_of(path)) == "main"
    sources = made.sources(binary_file(path))
    assert sources is not None
    assert Source.SYMTAB in sources
    assert Source.DWARF not in sources
    assert made.counts.peak_bytes < 250 << 20
    assert made.counts.failed == 0
    good = compiled("shapes.cpp")
    assert answers(made, good, main_of(good)) == "main"
    made.close()


def doubling(levels: int) -> str:
    """A function whose every parameter's type is a pair of the one before."""
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    references = [
        f"S{digits[i // 36] if i >= 36 else ''}{digits[i % 36]}_" for i in range(0, 2 * levels, 2)
    ]
    return "_Z1fSt4pairIiiE" + "".join(f"St4pairI{each}{each}E" for each in references)


@pytest.mark.parametrize("levels", [4, 12, 29])
def test_names_that_mean_gigabytes(tmp_path: Path, levels: int) -> None:
    """They are cut; if that takes too long, the names of the file stay as the linker has them."""
    name = doubling(levels)
    source = tmp_path / "doubling.s"
    source.write_text(
        ".text\n"
        + "".join(
            f".globl {each}\n.type {each},@function\n{each}: ret\n.size {each}, .-{each}\n"
            for each in (name, "main", "_Z3onev")
        )
    )
    path = tmp_path / "doubling"
    run(tool("gcc"), "-no-pie", source, "-o", path)
    limits = Limits(cpu_seconds=2, memory_bytes=300 << 20)
    made = Symbols(Host(), tmp_path / "symbols", SymbolSettings(limits=limits))
    assert answers(made, path, main_of(path)) == "main"
    found = answers(made, path, main_of(path) - 1)
    assert len(found) <= 4096
    assert found == name if levels == 29 else found.startswith("f(std::pair<int, int>, std::pair<")
    other = answers(made, path, main_of(path) + 1)
    assert other == ("_Z3onev" if levels == 29 else "one()")  # then all stay as they are
    assert made.counts.failed == 0
    assert made.counts.peak_bytes < 450 << 20
    made.close()


def test_damaged_files_through_workers(compiled: Compile, tmp_path: Path) -> None:
    """Also what `symbolic` makes of them: the agent lives, and so does every other file's table."""
    whole = compiled("shapes.cpp").read_bytes()
    with Elf(whole) as elf:
        places = [
            (section.offset, section.size)
            for name, section in elf.sections.items()
            if name.startswith((".debug_", ".symtab", ".eh_frame", ".strtab", ".dynsym"))
        ]
    made = Symbols(Host(), tmp_path / "symbols")
    chance = random.Random(1)
    files = []
    for index in range(24):
        raw = bytearray(whole)
        for _ in range(chance.choice([1, 10, 300])):
            offset, size = chance.choice(places)
            raw[offset + chance.randrange(size)] = chance.randrange(256)
        path = tmp_path / f"damaged{index}"
        path.write_bytes(raw[: chance.choice([len(raw), len(raw), len(raw) - 5000])])
        status = path.stat()
        identity = Identity(status.st_dev, status.st_ino, status.st_size)
        files.append(BinaryFile(identity, str(path), path))
    good = binary_file(compiled("shapes.c"))
    for file in [*files, good]:
        made.lines(file, [0])
    assert made.settle(240)
    for file in files:
        for lines in made.lines(file, range(0x2000, 0x8000, 64)):
            assert lines is not None
            assert len(lines) <= 64
    [lines] = made.lines(good, [main_of(Path(good.path))])
    assert lines
    assert lines[-1].function == "main"
    assert made.counts.built + made.counts.failed == 25
    made.close()


@pytest.fixture(scope="module")
def small(compiled: Compile, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("small") / "program"
    run(tool("objcopy"), "--strip-debug", compiled("shapes.cpp"), path)
    return path.read_bytes()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_our_own_readers_end_on_damaged_files(small: bytes, data: st.DataObject) -> None:
    """All of a worker but `symbolic`, in this process: no crash, no error that is not expected."""
    with Elf(small) as elf:
        sections = [s for s in elf.section_list if s.size and s.has_data]
        headers = int.from_bytes(small[40:48], "little")
    raw = bytearray(small)
    for _ in range(data.draw(st.integers(1, 8))):
        section = data.draw(st.sampled_from(sections))
        at = data.draw(
            st.integers(0, 63)
            | st.integers(headers, len(raw) - 1)
            | st.integers(section.offset, section.offset + section.size - 1)
        )
        raw[at] = data.draw(st.integers(0, 255))
    begin = time.process_time()
    try:
        with Elf(bytes(raw)) as elf:
            request = Request(-1, -1, -1, "/program", Effort.NO_LINES)
            layer = compact(_layer(_Opened(request, OpenElf(elf, -1))), readable)
    except Malformed:
        return  # no ELF file any more
    assert len(layer.starts) == len(layer.at)
    assert time.process_time() - begin < 5


def test_hostile_sizes(small: bytes, tmp_path: Path) -> None:
    """A section that claims to be as large as memory; a sparse file that really is large."""
    raw = bytearray(small)
    headers = int.from_bytes(raw[40:48], "little")
    with Elf(small) as elf:
        index = [s.name for s in elf.section_list].index(".symtab")
    raw[headers + index * 64 + 32 : headers + index * 64 + 40] = (3 << 30).to_bytes(8, "little")
    path = tmp_path / "sparse"
    path.write_bytes(raw)
    with path.open("r+b") as file:
        file.truncate(5 << 30)
    made = Symbols(Host(), tmp_path / "symbols")
    address = main_of_small(small)
    file_of = binary_file(path)
    made.lines(file_of, [address])
    assert made.settle(120)
    [lines] = made.lines(file_of, [address])
    assert lines is not None  # from .dynsym or .eh_frame, or nothing
    assert made.counts.peak_bytes < 1300 << 20
    made.close()


def main_of_small(raw: bytes) -> int:
    with Elf(raw) as elf:
        return elf.sections[".text"].address
