"""Sets of labels in columns: a sample knows the number of its set, a set its words by code.

Everything about labels is decided on the distinct words of a column, of which there are few, and
carried to sets and samples by indexing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from huatuo.store.codec import BadBlock, decode_codes, encode_codes
from huatuo.store.profile.stored import clean

__all__ = ["LabelTable", "combine"]

Ints = npt.NDArray[np.int64]
_Stored = tuple[int, list[tuple[str, list[str], bytes]]]

_WIDEST = 2**62
_pack = msgspec.msgpack.Encoder()
_unpack = msgspec.msgpack.Decoder(_Stored)


@dataclass(frozen=True, slots=True)
class LabelTable:
    """`columns`: name → (words, codes int64 (size,)). The word of a set without the label is ""."""

    size: int
    columns: Mapping[str, tuple[Sequence[str], Ints]]

    @classmethod
    def of(cls, sets: Sequence[Mapping[str, str]]) -> LabelTable:
        """Sets by their position."""
        columns: dict[str, tuple[Sequence[str], Ints]] = {}
        for name in sorted({name for labels in sets for name in labels}):
            values = [labels.get(name, "") for labels in sets]
            plain = {word: clean(word) for word in dict.fromkeys(values)}
            code = {word: at for at, word in enumerate(dict.fromkeys(plain.values()))}
            code_of = {word: code[each] for word, each in plain.items()}
            codes = np.fromiter(map(code_of.__getitem__, values), np.int64, len(values))
            columns[clean(name)] = list(code), codes
        return cls(len(sets), columns)

    @classmethod
    def joined(cls, tables: Sequence[LabelTable]) -> LabelTable:
        """One after the other."""
        columns: dict[str, tuple[Sequence[str], Ints]] = {}
        for name in sorted({name for table in tables for name in table.columns}):
            code: dict[str, int] = {}
            parts = []
            for table in tables:
                words, codes = table.column(name)
                new = np.array([code.setdefault(word, len(code)) for word in words], np.int64)
                parts.append(new[codes])
            columns[name] = list(code), np.concatenate(parts)
        return cls(sum(table.size for table in tables), columns)

    def distinct(self) -> tuple[LabelTable, Ints]:
        """The same without repetitions, and the new number of each set."""
        keys = combine([codes for _, codes in self.columns.values()], self.size)
        _, first, number = np.unique(keys, return_index=True, return_inverse=True)
        columns = {name: (words, codes[first]) for name, (words, codes) in self.columns.items()}
        return LabelTable(len(first), columns), number.astype(np.int64, copy=False)

    def column(self, name: str) -> tuple[Sequence[str], Ints]:
        return self.columns.get(name) or ([""], np.zeros(self.size, np.int64))

    def encode(self) -> bytes:
        columns = [
            (name, words, encode_codes(codes)) for name, (words, codes) in self.columns.items()
        ]
        return _pack.encode((self.size, columns))

    @classmethod
    def decode(cls, data: bytes | memoryview) -> LabelTable:
        """Raises BadBlock."""
        try:
            size, stored = _unpack.decode(data)
            columns: dict[str, tuple[Sequence[str], Ints]] = {}
            for name, words, codes in stored:
                columns[name] = words, decode_codes(memoryview(codes), size)[0]
        except (msgspec.MsgspecError, IndexError) as error:
            raise BadBlock(str(error)) from error
        return cls(size, columns)


def combine(columns: Sequence[Ints], size: int) -> Ints:
    """A number for each of `size` rows, equal where the rows are equal in all columns."""
    keys, span = np.zeros(size, np.int64), 1
    for column in columns:
        width = int(column.max(initial=0)) + 1
        if span * width > _WIDEST:
            keys = np.unique(keys, return_inverse=True)[1].astype(np.int64, copy=False)
            span = size
        keys = keys * width + column
        span *= width
    return keys
