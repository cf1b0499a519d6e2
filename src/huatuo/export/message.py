"""Protobuf messages declared as classes, read and written as bytes and as JSON.

    class Point(Message):
        value: Annotated[float, 1] = 0.0
        timestamp: Annotated[int, 2] = 0
        labels: Annotated[list[LabelPair], 3] = []

The field's name is the one in the .proto file, its number stands in the annotation. int is int64
unless a kind follows the number (`Annotated[int, 3, "fixed64"]`) or an IntEnum. Kinds of numbers
are those below; `list[…]` is repeated (numbers packed), `… | None` is known to be absent.
Fields that are not declared are skipped.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, NamedTuple, Self, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
import numpy as np

from huatuo.export.wire import (
    FIXED64,
    LENGTH,
    VARINT,
    WireError,
    fields,
    packed,
    tag,
    unpacked,
    varint,
)

__all__ = ["Message"]

_DOUBLE = struct.Struct("<d")
_WIDE = struct.Struct("<Q")
_SIGN = 1 << 63
_VECTOR = 64  # numbers from which numpy is faster


class _Field(NamedTuple):
    """`kind`: text, bytes, bool, double, message, or one of the kinds of whole numbers."""

    name: str
    json_name: str
    number: int
    kind: str
    type: Any  # of one value
    repeated: bool
    optional: bool
    wire: int
    head: bytes  # of a field: its tag; of repeated numbers that of the packed ones


class _Budget:
    """What decoding may still create: a small message of a stranger must not fill the memory."""

    def __init__(self, objects: int) -> None:
        self.left = objects

    def spend(self, objects: int) -> None:
        self.left -= objects
        if self.left < 0:
            raise WireError("the message has too many parts")


M = TypeVar("M", bound="Message")


class Message(msgspec.Struct, gc=False):
    """Base of all; see the module."""

    def encode(self) -> bytes:
        """Fields at their default are left out, as proto3 has it."""
        out: list[bytes] = []
        for field in _schema(type(self)):
            value = getattr(self, field.name)
            if field.repeated:
                if len(value):
                    out.append(_repeated(field, value))
            elif value if not field.optional else value is not None:
                out.append(_single(field, value))
        return b"".join(out)

    @classmethod
    def decode(cls, data: bytes | memoryview, objects: int = 500_000) -> Self:
        """At most `objects` messages, texts and (by eights) packed numbers. Raises WireError."""
        return _decode(cls, memoryview(data), _Budget(objects))

    def to_json(self) -> dict[str, Any]:
        """proto3's JSON as plain objects: 64-bit numbers are texts, defaults left out."""
        shown: dict[str, Any] = {}
        for field in _schema(type(self)):
            value = getattr(self, field.name)
            if field.repeated:
                if len(value):
                    shown[field.json_name] = _show_all(field, value)
            elif value if not field.optional else value is not None:
                shown[field.json_name] = _show(field, value)
        return shown

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Both spellings of names; unknown ones are skipped. Raises WireError."""
        return _parse(cls, value)


# -- the schema ------------------------------------------------------------------------------------

_WIRES = {"fixed64": FIXED64, "double": FIXED64, "text": LENGTH, "bytes": LENGTH, "message": LENGTH}
_KINDS = {str: "text", bytes: "bytes", bool: "bool", float: "double", int: "int64"}


@cache
def _schema(cls: type[Message]) -> tuple[_Field, ...]:
    hints = get_type_hints(cls, include_extras=True)
    return tuple(_declared(name, hint) for name, hint in hints.items())


def _declared(name: str, hint: Any) -> _Field:
    plain, number, *more = get_args(hint)
    repeated = get_origin(plain) in (list, Sequence)
    optional = get_origin(plain) in (Union, UnionType)
    if repeated:
        (plain,) = get_args(plain)
    elif optional:
        (plain,) = (one for one in get_args(plain) if one is not NoneType)
    kind = more[0] if more and isinstance(more[0], str) else _kind(plain)
    if more and not isinstance(more[0], str):
        kind, plain = "enum", more[0]
    # a message that is absent differs from one that is empty
    optional = optional or (kind == "message" and not repeated)
    wire = _WIRES.get(kind, VARINT)
    head = tag(number, LENGTH if repeated else wire)
    return _Field(name, _camel(name), number, kind, plain, repeated, optional, wire, head)


def _kind(plain: Any) -> str:
    return "message" if issubclass(plain, Message) else _KINDS[plain]


def _camel(name: str) -> str:
    return re.sub(r"_(.)", lambda found: found[1].upper(), name)


@cache
def _by_number(cls: type[Message]) -> dict[int, _Field]:
    return {field.number: field for field in _schema(cls)}


@cache
def _by_json_name(cls: type[Message]) -> dict[str, _Field]:
    known = {field.name: field for field in _schema(cls)}
    return known | {field.json_name: field for field in _schema(cls)}


# -- bytes -----------------------------------------------------------------------------------------

_BODIES: dict[str, Callable[[Any], bytes]] = {
    "text": lambda value: value.encode("utf-8", "replace"),
    "bytes": bytes,
    "message": lambda value: value.encode(),
    "double": _DOUBLE.pack,
    "fixed64": lambda value: _WIDE.pack(value & (1 << 64) - 1),
}


def _single(field: _Field, value: Any) -> bytes:
    if field.wire == VARINT:
        return field.head + varint(value)
    data = _BODIES[field.kind](value)
    return field.head + varint(len(data)) + data if field.wire == LENGTH else field.head + data


def _repeated(field: _Field, values: Any) -> bytes:
    if field.wire == LENGTH:
        body = _BODIES[field.kind]
        out: list[bytes] = []
        for value in values:
            data = body(value)
            out += (field.head, varint(len(data)), data)
        return b"".join(out)
    if field.wire == VARINT and (isinstance(values, np.ndarray) or len(values) >= _VECTOR):
        data = packed(np.asarray(values))
    else:
        data = b"".join(map(_BODIES.get(field.kind, varint), values))
    return field.head + varint(len(data)) + data


def _decode(cls: type[M], data: memoryview, budget: _Budget) -> M:
    budget.spend(1)
    message = cls()
    known = _by_number(cls)
    for number, wire, value in fields(data):
        field = known.get(number)
        if field is None:
            continue
        if field.repeated:
            found = getattr(message, field.name)
            if wire == LENGTH and field.wire != LENGTH:
                budget.spend(len(value) // 8 + 1)
                found.extend(_numbers(field, value))
            else:
                found.append(_value(field, wire, value, budget))
        else:
            setattr(message, field.name, _value(field, wire, value, budget))
    return message


def _value(field: _Field, wire: int, value: Any, budget: _Budget) -> Any:
    if wire != field.wire:
        raise WireError(f"{field.name} has wire type {wire} instead of {field.wire}")
    if field.kind == "message":
        return _decode(field.type, value, budget)
    if wire == LENGTH:
        budget.spend(1)
        return str(value, "utf-8", "replace") if field.kind == "text" else bytes(value)
    if wire == FIXED64:
        return (_DOUBLE if field.kind == "double" else _WIDE).unpack(value)[0]
    return _number(field.kind, value)


def _number(kind: str, value: int) -> int | bool:
    if kind == "bool":
        return bool(value)
    return value - (1 << 64) if value & _SIGN and kind != "uint64" else value


def _numbers(field: _Field, data: memoryview) -> Any:
    if field.wire == FIXED64:
        if len(data) % 8:
            raise WireError(f"{field.name} is cut off")
        return np.frombuffer(data, "<f8" if field.kind == "double" else "<u8").tolist()
    if len(data) == 1 and data[0] < 0x80:
        return [data[0]]
    words = unpacked(data)
    return (words if field.kind == "uint64" else words.view(np.int64)).tolist()


# -- JSON ------------------------------------------------------------------------------------------

_AS_TEXT = {"int64", "uint64", "fixed64"}  # JavaScript's numbers end at 2^53


def _show(field: _Field, value: Any) -> Any:
    if field.kind in _AS_TEXT:
        return str(value)
    if field.kind == "message":
        return value.to_json()
    if field.kind == "bytes":
        return base64.b64encode(value).decode()
    if field.kind == "enum":
        return field.type(value).name if value in list(field.type) else value
    return value


def _show_all(field: _Field, values: Any) -> list[Any]:
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if field.kind in _AS_TEXT:
        return list(map(str, values))
    return [_show(field, value) for value in values]


def _parse(cls: type[M], value: object) -> M:
    if not isinstance(value, dict):
        raise WireError(f"{cls.__name__}: expected an object")
    message = cls()
    known = _by_json_name(cls)
    for name, given in value.items():
        field = known.get(name)
        if field is None or given is None:
            continue
        try:
            if field.repeated:
                if not isinstance(given, list):
                    raise ValueError
                setattr(message, field.name, [_read(field, one) for one in given])
            else:
                setattr(message, field.name, _read(field, given))
        except (TypeError, ValueError, OverflowError, KeyError, binascii.Error):
            shown = repr(given)[:80]
            raise WireError(f"{name} = {shown}: expected {field.kind}") from None
    return message


def _read(field: _Field, value: Any) -> Any:
    kind = field.kind
    if kind == "message":
        return _parse(field.type, value)
    if kind == "text":
        return _exactly(value, str)
    if kind == "bool":
        return _exactly(value, bool)
    if kind == "bytes":
        padded = _exactly(value, str).replace("-", "+").replace("_", "/")
        return base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True)
    if kind == "double":
        return float(value)
    if kind == "enum" and isinstance(value, str):
        enum: type[IntEnum] = field.type
        return int(enum[value])
    number = int(value)
    if isinstance(value, bool) or (number != float(value) and not isinstance(value, str | int)):
        raise ValueError
    if not -_SIGN <= number < 2 * _SIGN:
        raise ValueError
    return number


def _exactly(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError
    return value
