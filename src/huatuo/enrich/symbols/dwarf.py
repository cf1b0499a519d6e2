"""DWARF → functions, inlined functions, files, lines: by `symbolic`, whose result we take.

`symbolic` writes a "SymCache"; it is read here once, with numpy, and becomes a layer like all
others. Its form belongs to the version that is pinned in pyproject.toml; of another one nothing is
taken.

Used in worker processes: it needs several times the size of the debug information.
"""

from __future__ import annotations

import contextlib
import importlib
import mmap
import os
import posixpath
import re
import struct
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from huatuo.enrich.symbols.layer import DEEPEST, NONE, Layer, Places, empty
from huatuo.errors import Malformed
from huatuo.kernel.elf import Elf
from huatuo.kernel.worker import allow_memory

__all__ = ["dwarf_lines", "prepare", "with_linkers_names"]

_MAGIC, _VERSION = int.from_bytes(b"SYMC", "little"), 9
_HEADER = np.dtype(
    [
        *(("magic", "<u4"), ("version", "<u4"), ("id", "V32"), ("arch", "<u4")),
        *(("files", "<u4"), ("functions", "<u4"), ("locations", "<u4"), ("ranges", "<u4")),
        *(("strings", "<u4"), ("variables", "<u2"), ("reserved", "V14")),
    ]
)
_FILE = np.dtype([("base", "<u4"), ("directory", "<u4"), ("name", "<u4"), ("rest", "V12")])
_FUNCTION = np.dtype([("name", "<u4"), ("base", "<u4"), ("entry", "<u4"), ("language", "<u4")])
_LOCATION = np.dtype([("file", "<u4"), ("line", "<u4"), ("function", "<u4"), ("outer", "<u4")])
_LONGEST = 8192
_MANGLED = (b"_Z", b"_R")
_COLD = re.compile(rb"\.cold(\.\d+)?$")
_ELF = struct.Struct("<QQ4xHHHHH")  # e_phoff … e_shnum of an ELF64 header, from offset 32
_SYMTAB, _DYNSYM, _PT_DYNAMIC = 2, 11, 2


def prepare() -> None:
    """Load `symbolic` while its files can still be read; without it there is no DWARF."""
    with contextlib.suppress(ImportError):
        importlib.import_module("symbolic")


def dwarf_lines(elf: Elf, fd: int) -> Layer:
    """Of the file that `elf` and `fd` are. Malformed if `symbolic` cannot read it.

    What it takes from .symtab beside DWARF, functions without a file, is left out: those rules are
    ours.
    """
    if not (elf.has(".debug_info") and elf.has(".debug_line")) or not elf.segments:
        return empty()
    size = os.fstat(fd).st_size
    allow_memory(size)  # a private mapping counts as memory, although it takes none
    try:
        cache = _Cache(_symcache(fd, size), str(elf.name))
    finally:
        allow_memory(-size)
    starts = cache.ranges.astype(np.uint64) + np.uint64(elf.segments[0].address)
    at = _with_source(cache)
    return Layer(starts, at, _places(cache))


def with_linkers_names(lines: Layer, symbols: Layer) -> Layer:
    """What DWARF names without its scope, as templates over local types, is named by its symbol."""
    places, steps = lines.places, np.flatnonzero(lines.at != NONE)
    if not len(steps) or not len(symbols.starts):
        return lines
    index = np.searchsorted(symbols.starts, lines.starts[steps], side="right") - 1
    symbol = np.where(index >= 0, symbols.at[np.maximum(index, 0)], np.uint32(NONE))
    known = symbol != NONE
    root = _outermost(places)[lines.at[steps[known]]]
    name = symbols.places.names[symbol[known]]
    is_mangled = np.array([text.startswith(_MANGLED) for text in symbols.places.texts])
    is_plain = np.array([not text.startswith(_MANGLED) for text in places.texts])
    better = is_mangled[name] & is_plain[places.names[root]]
    names = places.names.copy()
    names[root[better]] = name[better] + np.uint32(len(places.texts))
    texts = [*places.texts, *(_COLD.sub(b"", text) for text in symbols.places.texts)]
    return replace(lines, places=replace(places, names=names, texts=texts))


def _outermost(places: Places) -> npt.NDArray[np.uint32]:
    """For each place the function that it is in, after all inlining."""
    roots = np.arange(len(places), dtype=np.uint32)
    for _ in range(DEEPEST):
        outers = places.outers[roots]
        if np.all(outers == NONE):
            break
        roots = np.where(outers == NONE, roots, outers)
    return roots


def _symcache(fd: int, size: int) -> bytes:
    from cffi import FFI  # type: ignore[import-untyped]  # symbolic depends on it
    from symbolic.debuginfo import Archive

    mapped = mmap.mmap(fd, size, access=mmap.ACCESS_COPY)
    _hide_symbols(mapped)
    view = FFI().from_buffer(mapped)
    try:
        archive = Archive.from_bytes(view)
        cache = next(archive.iter_objects()).make_symcache()
        written = bytes(cache.open_stream().read())  # type: ignore[no-untyped-call]
    except Exception as error:  # its errors have no common class
        raise Malformed("its debug information", f"cannot be read: {error}") from error
    del cache, archive  # before the memory that they look into
    return written


def _hide_symbols(image: mmap.mmap) -> None:
    """From `symbolic`, which prefers their names to those of DWARF, and takes the wrong ones for
    functions in several parts (GCC's .cold): what is said of symbols becomes something else.
    """
    programs_at, sections_at, _, _, programs, _, sections = _ELF.unpack_from(image, 32)
    for at, count, size, field, symbols in (
        (sections_at, sections, 64, 4, (_SYMTAB, _DYNSYM)),
        (programs_at, programs, 56, 0, (_PT_DYNAMIC,)),
    ):
        for place in range(at + field, at + count * size, size):
            if int.from_bytes(image[place : place + 4], "little") in symbols:
                image[place : place + 4] = bytes(4)


class _Cache:
    """The sections of a SymCache, each aligned to 8 bytes."""

    def __init__(self, data: bytes, name: str) -> None:
        header = np.frombuffer(data, _HEADER, 1)[0]
        if header["magic"] != _MAGIC or header["version"] != _VERSION or header["variables"]:
            raise Malformed(name, f"symbolic writes a form that is not known: {header['version']}")
        self._data, self._offset = data, _HEADER.itemsize
        self.files = self._section(_FILE, header["files"])
        self.functions = self._section(_FUNCTION, header["functions"])
        self.locations = self._section(_LOCATION, header["locations"])
        self.ranges = self._section(np.dtype("<u4"), header["ranges"])
        self._strings = self._offset

    def _section(self, dtype: np.dtype, count: int) -> npt.NDArray:  # type: ignore[type-arg]
        found = np.frombuffer(self._data, dtype, int(count), self._offset)
        self._offset += (found.nbytes + 7) // 8 * 8
        return found

    def text(self, offset: int) -> bytes:
        """A string: its length in LEB128, then so many bytes; b"" for NONE."""
        if offset == NONE:
            return b""
        at, size, shift = self._strings + offset, 0, 0
        while True:
            byte = self._data[at]
            size |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return self._data[at : at + min(size, _LONGEST)]


def _with_source(cache: _Cache) -> npt.NDArray[np.uint32]:
    """The location of each range, NONE for gaps and for what has no source."""
    first = len(cache.locations) - len(cache.ranges)  # the last ones belong to the ranges
    locations = cache.locations[first:]
    sourced = (locations["file"] != NONE) | (locations["outer"] != NONE)
    at = np.arange(first, first + len(cache.ranges), dtype=np.uint32)
    return np.where(sourced, at, np.uint32(NONE))


def _places(cache: _Cache) -> Places:
    texts = [cache.text(offset) for offset in cache.functions["name"].tolist()]
    functions = len(texts)
    texts.extend(_paths(cache))
    rows = cache.locations
    files = np.where(rows["file"] == NONE, rows["file"], rows["file"] + np.uint32(functions))
    lines = np.where(rows["line"] == NONE, 0, rows["line"])
    return Places(rows["function"].copy(), files, lines.astype(np.uint32), rows["outer"], texts)


def _paths(cache: _Cache) -> Iterator[bytes]:
    for base, directory, name, _ in cache.files.tolist():
        yield posixpath.normpath(
            posixpath.join(cache.text(base), cache.text(directory), cache.text(name))
        )
