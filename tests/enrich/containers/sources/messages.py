"""Protobuf messages written by hand, for APIs whose definitions are not among our packages."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["message"]


def message(**fields: object) -> bytes:
    """A protobuf message: f1="text", f2=7, f3=b"an inner message", f4={"a": "map"}, f5=[…]."""
    out = b""
    for name, value in fields.items():
        number = int(name.removeprefix("f"))
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, Mapping):
                entries = [message(f1=key, f2=text) for key, text in each.items()]
                out += message(**{name: entries})
            elif isinstance(each, int):
                out += _varint(number << 3) + _varint(each)
            else:
                data = each.encode() if isinstance(each, str) else bytes(each)  # type: ignore[call-overload]
                out += _varint(number << 3 | 2) + _varint(len(data)) + data
    return out


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])
