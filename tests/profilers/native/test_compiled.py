"""Programs compiled in every usual way: rows against readelf, and stacks of the running program."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from huatuo.kernel.elf import Elf, text_at
from tests.profilers.native.model import Frame, Unwinder, stepped, stopped
from tests.profilers.native.oracle import compare

PROGRAMS = Path(__file__).with_name("programs")
CHAIN = ["wait_here", "recursive", "recursive", "recursive", "large", "aligned"]
CHAIN += ["dynamic", "variadic", "plain", "main"]
WAYS = {
    "gcc O0": "gcc -O0",
    "gcc O1": "gcc -O1",
    "gcc O2": "gcc -O2",
    "gcc O3": "gcc -O3",
    "gcc Os": "gcc -Os",
    "gcc frame pointers": "gcc -O2 -fno-omit-frame-pointer",
    "gcc lto": "gcc -O2 -flto",
    "gcc sections": "gcc -O2 -ffunction-sections -Wl,--gc-sections",
    "gcc static": "gcc -O2 -static",
    "gcc static-pie": "gcc -O2 -static-pie",
    "gcc no pie": "gcc -O2 -no-pie -fno-pie",
    "gcc stripped": "gcc -O2",
    "gcc lazy binding": "gcc -O2 -Wl,-z,lazy",
    "gcc binding at once": "gcc -O2 -Wl,-z,now",
    "gcc cet": "gcc -O2 -fcf-protection -Wl,-z,lazy,-z,ibtplt",
    "gcc one segment": "gcc -O2 -Wl,-z,noseparate-code",
    "gcc no table": "gcc -O2 -Wl,--no-eh-frame-hdr",
    "gcc debug_frame": "gcc -O2 -g -fno-asynchronous-unwind-tables",
    "gcc debug_frame zlib": "gcc -O2 -g -fno-asynchronous-unwind-tables -gz",
    "gcc gold": "gcc -O2 -fuse-ld=gold",
    "gcc large model": "gcc -O2 -mcmodel=large",
    "clang O0": "clang -O0",
    "clang O1": "clang -O1",
    "clang O2": "clang -O2",
    "clang O3": "clang -O3",
    "clang no frame pointers": "clang -O0 -fomit-frame-pointer",
    "clang lld": "clang -O2 -fuse-ld=lld",
    "clang static": "clang -O2 -static",
    "clang debug_frame": "clang -O2 -g -fno-asynchronous-unwind-tables -fno-unwind-tables",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


def build(source: str, way: str, folder: Path) -> Path:
    """Skips where the compiler or the linker is missing."""
    compiler, *options = WAYS[way].split()
    if source.endswith(".cc"):
        compiler = {"gcc": "g++", "clang": "clang++"}[compiler]
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed")
    out = folder / f"{way} {source}".replace(" ", "_").replace(".", "_")
    if not out.exists():
        command = [compiler, *options, "-w", "-o", str(out), str(PROGRAMS / source)]
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode:
            missing = ("invalid linker name", "cannot find 'ld'", "cannot find -l", "not found")
            assert any(word in made.stderr for word in missing), made.stderr
            pytest.skip(made.stderr.splitlines()[-1])
    return out


def symbols(path: Path) -> list[tuple[int, int, str]]:
    with Elf(path) as elf:
        rows, names = elf.symbol_table()
    return [
        (value, value + max(size, 1), text_at(names, name))
        for name, value, size in rows[rows["info"] & 15 == 2][["name", "value", "size"]].tolist()
    ]


@contextmanager
def running(path: Path, *arguments: str, lines: int) -> Iterator[int]:
    """Its pid, once it has written so many lines and sleeps."""
    with subprocess.Popen([path, *arguments], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            for _ in range(lines):
                assert process.stdout.readline() == b"ready\n"
            stat = Path(f"/proc/{process.pid}/stat")
            while stat.read_text().rpartition(")")[2].split()[0] != "S":
                time.sleep(0.001)
            yield process.pid
        finally:
            process.kill()


def named(frames: list[Frame], path: Path, known: list[tuple[int, int, str]]) -> list[str]:
    """Those of functions of the program itself."""
    return [
        name
        for frame in frames
        if frame.path == str(path)
        for begin, end, name in known
        if begin <= frame.address < end and name in {*CHAIN, "on_signal", "_start"}
    ]


@pytest.mark.parametrize("source", ["chain.c", "throwing.cc"])
@pytest.mark.parametrize("way", WAYS)
def test_rows_are_those_of_readelf(way: str, source: str, folder: Path) -> None:
    if not shutil.which("readelf"):
        pytest.skip("readelf is not installed")
    result = compare(build(source, way, folder))
    print(result)
    assert not result.differences
    assert result.rows >= 20
    assert result.explained.total() <= 10


def test_what_compilers_seldom_write(folder: Path) -> None:
    """In assembly: instructions by number, expressions, registers."""
    if not (shutil.which("readelf") and shutil.which("gcc") and shutil.which("llvm-dwarfdump")):
        pytest.skip("readelf, gcc or llvm-dwarfdump is not installed")
    path = folder / "odd"
    subprocess.run(["gcc", "-o", path, PROGRAMS / "odd.S"], check=True)
    result = compare(path)
    assert not result.differences
    assert not result.unread
    assert result.rows >= 60
    assert result.explained == {
        "the frame pointer is lost": 4,
        "the frame pointer is in a register": 1,
        "another expression": 5,
    }


@pytest.mark.parametrize("where", ["sleeping", "in a signal handler"])
@pytest.mark.parametrize("way", WAYS)
def test_stacks_of_running_programs_are_whole(way: str, where: str, folder: Path) -> None:
    """Every function of the chain, in order, from where it waits to the entry of the program."""
    path = build("chain.c", way, folder)
    known = symbols(path)
    is_signal = where != "sleeping"
    if "stripped" in way:
        path = folder / "stripped"
        subprocess.run(["strip", "-o", path, build("chain.c", way, folder)], check=True)
    arguments = ["signal"] if is_signal else []
    with running(path, *arguments, lines=1 + is_signal) as pid:
        unwinder = Unwinder(pid)
        try:
            with stopped(pid) as registers:
                frames, status = unwinder.stack(registers)
        finally:
            unwinder.close()
    wanted = (["wait_here", "on_signal"] if is_signal else []) + CHAIN + ["_start"]
    assert (named(frames, path, known), status) == (wanted, "complete")
    assert sum(frame.rule.is_signal for frame in frames) == is_signal


@pytest.mark.parametrize("way", ["clang lld", "gcc static-pie"])
def test_stacks_are_whole_at_every_instruction(way: str, folder: Path) -> None:
    """From the very first to the last: 110,000 with a dynamic linker, 54,000 without."""
    path, counts, unwinder = build("chain.c", way, folder), Counter[str](), None
    every = 3 if "static" in way else 7
    with Path("/dev/null").open("wb") as output:
        for pid, registers in stepped([str(path), "exit"], output.fileno(), every):
            unwinder = unwinder or Unwinder(pid)
            frames, status = unwinder.stack(registers)
            if status.endswith("is no code"):  # of a file that has just been mapped
                unwinder.look()
                frames, status = unwinder.stack(registers)
            if status != "complete" and frames[-1].path == str(path):
                status = "in code that GCC adds"  # _init and its kind, some 30 instructions
            counts[status] += 1
    assert unwinder is not None
    unwinder.close()
    print(counts)
    assert counts["complete"] > 2000
    assert counts.pop("in code that GCC adds", 0) <= 40
    if "static" not in way:
        # the function that binds a symbol when it is first called has rbx for its frame
        assert counts.pop("register 3 is not known", 0) < counts["complete"] / 20
    assert set(counts) == {"complete"}
