"""Symbols of real programs, through worker processes; binutils and LLVM are the other source."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from huatuo.enrich.symbols import native
from huatuo.enrich.symbols.native import Symbols
from huatuo.enrich.symbols.table import Source
from huatuo.kernel.elf import Elf
from huatuo.kernel.host import Host
from huatuo.model.profile import Line
from tests.enrich.symbols.toolchain import (
    Frames,
    addr2line,
    binary_file,
    run,
    sample,
    tool,
)

Compile = Callable[..., Path]


def known(symbols: Symbols, path: Path, addresses: list[int]) -> list[Frames]:
    """Builds the table and asks it."""
    file = binary_file(path)
    symbols.lines(file, addresses[:1])
    assert symbols.settle(120)
    found = []
    for lines in symbols.lines(file, addresses):
        assert lines is not None
        found.append([(line.function, line.file, line.line) for line in lines])
    return found


def where(path: Path, name: str) -> tuple[int, int]:
    """(address, size) of a function, by nm."""
    for line in run(tool("nm"), "-S", path).splitlines():
        words = line.split()
        if len(words) == 4 and words[3] == name:
            return int(words[0], 16), int(words[1], 16)
    raise AssertionError(f"{path} has no {name}")


def plain(frames: Frames) -> Frames:
    """Without what GCC appends to symbols: addr2line names the outermost function by its symbol."""
    appended = r"( \[clone [^]]+\]|\.(cold|part|isra|constprop)(\.\d+)?)+$"
    return [(re.sub(appended, "", name), file, line) for name, file, line in frames]


@pytest.mark.parametrize("options", [(), ("-gdwarf-4",), ("-gz",), ("-no-pie",)], ids=str)
@pytest.mark.parametrize("source", ["shapes.c", "shapes.cpp"])
def test_functions_inlined_functions_and_lines_are_those_of_addr2line(
    symbols: Symbols, compiled: Compile, source: str, options: tuple[str, ...]
) -> None:
    path = compiled(source, *options)
    addresses = sample(path)
    found, wanted = known(symbols, path, addresses), addr2line(path, addresses)
    compared = different = deepest = 0
    for ours, theirs in zip(found, wanted, strict=True):
        if not theirs or not ours or not ours[0][1]:
            continue  # between functions
        compared += 1
        deepest = max(deepest, len(theirs))
        different += plain(ours) != plain(theirs)
    assert compared > 0.95 * sum(1 for frames in wanted if frames) > 200
    # addr2line gives members of templates over local types the name of their caller, and some
    # inlined lines the file of their caller.
    assert different <= (0 if source == "shapes.c" else 0.02 * compared)
    assert deepest >= (3 if source == "shapes.c" else 6)


def test_cold_parts_belong_to_their_functions(symbols: Symbols, compiled: Compile) -> None:
    """GCC puts them far away, behind each other, under names of their own."""
    path = compiled("shapes.cpp")
    parts = re.findall(r"^(\w+) \w+ t (\w+)\.cold$", run(tool("nm"), "-S", path), re.M)
    assert len(parts) >= 2
    wanted = run(tool("c++filt"), text="\n".join(name for _, name in parts)).splitlines()
    found = known(symbols, path, [int(at, 16) for at, _ in parts])
    assert [frames[-1][0] for frames in found] == wanted


def test_linkers_names_are_readable(symbols: Symbols, compiled: Compile) -> None:
    path = compiled("shapes.cpp")
    mangled = "_ZNK8geometry7PolygonIfLi5EE4sameINS0_IlLi5EEEEEbRKT_"
    begin, _ = where(path, mangled)
    [frames] = known(symbols, path, [begin])
    assert frames[-1][0] == (
        "bool geometry::Polygon<float, 5>::same<geometry::Polygon<long, 5> >"
        "(geometry::Polygon<long, 5> const&) const"
    )
    assert frames[-1][0] == run(tool("c++filt"), mangled).strip()


@pytest.mark.parametrize("scheme", ["v0", "default"])
def test_rust(symbols: Symbols, compiled: Compile, scheme: str) -> None:
    options = ["-C", "symbol-mangling-version=v0"] if scheme == "v0" else []
    path = compiled("shapes.rs", *options)
    symbolizer = tool("llvm-symbolizer", *(f"llvm-symbolizer-{v}" for v in range(20, 13, -1)))
    prefix = "_RN" if scheme == "v0" else "_ZN"
    functions = [
        (int(words[0], 16), int(words[1], 16))
        for words in map(str.split, run(tool("nm"), "-S", path).splitlines())
        if len(words) == 4 and words[3].startswith(prefix) and "shapes" in words[3]
    ]
    addresses = [at for begin, size in functions for at in range(begin, begin + size, 7)]
    said = run(
        symbolizer, "--output-style=GNU", "-i", "-f", "-a", "-e", path,
        text="\n".join(map(hex, addresses)),
    )  # fmt: skip
    wanted = [
        [
            (os.path.normpath(file), int(line))
            for file, line in re.findall(r"^(/.*):(\d+)$", part, re.M)
        ]
        for part in re.split(r"^0x\w+\n", said, flags=re.M)[1:]
    ]
    found = known(symbols, path, addresses)
    assert len(addresses) > 300
    assert max(map(len, wanted)) >= 4
    same = sum(
        [frame[1:] for frame in frames] == theirs
        for frames, theirs in zip(found, wanted, strict=True)
    )
    assert same >= 0.94 * len(addresses)  # LLVM and symbolic differ on ranges without a line
    names = {frame[0] for frames in found for frame in frames}
    area = "<shapes::Square<f32> as shapes::Shape>::area"
    assert (area if scheme == "v0" else area.replace("f32", "T")) in names
    closure = "{closure#0}" if scheme == "v0" else "{{closure}}"
    assert {"shapes::grown", f"shapes::main::{closure}"} <= names
    assert not any(name.startswith(("_R", "_ZN")) or "$" in name for name in names)


def stripped(path: Path, out: Path, *options: str) -> Path:
    run(tool("objcopy"), "--strip-all", *options, path, out)
    return out


def debug_of(path: Path, out: Path) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    run(tool("objcopy"), "--only-keep-debug", path, out)
    return out


def build_id_path(path: Path) -> str:
    with Elf(path) as elf:
        return f"usr/lib/debug/.build-id/{elf.build_id[:2]}/{elf.build_id[2:]}.debug"


class Container:
    """A root of its own, as /proc/PID/root shows it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "opt/app").mkdir(parents=True)
        self.program = root / "opt/app/program"

    def lines(self, symbols: Symbols, addresses: list[int]) -> list[tuple[Line, ...] | None]:
        file = binary_file(self.program, self.root, "/opt/app/program")
        symbols.lines(file, addresses)
        assert symbols.settle(60)
        return symbols.lines(file, addresses)


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container(tmp_path / "root")


@pytest.fixture
def hidden(compiled: Compile) -> tuple[Path, int]:
    """A program, and an address in a function that is in .symtab and DWARF only, twice inlined."""
    path = compiled("shapes.c")
    begin, size = where(path, "hidden")
    depths = addr2line(path, range(begin, begin + size))
    return path, begin + next(i for i, frames in enumerate(depths) if len(frames) == 3)


def test_debug_file_by_build_id(
    symbols: Symbols, container: Container, hidden: tuple[Path, int]
) -> None:
    path, address = hidden
    stripped(path, container.program)
    debug_of(path, container.root / build_id_path(path))
    [lines] = container.lines(symbols, [address])
    assert lines
    assert [(each.function, each.line) for each in lines] == [
        (name, line) for name, _, line in addr2line(path, [address])[0]
    ]


@pytest.mark.parametrize("place", ["opt/app", "opt/app/.debug", "usr/lib/debug/opt/app"])
def test_debug_file_by_debuglink(
    symbols: Symbols, container: Container, hidden: tuple[Path, int], place: str, tmp_path: Path
) -> None:
    path, address = hidden
    debug = debug_of(path, tmp_path / "made" / "program.debug")
    stripped(path, container.program, f"--add-gnu-debuglink={debug}", "-R", ".note.gnu.build-id")
    (container.root / place).mkdir(parents=True, exist_ok=True)
    shutil.copy(debug, container.root / place)
    [lines] = container.lines(symbols, [address])
    assert lines
    assert [each.function for each in lines] == ["twice", "four_times", "hidden"]


def test_debug_file_with_another_checksum_or_build_id_is_not_taken(
    symbols: Symbols,
    container: Container,
    hidden: tuple[Path, int],
    compiled: Compile,
    tmp_path: Path,
) -> None:
    path, address = hidden
    debug = debug_of(path, tmp_path / "made" / "program.debug")
    stripped(path, container.program, f"--add-gnu-debuglink={debug}")
    other = debug_of(compiled("shapes.cpp"), container.root / build_id_path(path))
    (container.root / "opt/app" / "program.debug").write_bytes(debug.read_bytes() + b"x")
    assert other.exists()
    [lines] = container.lines(symbols, [address])
    with Elf(container.program) as elf:
        text = elf.sections[".text"]
    assert text.address <= address < text.address + text.size
    begin, _ = where(path, "hidden")
    assert lines == (Line(f"program:{begin:#x}"),)  # where the function begins, by .eh_frame


def test_debug_files_are_not_followed_out_of_the_root(
    symbols: Symbols, container: Container, hidden: tuple[Path, int], tmp_path: Path
) -> None:
    """A link is followed as the container sees it: this one leads to nothing there."""
    path, address = hidden
    stripped(path, container.program)
    outside = debug_of(path, tmp_path / "secret" / "program.debug")
    link = container.root / build_id_path(path)
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    [lines] = container.lines(symbols, [address])
    assert lines
    assert lines[0].file == ""


def test_debug_files_are_found_through_links_within_the_root(
    symbols: Symbols, container: Container, hidden: tuple[Path, int]
) -> None:
    path, address = hidden
    stripped(path, container.program)
    debug_of(path, container.root / "data" / "program.debug")
    link = container.root / build_id_path(path)
    link.parent.mkdir(parents=True)
    link.symlink_to("/data/program.debug")  # absolute: from the container's root
    [lines] = container.lines(symbols, [address])
    assert lines
    assert lines[-1].function == "hidden"


def test_a_process_with_a_root_of_its_own(
    symbols: Symbols, container: Container, compiled: Compile
) -> None:
    """As the agent meets it: by its number only, the debug file below the process's root."""
    if os.geteuid() != 0:
        pytest.skip("chroot needs root")
    path = compiled("shapes.c", "-static")
    stripped(path, container.program)
    debug_of(path, container.root / build_id_path(path))
    address, _ = where(path, "hidden")
    with subprocess.Popen(["chroot", container.root, "/opt/app/program", "wait"]) as process:
        try:
            proc = Path(f"/proc/{process.pid}")
            while (proc / "exe").readlink().name != "program":
                time.sleep(0.01)
            status = container.program.stat()
            identity = native.Identity(status.st_dev, status.st_ino, status.st_size)
            with Elf(container.program) as elf:
                build_id = elf.build_id
            file = native.BinaryFile(
                identity, "/opt/app/program", proc / "exe", proc / "root", build_id
            )
            assert symbols.lines(file, [address]) == [None]
        finally:
            process.kill()
    assert symbols.settle(30)  # the process is gone; its files were opened before
    [lines] = symbols.lines(file, [address])
    assert lines
    assert (lines[-1].function, Path(lines[-1].file).name) == ("hidden", "shapes.c")


def test_the_c_library_with_its_debug_file(symbols: Symbols) -> None:
    path = libc()
    debug = Path("/") / build_id_path(path)
    if not debug.exists():
        pytest.skip(f"{debug} is not installed (libc6-dbg)")
    addresses = sample(path, 1500)
    found, wanted = known(symbols, path, addresses), addr2line(debug, addresses)
    compared = same = 0
    for ours, theirs in zip(found, wanted, strict=True):
        if not theirs or not ours or not ours[0][1]:
            continue
        compared += 1
        # Of aliases either may be named, and addr2line mistakes the files of inlined lines.
        same += [frame[2] for frame in ours] == [frame[2] for frame in theirs]
    assert compared > 0.95 * len(addresses)
    assert same == compared


def test_mini_debug_information(
    symbols: Symbols, container: Container, hidden: tuple[Path, int], tmp_path: Path
) -> None:
    path, address = hidden
    mini = tmp_path / "mini"
    run(tool("objcopy"), "-S", "--keep-symbol=hidden", "--keep-symbol=main", path, mini)
    run(tool("xz"), "--keep", mini)
    stripped(path, container.program, "--add-section", f".gnu_debugdata={mini}.xz")
    exported, _ = where(path, "exported")
    main, _ = where(path, "main")
    answers = container.lines(symbols, [address, main + 1])
    assert answers == [(Line("hidden"),), (Line("main"),)]
    assert exported


def test_assembler_functions_without_a_size(symbols: Symbols, compiled: Compile) -> None:
    path = compiled("shapes.c")
    out = run(tool("nm"), path)
    match = re.search(r"^(\w+) T written_by_hand$", out, re.M)
    assert match
    begin = int(match[1], 16)
    following = min(
        int(at, 16) for at in re.findall(r"^(\w+) [tTW] ", out, re.M) if int(at, 16) > begin
    )
    found = known(symbols, path, [begin, begin + 3])
    assert [frames[-1][0] for frames in found] == ["written_by_hand"] * 2
    assert following > begin + 3


def libc() -> Path:
    for line in Path("/proc/self/maps").read_text().splitlines():
        if re.search(r"/libc[.-]", line):
            return Path(line.split()[-1])
    pytest.skip("this Python does not use a C library from a file")


def test_functions_of_the_c_library_are_those_of_nm(container: Container, symbols: Symbols) -> None:
    """Without its debug file: below this root there is none, and host files are not hidden, so
    the build id is removed."""
    run(
        tool("objcopy"),
        "-R",
        ".note.gnu.build-id",
        "-R",
        ".gnu_debuglink",
        libc(),
        container.program,
    )
    names: dict[int, set[str]] = {}
    sizes: dict[int, int] = {}
    for line in run(tool("nm"), "-D", "-S", "--defined-only", container.program).splitlines():
        words = line.split()
        if len(words) == 4 and words[2] in "tTwWi":
            begin = int(words[0], 16)
            names.setdefault(begin, set()).add(words[3].partition("@")[0])
            sizes[begin] = max(sizes.get(begin, 0), int(words[1], 16))
    assert len(names) > 1500
    answers = container.lines(symbols, [begin + sizes[begin] // 2 for begin in names])
    inner = 0
    for begin, lines in zip(names, answers, strict=True):
        assert lines
        assert len(lines) == 1
        inner += lines[0].function not in names[begin]
    assert inner <= 5  # functions that lie within others
    malloc = next(begin for begin, known in names.items() if "malloc" in known)
    assert container.lines(symbols, [malloc]) == [(Line("malloc"),)]


def test_stubs_are_named_by_what_they_call(symbols: Symbols, compiled: Compile) -> None:
    path = compiled("shapes.c", "-Wl,-z,lazy", "-fcf-protection=none", "-fplt")
    stubs = {
        match[2]: int(match[1], 16)
        for match in re.finditer(r"^(\w+) <(\w+)@plt>:", run(tool("objdump"), "-d", path), re.M)
    }
    assert {"strlen", "printf"} <= stubs.keys()
    wanted = [name for name in stubs if not name.startswith("__cxa")]
    found = known(symbols, path, [stubs[name] for name in wanted])
    assert [frames[0][0] for frames in found] == [f"{name}@plt" for name in wanted]


def test_addresses_outside_of_all_functions(symbols: Symbols, compiled: Compile) -> None:
    assert known(symbols, compiled("shapes.c"), [0, 1, 2**40, 2**64 - 1]) == [[], [], [], []]


def test_what_is_no_program_has_no_names_and_is_not_tried_again(
    symbols: Symbols, tmp_path: Path
) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"\x7fELF" + b"no" * 5000)
    status = path.stat()
    file = native.BinaryFile(
        native.Identity(status.st_dev, status.st_ino, status.st_size), str(path), path
    )
    assert symbols.lines(file, [1, 2]) == [None, None]
    assert symbols.settle(30)
    assert symbols.ready() == [file]
    assert symbols.lines(file, [1, 2]) == [(), ()]
    assert symbols.sources(file) == Source.FAILED
    assert (symbols.counts.failed, symbols.counts.workers) == (1, 1)
    symbols.close()
    again = Symbols(Host(), tmp_path / "symbols")
    assert again.lines(file, [1]) == [()]
    assert again.pending == 0
    again.close()


def test_failures_are_tried_again_the_next_day(
    symbols: Symbols, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"text" * 100)
    file = native.BinaryFile(native.Identity(1, 1, 400), str(path), path, build_id="ab" * 20)
    for day in range(2):
        assert symbols.lines(file, [1]) == ([()] if day else [None])
        assert symbols.settle(30)
        assert symbols.ready() == [file]
        assert symbols.lines(file, [1]) == [()]
        assert symbols.counts.workers == day + 1
        now = time.time()
        monkeypatch.setattr(time, "time", lambda now=now: now + 86401)
        symbols.ready()


def test_a_file_that_is_gone_is_unknown_and_may_come_back(
    symbols: Symbols, compiled: Compile
) -> None:
    path = compiled("shapes.c")
    file = binary_file(path)
    gone = native.BinaryFile(
        file.identity, file.path, Path("/proc/0/exe"), file.root, file.build_id
    )
    assert symbols.lines(gone, [1]) == [None]
    assert symbols.pending == 0
    assert symbols.counts.refused == 1
    symbols._refused.clear()  # (half a minute later)
    assert symbols.lines(file, [where(path, "main")[0]]) == [None]
    assert symbols.settle(30)
    assert symbols.ready() == [file]
    [lines] = symbols.lines(gone, [where(path, "main")[0]])  # the same file, by its identity
    assert lines
    assert lines[-1].function == "main"


def test_a_file_replaced_by_another_is_not_taken(symbols: Symbols, compiled: Compile) -> None:
    file = binary_file(compiled("shapes.c"))
    other = compiled("shapes.cpp")
    replaced = native.BinaryFile(file.identity, file.path, other, file.root, file.build_id)
    assert symbols.lines(replaced, [1]) == [None]
    assert symbols.pending == 0


def test_fifos_do_not_block(symbols: Symbols, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    file = native.BinaryFile(native.Identity(1, 2, 0), "/fifo", fifo, Path("/"), "00" * 20)
    assert symbols.lines(file, [1]) == [None]
    assert symbols.pending == 0


def test_files_are_built_in_the_loop_while_it_runs(symbols: Symbols, compiled: Compile) -> None:
    files = [binary_file(compiled(name)) for name in ("shapes.c", "shapes.cpp")]

    async def agent() -> float:
        task = asyncio.create_task(symbols.run())
        await asyncio.sleep(0)
        for file in files:
            symbols.lines(file, [1])
        longest, found = 0.0, list[native.BinaryFile]()
        deadline = time.monotonic() + 30
        while len(found) < len(files) and time.monotonic() < deadline:
            begin = time.monotonic()
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - begin)
            found += symbols.ready()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert sorted(file.path for file in found) == sorted(file.path for file in files)
        return longest

    assert asyncio.run(agent()) < 0.5  # the loop is not held up
    assert symbols.counts.built == 2
    assert symbols.counts.workers == 1  # small files go together


def test_tables_are_found_again(compiled: Compile, tmp_path: Path) -> None:
    path = compiled("shapes.c")
    file, main = binary_file(path), where(path, "main")[0]
    for attempt in range(2):
        symbols = Symbols(Host(), tmp_path / "symbols")
        first = symbols.lines(file, [main])
        assert (first == [None]) is (attempt == 0)
        assert symbols.settle(30)
        [lines] = symbols.lines(file, [main])
        assert lines
        assert lines[-1].function == "main"
        assert symbols.counts.workers == 1 - attempt
        symbols.close()


def test_a_kill_while_building_leaves_a_usable_folder(compiled: Compile, tmp_path: Path) -> None:
    path, directory = compiled("shapes.cpp"), tmp_path / "symbols"
    program = (
        "import sys, time; from pathlib import Path\n"
        "from huatuo.kernel.host import Host\n"
        "from huatuo.enrich.symbols.native import Symbols\n"
        "from tests.enrich.symbols.toolchain import binary_file\n"
        "symbols = Symbols(Host(), Path(sys.argv[2]))\n"
        "symbols.lines(binary_file(Path(sys.argv[1])), [1])\n"
        "symbols.ready(); print(symbols._builder._job.worker.pid, flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, path, directory], stdout=subprocess.PIPE, text=True
    ) as agent:
        assert agent.stdout
        worker = int(agent.stdout.readline())
        agent.kill()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [entry.suffix for entry in directory.iterdir()] == [".tmp"]
    for entry in directory.iterdir():
        os.utime(entry, (0, 0))
    symbols = Symbols(Host(), directory)
    assert list(directory.iterdir()) == []
    assert known(symbols, path, [where(path, "main")[0]])[0][-1][0] == "main"
    symbols.close()
