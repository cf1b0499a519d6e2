"""Go's own table (.gopclntab): functions, inlined functions, files and lines.

All functions are read at once: numbers are decoded, summed and joined as columns.

Format: Go's runtime/symtab.go and runtime/symtabinl.go (_func, inlinedCall).

Used in worker processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from huatuo.enrich.symbols.layer import NONE, Layer, Places, empty
from huatuo.enrich.symbols.varints import Sequences
from huatuo.kernel.elf import Elf, Section
from huatuo.kernel.gopclntab import GoTable, find_go_table

__all__ = ["go_lines"]

_INLINED, _TREE = 2, 3  # PCDATA_InlTreeIndex, FUNCDATA_InlTree
_MOST_NUMBERS = 20 << 20  # bytes of sequences, and steps, beyond which lines are left out
_MOST_STEPS = 5_000_000
_CHUNK = 8192  # functions
_LONGEST_NAME = 4096
_SAMPLE = 64

I8 = npt.NDArray[np.int64]
U1 = npt.NDArray[np.uint8]
U8 = npt.NDArray[np.uint64]
# (starts, offset of the name, offset of the file or -1, line, outer step or -1) of each step
_Steps = tuple[U8, I8, I8, I8, I8]


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
    found = find_go_table(elf)
    table = _Table(elf, found) if found else None
    return table.layer(with_lines) if table and table.functions else empty()


class _Table:
    def __init__(self, elf: Elf, table: GoTable) -> None:
        self._elf, self._table, self._form = elf, table, table.form
        self._data = table.contents()
        self._octets = np.frombuffer(self._data, np.uint8)
        self._names, self._units, self._files = table.names, table.units, table.files
        self._numbers, self._code = table.numbers, table.code
        self._functions = self._read_functions()
        self._trees: tuple[U1, int] | None = None  # bytes with inlined calls, and what is at 0

    @property
    def functions(self) -> int:
        return len(self._functions.entries)

    def _read_functions(self) -> _Functions:
        begins, ends, at = self._table.functions()
        word, form = self._word, self._form
        pcdata, functions = at + form.pcdata, word(at + form.pcdata - 1, 1)
        extra = word(at + form.name + 24)
        inlined = np.where(extra > _INLINED, word(pcdata + 4 * _INLINED), 0)
        trees = np.where(functions > _TREE, self._tree(pcdata + 4 * extra), -1)
        return _Functions(
            begins, ends, word(at + form.name),
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
        sequences = Sequences(octets, np.concatenate(used), self._table.quantum)
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
        bases = [0] if self._form.text is None else self._table.module[32:48].tolist()
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
