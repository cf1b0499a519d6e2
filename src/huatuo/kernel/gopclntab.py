"""Go's own table (.gopclntab) as it lies in a program: where it is, its parts, its functions.

Every Go program carries it, stripped or not, because its runtime prints stacks with it. Known are
the forms of Go 1.16 and later.

Format: Go's runtime/symtab.go (pcHeader, moduledata, _func).
"""

from __future__ import annotations

import re
import struct
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from huatuo.errors import Malformed
from huatuo.kernel.elf import Elf, Section

__all__ = ["Form", "GoTable", "find_go_table"]

_SECTIONS = (".gopclntab", ".data.rel.ro.gopclntab")
_MODULES = (".go.module", ".noptrdata", ".data", ".data.rel.ro")
_RELATIVE = (8, 1027)  # R_X86_64_RELATIVE, R_AARCH64_RELATIVE
_RELA = np.dtype([("offset", "<u8"), ("info", "<u8"), ("addend", "<u8")])
_HEADER_SIZE = 72
_MOST_FUNCTIONS = 1 << 20  # ten times as many as the largest programs have
_MOST_RELOCATED = 32 << 20  # bytes of relocations, and of the data they are in
_SEARCHED = 1 << 20  # bytes at once
_MOST_SEARCHED = 128 << 20
_TEXT = 22  # the word of the module's record that says where the code begins

I8 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint64]


class Form(NamedTuple):
    """Where things are, by the table's magic: in the header's words, in a function, in a call."""

    text: int | None  # the header's word with the start of the code; None: entries are absolute
    parts: int  # the first of five words: names, compilation units, files, numbers, functions
    name: int  # of the function's name; args, deferreturn and pcsp follow
    pcdata: int  # of the words behind the function; before: kind, flags, nothing, number of more
    call_size: int  # of an inlined call
    call_name: int
    call_parent: int


_FORMS = {
    0xFFFFFFFA: Form(None, 2, 8, 44, 20, 12, 16),  # Go 1.16
    0xFFFFFFF0: Form(2, 3, 4, 40, 20, 12, 16),  # 1.18
    0xFFFFFFF1: Form(2, 3, 4, 44, 16, 4, 8),  # 1.20
}
_BEGIN = re.compile(rb"[\xf0\xf1\xfa]\xff\xff\xff\0\0[\1\4]\x08")  # those, how wide numbers are
_BEGIN_SIZE = 8


class GoTable:
    """Malformed if it is not as it should be. The Elf stays the caller's.

    `names`, `units`, `files`, `numbers` (sequences) and `code` (functions) are where these parts
    begin, in bytes from the table's own beginning; `quantum` is what lengths of code count.
    """

    def __init__(self, elf: Elf, address: int, offset: int, size: int) -> None:
        self._elf, self.address, self._offset, self.size = elf, address, offset, size
        head = _relocated(elf, address, self.read(0, _HEADER_SIZE))
        magic, self.quantum, pointer = struct.unpack_from("<IxxBB", head)
        if magic not in _FORMS or pointer != 8:
            raise Malformed(elf.name, f"a Go table of a form that is not known ({magic:#x})")
        self.form = form = _FORMS[magic]
        words = struct.unpack_from("<8Q", head, 8)
        self.count = words[0]
        parts = words[form.parts : form.parts + 5]
        self.names, self.units, self.files, self.numbers, self.code = parts
        if self.count > _MOST_FUNCTIONS or max(parts) > size:
            raise Malformed(elf.name, "a Go table that reaches beyond its section")
        self._stated = words[form.text] if form.text is not None else 0

    def read(self, at: int, size: int) -> bytes:
        """As they lie in the file; Malformed outside of the table."""
        if not 0 <= at <= at + size <= self.size:
            raise Malformed(self._elf.name, "a Go table that refers to what is behind its end")
        return self._elf.read(self._offset + at, size)

    def contents(self) -> bytes:
        """All of it, as the loader leaves it; what follows the table may come along."""
        return _relocated(self._elf, self.address, self.read(0, self.size))

    @cached_property
    def module(self) -> U8:
        """The words of the runtime's record of this program, none if it is not found."""
        return _module(self._elf, self.address)

    @property
    def text(self) -> int:
        """Where Go's code begins: since 1.26 the header does not say."""
        if self._stated or self.form.text is None:
            return int(self._stated)
        if len(self.module) > _TEXT:
            return int(self.module[_TEXT])
        section = self._elf.sections.get(".text")
        return section.address if section else 0

    def functions(self) -> tuple[U8, U8, I8]:
        """(where it begins, where it ends, offset of its record) of each function, by address."""
        wide = self.form.text is None
        table = self.read(self.code, (2 * self.count + 1) * (8 if wide else 4))
        if wide:
            table = _relocated(self._elf, self.address + self.code, table)
        numbers = np.frombuffer(table, "<u8" if wide else "<u4").astype(np.uint64)
        entries = numbers[::2] + np.uint64(0 if wide else self.text)
        good = entries[1:] > entries[:-1]  # of entries out of order none is kept
        good[1:] &= np.maximum.accumulate(entries[:-2]) < entries[1:-1]
        at = numbers[1::2].astype(np.int64)[good] + self.code
        return entries[:-1][good], entries[1:][good], at


def find_go_table(elf: Elf) -> GoTable | None:
    """None in what is no Go program. Malformed if the table is not as it should be.

    Where the system's linker made a program that can be loaded anywhere, the table is somewhere in
    .data.rel.ro, found by how it begins.
    """
    for name in _SECTIONS:
        if elf.has(name):
            section = elf.sections[name]
            if section.size <= _HEADER_SIZE:
                return None
            return GoTable(elf, section.address, section.offset, section.size)
    if elf.has(".go.buildinfo") and elf.has(".data.rel.ro"):
        section = elf.sections[".data.rel.ro"]
        at = _find_begin(elf, section)
        if at is not None and at + _HEADER_SIZE < section.size:
            return GoTable(elf, section.address + at, section.offset + at, section.size - at)
    return None


def _find_begin(elf: Elf, section: Section) -> int | None:
    """Of the table in a section."""
    for first in range(0, min(section.size, _MOST_SEARCHED), _SEARCHED):
        size = min(_SEARCHED + _BEGIN_SIZE, section.size - first)
        for match in _BEGIN.finditer(elf.read(section.offset + first, size)):
            if match.start() % 8 == 0:
                return first + match.start()
    return None


def _relocations(elf: Elf) -> npt.NDArray[np.void]:
    """Pointers that the loader will fill in: for programs that can be loaded anywhere."""
    limit = _MOST_RELOCATED
    data = elf.contents(".rela.dyn", limit) or elf.contents(".rela", limit)
    rows = np.frombuffer(data[: len(data) // _RELA.itemsize * _RELA.itemsize], _RELA)
    return rows[np.isin(rows["info"], _RELATIVE)]


def _relocated(elf: Elf, address: int, data: bytes) -> bytes:
    """The bytes at an address as the loader leaves them, if loaded at 0."""
    rows = _relocations(elf)
    end = address + len(data) // 8 * 8
    rows = rows[(rows["offset"] >= address) & (rows["offset"] + np.uint64(8) <= end)]
    if not len(rows):
        return data
    changed = bytearray(data)
    octets = np.frombuffer(changed, np.uint8)
    at = (rows["offset"] - np.uint64(address)).astype(np.int64)
    octets[at[:, None] + np.arange(8)] = rows["addend"].copy().view(np.uint8).reshape(-1, 8)
    return bytes(changed)


def _module(elf: Elf, table: int) -> U8:
    """The record's first word points to the table."""
    for name in _MODULES:
        section = elf.sections.get(name)
        if section is None or not elf.has(name):
            continue
        data = _relocated(elf, section.address, elf.contents(name, _MOST_RELOCATED))
        words = np.frombuffer(data[: len(data) // 8 * 8], "<u8")
        for index in np.flatnonzero(words == np.uint64(table)).tolist():
            found = words[index : index + 64]
            if len(found) > 48 and found[20] == found[22] and found[21] <= found[23]:
                return found.astype(np.uint64)
    return np.zeros(0, np.uint64)
