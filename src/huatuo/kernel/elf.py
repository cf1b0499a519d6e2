"""What is needed of an ELF64 little-endian file: its sections and its symbols."""

from __future__ import annotations

import struct
from pathlib import Path

from huatuo.errors import Malformed

__all__ = ["Elf"]

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_NOBITS = 8


class Elf:
    """`sections`: name → contents; `symbols`: name → (section name, value).

    Raises Malformed if `path` is not such a file, OSError if it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        if data[:6] != b"\x7fELF\x02\x01":
            raise Malformed(path, "not a 64-bit little-endian ELF file")
        header = _HEADER.unpack_from(data)
        offset, size, count, names_index = header[6], header[11], header[12], header[13]
        entries = [_SECTION.unpack_from(data, offset + i * size) for i in range(count)]
        bodies = [b"" if e[1] == _NOBITS else data[e[4] : e[4] + e[5]] for e in entries]
        self._names = [_text(bodies[names_index], e[0]) for e in entries]
        self.sections = dict(zip(self._names, bodies, strict=True))
        self.symbols = self._read_symbols()

    def _read_symbols(self) -> dict[str, tuple[str, int]]:
        table, names = self.sections.get(".symtab", b""), self.sections.get(".strtab", b"")
        found = {}
        for name, _, _, index, value, _ in _SYMBOL.iter_unpack(table):
            if 0 < index < len(self._names):
                found[_text(names, name)] = (self._names[index], value)
        return found


def _text(names: bytes, offset: int) -> str:
    return names[offset : names.index(b"\0", offset)].decode()
