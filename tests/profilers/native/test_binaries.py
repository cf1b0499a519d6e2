"""Files of strangers as they are opened: gone, changed, without a name, too many, too large."""

from __future__ import annotations

import os
import struct
import subprocess
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from huatuo.errors import HuatuoError
from huatuo.kernel.elf import Elf
from huatuo.kernel.host import Host
from huatuo.kernel.procfs import CodeMapping, code_mappings
from huatuo.profilers.native import binaries as module
from huatuo.profilers.native.binaries import Binaries, Binary, Mapped
from huatuo.profilers.native.rows import UnwindFile
from huatuo.profilers.native.rules import NOTHING
from tests.profilers.native.image import EXECUTE, READ, Function, Part, elf, program

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="map_files can be read by root only")

HOST = Host()
NONE = [(0, NOTHING)]


@contextmanager
def sleeping(path: str, *fds: int) -> Iterator[int]:
    with subprocess.Popen([path, "60"], pass_fds=fds) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def own_code(pid: int) -> CodeMapping:
    """The program's own, not its libraries'."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        found = code_mappings(Path(f"/proc/{pid}"))
        name = found[0].name if found else "["
        if not any(word in name for word in ("[", ".so", "python")):  # it has been loaded
            return found[0]
        time.sleep(0.01)
    raise AssertionError("it does not run")


def added(binaries: Binaries, number: int, pid: int, code: CodeMapping, size: int) -> Binary:
    mapped = Mapped(pid, code.start, code.end, code.device, code.inode, size)
    return binaries.add(number, mapped)


def copy_of(source: str, tmp_path: Path) -> Path:
    path = tmp_path / "copy"
    path.write_bytes(Path(source).read_bytes())
    path.chmod(0o755)
    return path


def test_a_deleted_program(tmp_path: Path) -> None:
    path = copy_of("/bin/sleep", tmp_path)
    size = path.stat().st_size
    with sleeping(str(path)) as pid:
        code = own_code(pid)
        path.unlink()
        binary = added(binaries := Binaries(HOST), 2, pid, code, size)
    assert (binary.path, binary.name, binary.problem) == (str(path), "copy", "")
    assert len(binaries.rows(2, code.offset >> 12)) > 3, "also when the process is gone"
    binaries.close()


def test_a_program_that_was_never_a_file() -> None:
    fd = os.memfd_create("hidden")
    os.write(fd, Path("/bin/sleep").read_bytes())
    with sleeping(f"/proc/self/fd/{fd}", fd) as pid:
        code = own_code(pid)
        binary = added(binaries := Binaries(HOST), 2, pid, code, os.fstat(fd).st_size)
    os.close(fd)
    assert (binary.name, binary.problem) == ("memfd:hidden", "")
    assert len(binaries.rows(2, code.offset >> 12)) > 3
    binaries.close()


def test_a_process_that_is_gone() -> None:
    with sleeping("/bin/sleep") as pid:
        code = own_code(pid)
    binary = added(binaries := Binaries(HOST), 2, pid, code, 1)
    assert binary.is_gone
    assert binaries.rows(2, 0) == NONE
    assert binaries.rows(3, 0) == NONE, "nor of what was never reported"
    binaries.close()


def test_a_file_that_has_changed_since_it_was_mapped() -> None:
    with sleeping("/bin/sleep") as pid:
        binary = added(binaries := Binaries(HOST), 2, pid, own_code(pid), 12345)
    assert "not the file that was mapped" in binary.problem
    assert not binary.is_gone
    assert binaries.rows(2, 1) == NONE
    binaries.close()


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[tuple[Binaries, list[Path]]]:
    """Binaries, and files whose number is their place in the list + 2."""
    found, paths = Binaries(HOST), []
    for i in range(30):
        path = tmp_path / f"file{i}"
        path.write_bytes(program([Function(0x1000, 0x80, b"\x41\x0e\x10" * (i % 3))]))
        paths.append(path)
    yield found, paths
    found.close()


def opened(binaries: Binaries, number: int, path: Path) -> None:
    """As if a process had it mapped: our own descriptor leads there."""
    status = path.stat()
    with pytest.MonkeyPatch.context() as patch, path.open("rb") as file:
        link = Path(f"/proc/self/fd/{file.fileno()}")
        patch.setattr(module, "map_file", lambda *_: link)
        mapped = Mapped(os.getpid(), 0, 0, status.st_dev, status.st_ino, status.st_size)
        assert not binaries.add(number, mapped).problem


def descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def test_tables_that_are_given_up_come_back(
    crowd: tuple[Binaries, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    binaries, paths = crowd
    monkeypatch.setattr(module, "_MOST_HELD", 5 * module._SMALLEST)
    for i, path in enumerate(paths):
        opened(binaries, i + 2, path)
    assert len(binaries._tables) == 5
    for _ in range(2):
        for i, path in enumerate(paths):
            with Elf(path) as file:
                assert binaries.rows(i + 2, 1) == UnwindFile(file).rows(1) != NONE
    assert len(binaries._tables) == 5
    assert binaries._held <= module._MOST_HELD


def test_files_are_given_up_and_their_descriptors(
    crowd: tuple[Binaries, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    binaries, paths = crowd
    before = descriptors()
    monkeypatch.setattr(module, "_MOST_FILES", 11)  # the vdso is one
    for i, path in enumerate(paths[:10]):
        opened(binaries, i + 2, path)
    assert binaries.evict() is None
    binaries.rows(2, 1)  # used, so the next one goes
    opened(binaries, 99, paths[10])
    gone = binaries.evict()
    assert gone is not None
    assert (gone.id, gone.inode) == (3, paths[1].stat().st_ino)
    assert binaries.evict() is None
    assert (binaries.rows(3, 1), binaries.rows(2, 1) != NONE) == (NONE, True)
    assert descriptors() == before + 10
    assert len(binaries) == 11


def sparse(tmp_path: Path, data: bytes, size: int) -> Path:
    """That data, and then a hole: as large as it likes, for nothing."""
    path = tmp_path / "sparse"
    path.write_bytes(data)
    os.truncate(path, size)
    return path


def with_section(name: str, size: int, data: bytes = b"\0" * 100) -> bytes:
    """A file whose section says that it is that large."""
    parts = [Part(".text", 0x1000, b"\x90" * 4096, READ | EXECUTE), Part(name, 0x100000, data)]
    if name == ".data.rel.ro":
        parts.insert(1, Part(".go.buildinfo", 0x80000, b"\0" * 64))
    raw = bytearray(elf(parts))
    sections_at = struct.unpack_from("<Q", raw, 40)[0]
    for at in range(sections_at, len(raw), 64):
        if struct.unpack_from("<Q", raw, at + 16)[0] == 0x100000:
            struct.pack_into("<Q", raw, at + 32, size)
    return bytes(raw)


def names_without_end(size: int) -> bytes:
    raw = bytearray(elf([Part(".text", 0x1000, b"\x90" * 4096, READ | EXECUTE)]))
    (sections_at,) = struct.unpack_from("<Q", raw, 40)
    struct.pack_into("<Q", raw, sections_at + 64 * 2 + 32, size)
    return bytes(raw)


def go_head(count: int) -> bytes:
    return struct.pack("<IHBB8Q", 0xFFFFFFF1, 0, 1, 8, count, 0, 0x1000, 72, 72, 72, 72, 72)


SIZE = 6 << 30
LARGE = {
    "names of sections": names_without_end(SIZE),
    "what may have a Go table": with_section(".data.rel.ro", SIZE),
    "a Go table": with_section(".gopclntab", SIZE, go_head(1 << 20)),
    "a Go table that counts too high": with_section(".gopclntab", SIZE, go_head(1 << 40)),
    "relocations": with_section(".rela.dyn", SIZE),
    "frames": with_section(".eh_frame", SIZE),
    "their index": with_section(".eh_frame_hdr", SIZE, b"\1\x1b\3\x3b" + b"\xff" * 8),
    "debug frames": with_section(".debug_frame", SIZE),
}


@pytest.mark.parametrize("what", LARGE)
def test_sizes_that_are_said_cost_nothing(what: str, tmp_path: Path) -> None:
    """A hole of 6 GiB: opening and compiling stay within seconds and some ten MiB."""
    path = sparse(tmp_path, LARGE[what], SIZE + (1 << 24))
    began = time.process_time()
    compile_some(path)
    spent = time.process_time() - began
    tracemalloc.start()
    compile_some(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"{what}: {spent:.3f} s, {peak >> 10} KiB at most")
    assert spent < 5
    assert peak < 100 << 20


def compile_some(path: Path) -> None:
    with suppress(HuatuoError), Elf(path) as file:
        unwind = UnwindFile(file)
        for page in (1, 2, 0x100):
            assert unwind.rows(page)[0][0] == 0
