"""Go's own table (.gopclntab): functions, inlined functions, files and lines.

Every Go program carries it, stripped or not, because its runtime prints stacks with it. Read for
Go 1.16 and later, all functions at once: numbers are decoded, summed and joined as columns.

Format: Go's runtime/symtab.go and runtime/symtabinl.go (pcHeader, moduledata, _func, inlinedCall).

Used in worker processes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from huatuo.enrich.symbols.layer import NONE, Layer, Places, empty
from huatuo.enrich.symbols.varints import Sequences
from huatuo.errors import Malformed
from huatuo.kernel.elf import Elf, Section

__all__ = ["go_lines"]

_SECTIONS = (".gopclntab", ".data.rel.ro.gopclntab")
_MODULES = (".go.module", ".noptrdata", ".data", ".data.rel.ro")
_INLINED, _TREE = 2, 3  # PCDATA_InlTreeIndex, FUNCDATA_InlTree
_RELATIVE = (8, 1027)  # R_X86_64_RELATIVE, R_AARCH64_RELATIVE
_RELA = np.dtype([("offset", "<u8"), ("info", "<u8"), ("addend", "<u8")])
_HEADER_SIZE = 72
_MOST_NUMBERS = 20 << 20  # bytes of sequences, and steps, beyond which lines are left out
_MOST_STEPS = 5_000_000
_CHUNK = 8192  # functions
_MOST_FUNCTIONS = 1 << 22
_LONGEST_NAME = 4096
_SAMPLE = 64

I8 = npt.NDArray[np.int64]
U1 = npt.NDArray[np.uint8]
U8 = npt.NDArray[np.uint64]
# (starts, offset of the name, offset of the file or -1, line, outer step or -1) of each step
_Steps = tuple[U8, I8, I8, I8, I8]


class _Form(NamedTuple):
    """Where things are, by the table's magic: in the header's words, in a function, in a call."""

    text: int | None  # the header's word with the start of the code; None: entries are absolute
    parts: int  # the first of five words: names, compilation units, files, numbers, functions
    name: int  # of the function's name; args, deferreturn and pcsp follow
    pcdata: int  # of the words behind the function
    call_size: int  # of an inlined call
    call_name: int
    call_parent: int


_FORMS = {
    0xFFFFFFFA: _Form(None, 2, 8, 44, 20, 12, 16),  # Go 1.16
    0xFFFFFFF0: _Form(2, 3, 4, 40, 20, 12, 16),  # 1.18
    0xFFFFFFF1: _Form(2, 3, 4, 44, 16, 4, 8),  # 1.20
}


@dataclass(frozen=True, slots=True)
class _Functions:
    """Columns (n,), ascending by `entries`; `ends` is the next entry."""

    entries: U8
    ends: U8
    names: I8  # offset of the name
    files: I8  # offset of the sequence of file numbers, as for `lines` and `inlined`
    lines: I8
    inlined: I8  # 0: none
    units: I8
    trees: I8  # where the inlined calls are, relative to Go's data of functions; -1: none

    def chunk(self, which: slice) -> _Functions:
        return _Functions(*(getattr(self, name)[which] for name in self.__slots__))


def go_lines(elf: Elf, with_lines: bool = True) -> Layer:
    """Empty for what is no Go program. Malformed if the table is not as it should be."""
    address, data = _find(elf)
    if len(data) <= _HEADER_SIZE:
        return empty()
    table = _Table(elf, address, data)
    return table.layer(with_lines) if table.functions else empty()


def _find(elf: Elf) -> tuple[int, bytes]:
    """(address, bytes) of the table; the bytes may reach beyond its end.

    Where the system's linker made a program that can be loaded anywhere, the table is somewhere in
    .data.rel.ro, found by how it begins.
    """
    for name in _SECTIONS:
        if elf.has(name):
            address = elf.sections[name].address
            return address, _relocated(elf, address, elf.contents(name))
    if elf.has(".go.buildinfo") and elf.has(".data.rel.ro"):
        address, data = elf.sections[".data.rel.ro"].address, elf.contents(".data.rel.ro")
        for magic in _FORMS:
            for quantum in (1, 4):
                at = data.find(struct.pack("<IHBB", magic, 0, quantum, 8))
                if at >= 0 and at % 8 == 0:
                    return address + at, _relocated(elf, address + at, data[at:])
    return 0, b""


class _Table:
    def __init__(self, elf: Elf, address: int, data: bytes) -> None:
        magic, quantum, pointer = struct.unpack_from("<IxxBB", data)
        if magic not in _FORMS or pointer != 8:
            raise Malformed(elf.name, f"a Go table of a form that is not known ({magic:#x})")
        self._elf, self._data, self._form = elf, data, _FORMS[magic]
        self._octets = np.frombuffer(data, np.uint8)
        words = struct.unpack_from("<8Q", data, 8)
        parts = self._form.parts
        self._names, self._units, self._files, self._numbers, self._code = words[parts : parts + 5]
        if words[0] > _MOST_FUNCTIONS or max(words[parts : parts + 5]) > len(data):
            raise Malformed(elf.name, "a Go table that reaches beyond its section")
        self._module = _module(elf, address)
        base = 0
        if self._form.text is not None:
            base = self._text(words[self._form.text])
        self._functions = self._read_functions(words[0], base)
        self._quantum = quantum
        self._trees: tuple[U1, int] | None = None  # bytes with inlined calls, and what is at 0

    @property
    def functions(self) -> int:
        return len(self._functions.entries)

    def _text(self, stated: int) -> int:
        """Where Go's code begins: since 1.26 the header does not say."""
        if len(self._module) > 22:
            return int(self._module[22])
        section = self._elf.sections.get(".text")
        return stated or (section.address if section else 0)

    def _read_functions(self, count: int, base: int) -> _Functions:
        wide = self._form.text is None
        size = (2 * count + 1) * (8 if wide else 4)
        table = self._data[self._code : self._code + size]
        if len(table) < size:
            raise Malformed(self._elf.name, "a Go table that ends within its functions")
        numbers = np.frombuffer(table, "<u8" if wide else "<u4").astype(np.uint64)
        entries = numbers[::2] + np.uint64(base)
        good = entries[1:] > entries[:-1]  # of entries out of order none is kept
        good[1:] &= np.maximum.accumulate(entries[:-2]) < entries[1:-1]
        at = numbers[1::2].astype(np.int64)[good] + self._code
        word, form = self._word, self._form
        pcdata, functions = at + form.pcdata, word(at + form.pcdata - 1, 1)
        extra = word(at + form.name + 24)
        inlined = np.where(extra > _INLINED, word(pcdata + 4 * _INLINED), 0)
        trees = np.where(functions > _TREE, self._tree(pcdata + 4 * extra), -1)
        return _Functions(
            entries[:-1][good], entries[1:][good], word(at + form.name),
            word(at + form.name + 16), word(at + form.name + 20), inlined,
            word(at + form.name + 28), np.where(inlined > 0, trees, -1),
        )  # fmt: skip

    def _tree(self, at: I8) -> I8:
        if self._form.text is not None:
            offsets = self._word(at + 4 * _TREE)
            return np.where(offsets == NONE, -1, offsets)
        pointers = self._word((at + 7) // 8 * 8 + 8 * _TREE, 8)  # (sections are aligned to 8)
        return np.where(pointers == 0, -1, pointers)

    def _word(self, at: I8, size: int = 4) -> I8:
        """Numbers of the table; 0 outside of it."""
        return _numbers(self._octets, at, size)

    def layer(self, with_lines: bool) -> Layer:
        """One place for each step of any of the three sequences: file, line, inlined call.

        Of very large programs only the functions: their lines would be a cache of 100 MB.
        """
        functions = self._functions
        size = self._code - self._numbers
        if not with_lines or not 0 < size <= _MOST_NUMBERS:
            return self._names_only()
        used = (functions.files, functions.lines, functions.inlined)
        octets = self._octets[self._numbers : self._code]
        sequences = Sequences(octets, np.concatenate(used), self._quantum)
        if sum(int(sequences.steps(each).sum()) for each in used) > _MOST_STEPS:
            return self._names_only()
        count = len(functions.entries)
        chunks = [slice(begin, begin + _CHUNK) for begin in range(0, count, _CHUNK)]
        parts = [self._steps(functions.chunk(chunk), sequences) for chunk in chunks]
        return self._joined(parts)

    def _names_only(self) -> Layer:
        functions = self._functions
        nothing = np.full(len(functions.entries), -1, np.int64)
        names, zeros = functions.names, np.zeros_like(nothing)
        return self._joined([(functions.entries, names, nothing, zeros, nothing)])

    def _steps(self, functions: _Functions, sequences: Sequences) -> _Steps:
        used = (functions.files, functions.lines, functions.inlined)
        columns = [sequences.laid_out(functions.entries, functions.ends, each) for each in used]
        starts = np.unique(np.concatenate([points for points, _ in columns]))
        of = np.searchsorted(functions.entries, starts, side="right") - 1
        files, lines, calls = (
            values[np.searchsorted(points, starts, side="right") - 1].astype(np.int64)
            for points, values in columns
        )
        names, outers = self._inlined(functions, starts, of, calls)
        at = self._units + 4 * (functions.units[of] + files)
        return starts, names, np.where(files >= 0, self._word(at), -1), lines, outers

    def _joined(self, parts: Sequence[_Steps]) -> Layer:
        offsets = np.cumsum([0, *(len(part[0]) for part in parts)])
        outers = [
            np.where(part[4] >= 0, part[4] + offset, -1)
            for part, offset in zip(parts, offsets, strict=False)
        ]
        starts, names, files, lines = (
            np.concatenate([part[column] for part in parts]) for column in range(4)
        )
        at = np.arange(len(starts), dtype=np.uint32)
        last = self._functions.ends[-1:]
        return Layer(
            np.append(starts, last),
            np.append(at, np.full(len(last), NONE, np.uint32)),
            self._places(names, files, np.maximum(lines, 0), np.concatenate(outers)),
        )

    def _inlined(self, functions: _Functions, starts: U8, of: I8, calls: I8) -> tuple[I8, I8]:
        """(offset of the name, outer step or -1) of each step: of an inlined call, or none."""
        names, outers = functions.names[of], np.full(len(of), -1, np.int64)
        inside = np.flatnonzero((calls >= 0) & (functions.trees[of] >= 0))
        of_inside, form = of[inside], self._form
        at = functions.trees[of_inside] + calls[inside] * form.call_size
        if self._trees is None:
            self._trees = self._find_trees(at)
        octets, base = self._trees or (self._octets[:0], 0)
        if not len(octets):
            return names, outers
        names[inside] = _numbers(octets, at - base + form.call_name)
        parents = _numbers(octets, at - base + form.call_parent).astype(np.uint64)
        step = np.searchsorted(starts, functions.entries[of_inside] + parents, side="right") - 1
        outers[inside] = np.where((of[step] == of_inside) & (step != inside), step, -1)
        return names, outers

    def _find_trees(self, calls: I8) -> tuple[U1, int] | None:
        """(bytes of a section, what is at their beginning): where inlined calls make sense.

        Go's data of functions begins at a word of the module's record, which moves from version to
        version: the right one is that from which names of functions begin where names begin.
        """
        if not len(calls):
            return None
        sample = calls[np.linspace(0, len(calls) - 1, min(_SAMPLE, len(calls))).astype(np.int64)]
        bases = [0] if self._form.text is None else self._module[32:48].tolist()
        for base in bases:
            section = next(
                (s for s in self._elf.section_list if _holds(s, base or sample[0])), None
            )
            if section is None:
                continue
            octets = np.frombuffer(self._elf.read(section.offset, section.size), np.uint8)
            names = _numbers(octets, sample + base - section.address + self._form.call_name)
            before = self._word(self._names + names - 1, 1)
            sensible = (names > 0) & (names < self._units - self._names) & (before == 0)
            if sensible.mean() > 0.9:
                return octets, section.address - base
        return octets[:0], 0

    def _places(self, names: I8, files: I8, lines: I8, outers: I8) -> Places:
        name_offsets, name_of = np.unique(names, return_inverse=True)
        file_offsets, file_of = np.unique(files, return_inverse=True)
        texts = [_shortened(self._text_at(self._names + at)) for at in name_offsets.tolist()]
        texts += [self._text_at(self._files + at) for at in file_offsets.tolist()]
        return Places(
            name_of.astype(np.uint32),
            np.where(files >= 0, file_of + len(name_offsets), NONE).astype(np.uint32),
            lines.astype(np.uint32),
            np.where(outers >= 0, outers, NONE).astype(np.uint32),
            texts,
        )

    def _text_at(self, offset: int) -> bytes:
        end = self._data.find(b"\0", offset, offset + _LONGEST_NAME)
        return self._data[offset : end if end >= 0 else offset + _LONGEST_NAME]


def _shortened(name: bytes) -> bytes:
    """generic[go.shape.int] → generic[...], as Go itself prints it."""
    begin, end = name.find(b"["), name.rfind(b"]")
    return name[:begin] + b"[...]" + name[end + 1 :] if 0 <= begin < end else name


def _holds(section: Section, address: int) -> bool:
    begin = section.address
    return section.has_data and 0 < begin <= address < begin + section.size


def _numbers(octets: U1, at: I8, size: int = 4) -> I8:
    inside = (at >= 0) & (at + size <= len(octets))
    place = np.where(inside, at, 0)
    if len(octets) < size:
        return np.zeros(len(at), np.int64)
    taken = octets[place[:, None] + np.arange(size)]
    found = taken.copy().view(f"<u{size}")[:, 0].astype(np.int64)
    return np.where(inside, found, 0)


def _relocations(elf: Elf) -> npt.NDArray[np.void]:
    """Pointers that the loader will fill in: for programs that can be loaded anywhere."""
    data = elf.contents(".rela.dyn") or elf.contents(".rela")
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
    """The words of the runtime's record of this program: its first one points to the table."""
    for name in _MODULES:
        section = elf.sections.get(name)
        if section is None or not elf.has(name):
            continue
        data = _relocated(elf, section.address, elf.contents(name))
        words = np.frombuffer(data[: len(data) // 8 * 8], "<u8")
        for index in np.flatnonzero(words == np.uint64(table)).tolist():
            found = words[index : index + 64]
            if len(found) > 48 and found[20] == found[22] and found[21] <= found[23]:
                return found.astype(np.uint64)
    return np.zeros(0, np.uint64)
