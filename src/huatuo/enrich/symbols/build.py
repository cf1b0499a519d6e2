"""Builds symbol tables: what a worker process does with the files it is given.

Everything is opened first, with the agent's rights; then the process becomes nobody, and only then
looks inside. What one source of symbols cannot be read for, the others make up for.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from huatuo.enrich.symbols.debug_files import OpenElf, debug_file
from huatuo.enrich.symbols.dwarf import dwarf_lines, prepare, with_linkers_names
from huatuo.enrich.symbols.elf_symbols import code_symbols, frame_starts, mini_debug, plt_stubs
from huatuo.enrich.symbols.go_table import go_lines
from huatuo.enrich.symbols.layer import Layer, compact, empty, laid_upon
from huatuo.enrich.symbols.rust import demangle_rust
from huatuo.enrich.symbols.table import Source, write
from huatuo.errors import Malformed
from huatuo.kernel.demangle import demangle_cpp
from huatuo.kernel.elf import Elf
from huatuo.kernel.worker import allow_cpu, give_up_privileges

__all__ = ["Effort", "Plan", "Request", "build"]

_GO_ALONE = 0.95  # of a program's code: then DWARF says nothing new
_EXECUTABLE = 4  # SHF_EXECINSTR
_NOTHING = Source(0)


class Effort:
    """What is tried; a file that was too much is tried again with less."""

    ALL, NO_LINES, NO_NAMES = range(3)


class Request(msgspec.Struct):
    """One file, seen by its processes at `path`. `binary`, `root` and `out` are descriptors."""

    binary: int
    root: int
    out: int
    path: str
    effort: int = Effort.ALL


class Plan(msgspec.Struct):
    """All of a worker's work. `host_root` is a descriptor; servers are those of debuginfod."""

    requests: list[Request]
    host_root: int
    directory: str
    cpu_seconds: int
    servers: list[str] = []
    download_seconds: float = 60
    download_bytes: int = 1 << 30


@dataclass(slots=True)
class _Opened:
    request: Request
    binary: OpenElf
    debug: OpenElf | None = None
    sources: Source = _NOTHING
    problems: list[str] = field(default_factory=list)


def build(plan: dict[str, object]) -> Iterator[dict[str, object]]:
    """`plan` is a Plan. Says which file it is at, and of each what became of it:

    {"at": index}, {"built": index, "sources": …, "problems": […]} or {"failed": index, "why": …}
    """
    work = msgspec.convert(plan, Plan)
    opened: dict[int, _Opened] = {}
    for index, request in enumerate(work.requests):
        yield {"at": index}
        try:
            opened[index] = _open(request, work)
        except (OSError, Malformed) as error:
            yield {"failed": index, "why": str(error)}
    _prepare()
    give_up_privileges()
    for index, file in opened.items():
        allow_cpu(work.cpu_seconds)
        yield {"at": index}
        layer = _layer(file)
        rename = _unchanged if file.request.effort >= Effort.NO_NAMES else readable
        if rename is _unchanged:
            file.sources |= Source.MANGLED
        write(file.request.out, compact(layer, rename), file.sources, int(time.time()))
        yield {"built": index, "sources": int(file.sources), "problems": file.problems}


def _prepare() -> None:
    """Load what is loaded lazily, while its files can still be read."""
    prepare()
    demangle_cpp(b"_Z1fv")
    with contextlib.suppress(ImportError):
        importlib.import_module("backports.zstd")


def _open(request: Request, work: Plan) -> _Opened:
    file = _Opened(request, OpenElf.of(request.binary))
    roots = [request.root, work.host_root]
    elf = file.binary.elf
    if elf.has(".debug_info"):
        return file
    file.debug = debug_file(elf, request.path, [root for root in roots if root >= 0])
    if file.debug is None and work.servers and elf.build_id and not elf.has(".gopclntab"):
        _download(file, work)
    return file


def _download(file: _Opened, work: Plan) -> None:
    from huatuo.enrich.symbols.debuginfod import Unreachable, download  # HTTP, rarely needed

    try:
        file.debug = download(
            work.servers, file.binary.elf.build_id, Path(work.directory),
            work.download_seconds, work.download_bytes,
        )  # fmt: skip
    except Unreachable as error:
        file.problems.append(str(error))
        file.sources |= Source.PARTIAL
    else:
        file.sources |= Source.DEBUGINFOD if file.debug else _NOTHING


def _layer(file: _Opened) -> Layer:
    """All that is known of a file, the best of it on top."""
    binary, described = file.binary.elf, file.debug or file.binary
    with_lines = file.request.effort < Effort.NO_LINES
    go = _read(file, Source.GO, lambda: go_lines(binary, with_lines))
    symbols = _read(file, Source.SYMTAB, lambda: code_symbols(_tables(file)))
    lines = empty()
    if with_lines and _covered(binary, go) < _GO_ALONE:
        lines = _read(file, Source.DWARF, lambda: dwarf_lines(described.elf, described.fd))
    return functools.reduce(
        laid_upon,
        [
            go,
            with_linkers_names(lines, symbols),
            symbols,
            _read(file, Source.DYNSYM, lambda: plt_stubs(binary)),
            _read(file, Source.FRAMES, lambda: frame_starts(binary)),
        ],
    )


def _read(file: _Opened, source: Source, read: Callable[[], Layer]) -> Layer:
    """What one source says; nothing, and a problem, if it cannot be read."""
    try:
        found = read()
    except Exception as error:  # the files of strangers: whatever is wrong with them
        file.problems.append(f"{source.name}: {type(error).__name__}: {error}"[:300])
        return empty()
    if len(found.starts):
        file.sources |= source
    return found


def _tables(file: _Opened) -> Iterator[tuple[Elf, str]]:
    """Every table of symbols that this file or its companions have."""
    binary = file.binary.elf
    if file.debug is not None:
        yield file.debug.elf, ".symtab"
        file.sources |= Source.SEPARATE
    yield binary, ".symtab"
    try:
        inner = mini_debug(binary)
    except Malformed as error:
        file.problems.append(str(error))
    else:
        if inner is not None:
            file.sources |= Source.MINI
            yield inner, ".symtab"
    yield binary, ".dynsym"


def _covered(elf: Elf, layer: Layer) -> float:
    """Which part of the code a layer without gaps speaks of."""
    code = sum(section.size for section in elf.section_list if section.flags & _EXECUTABLE)
    return int(layer.starts[-1] - layer.starts[0]) / code if code and len(layer.starts) else 0.0


def readable(name: bytes) -> bytes:
    """A linker's name as written in the source, if it is one of C++ or Rust."""
    if not name.startswith((b"_Z", b"_R")):
        return name
    stem, at, rest = name.partition(b"@")  # @plt
    found = demangle_rust(stem.decode(errors="replace"))
    readable_stem = demangle_cpp(stem) if found is None else found.encode(errors="replace")
    return readable_stem + at + rest


def _unchanged(name: bytes) -> bytes:
    return name
