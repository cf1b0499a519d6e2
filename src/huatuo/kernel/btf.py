"""BTF (BPF Type Format): the C structs of a .bpf.o file as schemas.

Format: Documentation/bpf/btf.rst. Only what a C compiler emits for our objects is handled; a
record with a bit-field or a pointer is refused, because numpy cannot express it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from huatuo.errors import Malformed
from huatuo.kernel.elf import Elf, text_at
from huatuo.model.meaning import Role, meaning_of
from huatuo.model.record import Field, Schema

__all__ = ["Btf", "MapType", "Variable", "is_exported"]

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _TYPEDEF = 1, 2, 3, 4, 5, 6, 8
_VOLATILE, _CONST, _RESTRICT, _FUNC_PROTO, _VAR, _DATASEC, _DECL_TAG, _TYPE_TAG, _ENUM64 = (
    9,
    10,
    11,
    13,
    14,
    15,
    17,
    18,
    19,
)
# what follows the 12-byte header: (bytes per element of vlen, fixed bytes)
_TAIL = {
    _INT: (0, 4),
    _ARRAY: (0, 12),
    _STRUCT: (12, 0),
    _UNION: (12, 0),
    _ENUM: (8, 0),
    _FUNC_PROTO: (8, 0),
    _VAR: (0, 4),
    _DATASEC: (12, 0),
    _DECL_TAG: (0, 4),
    _ENUM64: (12, 0),
}
_RODATA = ".rodata"
_QUALIFIERS = (_VOLATILE, _CONST, _RESTRICT, _TYPE_TAG)


@dataclass(frozen=True, slots=True)
class _Type:
    name: str
    kind: int
    vlen: int
    flag: bool
    size: int  # or the id of the type referred to
    tail: bytes


@dataclass(frozen=True, slots=True)
class Variable:
    """A scalar in .rodata: a tunable, with its default as compiled."""

    name: str
    offset: int
    dtype: np.dtype[np.generic]
    typedefs: tuple[str, ...]
    help: str
    default: int


@dataclass(frozen=True, slots=True)
class MapType:
    """Key and value of a map as declared; None where the map has none (a ring)."""

    name: str
    key: Schema | None
    value: Schema | None
    help: str


@dataclass(frozen=True, slots=True)
class Btf:
    """What one object file says of itself."""

    variables: Mapping[str, Variable]
    records: Mapping[str, Schema]  # by ring (RING in bpf/record.bpf.h)
    kinds: Mapping[int, str]  # value → label of the enum that KINDS in bpf/sample.bpf.h names
    maps: tuple[MapType, ...]

    @staticmethod
    @cache
    def of(path: Path) -> Btf:
        """Read once; the types themselves, some hundreds of kilobytes an object, are not kept."""
        types = _Types(path)
        return Btf(types.variables(), types.records(), types.kinds(), types.maps())


class _Types:
    """The types of one object file."""

    def __init__(self, path: Path) -> None:
        with Elf(path) as elf:
            if not elf.has(".BTF"):
                raise Malformed(path, "has no .BTF section; compile it with clang -g")
            self._raw = elf.contents(".BTF")
            self._rodata = elf.contents(_RODATA) if elf.has(_RODATA) else b""
            rows, names = elf.symbol_table()
        self._offsets = {text_at(names, name): at for name, at in rows[["name", "value"]].tolist()}
        self.path = path
        self._types = _parse(self._raw)

    @cached_property
    def _tags(self) -> dict[tuple[int, int], list[str]]:
        """(type id, member index or -1) → declaration tags."""
        tags: dict[tuple[int, int], list[str]] = {}
        for entry in self._types:
            if entry.kind == _DECL_TAG:
                (index,) = struct.unpack("<i", entry.tail)
                tags.setdefault((entry.size, index), []).append(entry.name)
        return tags

    def _tag(self, owner: int, index: int, prefix: str) -> str:
        for tag in self._tags.get((owner, index), []):
            if tag.startswith(prefix):
                return tag.removeprefix(prefix)
        return ""

    def _section_variables(self, section: str) -> list[int]:
        """Type ids of the variables in a section."""
        for entry in self._types:
            if entry.kind == _DATASEC and entry.name == section:
                return [variable for variable, _, _ in struct.iter_unpack("<III", entry.tail)]
        return []

    def variables(self) -> dict[str, Variable]:
        found = {}
        for type_id in self._section_variables(_RODATA):
            variable = self._types[type_id]
            base, typedefs = self._resolve(variable.size)
            if self._types[base].kind in (_INT, _ENUM):
                help_text = self._tag(type_id, -1, "doc:")
                dtype = self._dtype(base)
                if self._types[base].name == "_Bool":
                    typedefs = (*typedefs, "bool")
                offset = self._offsets[variable.name]  # BTF has it only once linked
                default = int.from_bytes(self._rodata[offset : offset + dtype.itemsize], "little")
                found[variable.name] = Variable(
                    variable.name, offset, dtype, typedefs, help_text, default
                )
        return found

    def records(self) -> dict[str, Schema]:
        found = {}
        for type_id in self._section_variables(".records"):
            variable = self._types[type_id]
            pointer, _ = self._resolve(variable.size)
            found[variable.name.removesuffix("__record")] = self.schema(self._types[pointer].size)
        return found

    def kinds(self) -> dict[int, str]:
        for type_id in self._section_variables(".kinds"):
            pointer, _ = self._resolve(self._types[type_id].size)
            enum, _ = self._resolve(self._types[pointer].size)
            return self._labels(enum)
        return {}

    def maps(self) -> tuple[MapType, ...]:
        found = []
        for type_id in self._section_variables(".maps"):
            variable = self._types[type_id]
            definition, _ = self._resolve(variable.size)
            members = {
                name: self._types[inner].size
                for name, inner, _ in self._members(definition)
                if name in ("key", "value")
            }
            found.append(
                MapType(
                    variable.name,
                    self.schema(members["key"]) if "key" in members else None,
                    self.schema(members["value"]) if "value" in members else None,
                    self._tag(type_id, -1, "doc:"),
                )
            )
        return tuple(found)

    def schema(self, type_id: int) -> Schema:
        """A struct with its members, or a scalar as a schema of one field named "value"."""
        base, typedefs = self._resolve(type_id)
        entry = self._types[base]
        if entry.kind != _STRUCT:
            plain = Field("value", meaning_of(typedefs))
            dtype = np.dtype(
                {
                    "names": ["value"],
                    "formats": [self._dtype(base)],
                    "offsets": [0],
                    "itemsize": self._size(base),
                }
            )
            return Schema("", dtype, (plain,))
        fields = []
        for index, (name, member, _) in enumerate(self._members(base)):
            resolved, names = self._resolve(member)
            labels: dict[int, str] = {}
            kernel_enum = self._tag(base, index, "kernel_enum:")
            if self._types[resolved].kind in (_ENUM, _ENUM64):
                labels = self._labels(resolved)
            meaning, help_text = meaning_of(names), self._tag(base, index, "doc:")
            inner = self._nested(resolved) if meaning.role is Role.NONE else ()
            fields.append(Field(name, meaning, help_text, labels, kernel_enum, inner))
        return Schema(entry.name, self._dtype(base), tuple(fields), self._tag(base, -1, "doc:"))

    def _nested(self, type_id: int) -> tuple[Field, ...]:
        """Members of a struct, or of the elements of an array of structs; none of anything else."""
        if self._types[type_id].kind == _ARRAY:
            element, _, _ = struct.unpack("<III", self._types[type_id].tail)
            type_id, _ = self._resolve(element)
        return self.schema(type_id).fields if self._types[type_id].kind == _STRUCT else ()

    def _members(self, type_id: int) -> list[tuple[str, int, int]]:
        """(name, type id, byte offset) of a struct's members."""
        entry = self._types[type_id]
        found = []
        for name, member, offset in struct.iter_unpack("<III", entry.tail):
            if (entry.flag and offset >> 24) or offset % 8:
                raise Malformed(self.path, f"struct {entry.name} has a bit-field")
            found.append((self._strings(name), member, (offset & 0xFFFFFF) // 8))
        return found

    def _labels(self, type_id: int) -> dict[int, str]:
        """Enum value → its name in lower case, without the words all its names share."""
        entry = self._types[type_id]
        pairs = [(self._strings(n), v) for n, v in struct.iter_unpack("<Ii", entry.tail)]
        words = [name.split("_") for name, _ in pairs]
        shared = 0
        while len(words) > 1 and all(len(w) > shared + 1 for w in words):
            if len({w[shared] for w in words}) > 1:
                break
            shared += 1
        return {value: "_".join(name.split("_")[shared:]).lower() for name, value in pairs}

    def _resolve(self, type_id: int) -> tuple[int, tuple[str, ...]]:
        """Follow typedefs and qualifiers: (id of the type below, typedef names passed)."""
        typedefs: list[str] = []
        while self._types[type_id].kind in (_TYPEDEF, *_QUALIFIERS):
            if self._types[type_id].kind == _TYPEDEF:
                typedefs.append(self._types[type_id].name)
            type_id = self._types[type_id].size
        return type_id, tuple(typedefs)

    def _dtype(self, type_id: int) -> np.dtype[Any]:
        base, _ = self._resolve(type_id)
        entry = self._types[base]
        if entry.kind == _INT:
            return np.dtype(f"{'i' if entry.tail[3] & 1 else 'u'}{entry.size}")
        if entry.kind in (_ENUM, _ENUM64):
            return np.dtype(f"u{entry.size}")
        if entry.kind == _ARRAY:
            element, _, count = struct.unpack("<III", entry.tail)
            inner, _ = self._resolve(element)
            if self._types[inner].name == "char":
                return np.dtype(f"S{count}")
            return np.dtype((self._dtype(element), (count,)))
        if entry.kind == _STRUCT:
            members = self._members(base)
            return np.dtype(
                {
                    "names": [name for name, _, _ in members],
                    "formats": [self._dtype(member) for _, member, _ in members],
                    "offsets": [offset for _, _, offset in members],
                    "itemsize": entry.size,
                }
            )
        raise Malformed(self.path, f"{entry.name or 'a record'} has a field numpy cannot express")

    def _size(self, type_id: int) -> int:
        return self._dtype(type_id).itemsize

    def _strings(self, offset: int) -> str:
        _, _, _, header, _, _, at, _ = struct.unpack_from("<HBBIIIII", self._raw)
        start = header + at + offset
        return self._raw[start : self._raw.index(b"\0", start)].decode()


def is_exported(schema: Schema | None) -> bool:
    """Whether a map's value holds metrics, and the map is therefore exported."""
    return schema is not None and any(field.meaning.role is not Role.NONE for field in schema)


def _parse(raw: bytes) -> list[_Type]:
    magic, _, _, header, types_at, types_size, names_at, _ = struct.unpack_from("<HBBIIIII", raw)
    if magic != 0xEB9F:
        raise Malformed(".BTF", "wrong magic number")
    names = raw[header + names_at :]
    types = [_Type("void", 0, 0, False, 0, b"")]
    at = header + types_at
    end = at + types_size
    while at < end:
        name, info, size = struct.unpack_from("<III", raw, at)
        kind, vlen = info >> 24 & 0x1F, info & 0xFFFF
        each, fixed = _TAIL.get(kind, (0, 0))
        length = each * vlen + fixed
        text = names[name : names.index(b"\0", name)].decode()
        types.append(
            _Type(text, kind, vlen, bool(info >> 31), size, raw[at + 12 : at + 12 + length])
        )
        at += 12 + length
    return types
