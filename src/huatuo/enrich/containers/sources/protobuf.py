"""Reading protobuf messages: enough of it for the few fields of a runtime's answers."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["Message", "leading_text"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SIZES = {_FIXED64: 8, _FIXED32: 4}


class Message:
    """Fields by number. Raises ValueError if the bytes are no message."""

    def __init__(self, data: bytes) -> None:
        self._fields: dict[int, list[int | bytes]] = {}
        for number, value in _fields(data):
            self._fields.setdefault(number, []).append(value)

    def integer(self, number: int) -> int:
        """0 if it is not there; a negative int64 is below 0."""
        value = self._fields.get(number, [0])[-1]
        if not isinstance(value, int):
            raise ValueError(f"field {number} is no integer")
        return value - (1 << 64) if value >> 63 else value

    def text(self, number: int) -> str:
        """ "" if it is not there."""
        return self._bytes(number).decode(errors="replace")

    def message(self, number: int) -> Message:
        """An empty one if it is not there."""
        return Message(self._bytes(number))

    def messages(self, number: int) -> Iterator[Message]:
        return map(Message, self.parts(number))

    def parts(self, number: int) -> Iterator[bytes]:
        """Messages that are not read yet."""
        for value in self._fields.get(number, ()):
            if not isinstance(value, bytes):
                raise ValueError(f"field {number} is no message")
            yield value

    def texts(self, number: int) -> dict[str, str]:
        """A map from text to text."""
        return {entry.text(1): entry.text(2) for entry in self.messages(number)}

    def _bytes(self, number: int) -> bytes:
        value = self._fields.get(number, [b""])[-1]
        if not isinstance(value, bytes):
            raise ValueError(f"field {number} is neither text nor message")
        return value


def leading_text(data: bytes) -> str:
    """Field 1 of a message that begins with it, as all do that have an id; else ""."""
    if data[:1] != b"\x0a":
        return ""
    size, at = _varint(data, 1)
    return data[at : at + size].decode(errors="replace")


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        head, at = _varint(data, at)
        number, wire = head >> 3, head & 7
        value: int | bytes
        if wire == _VARINT:
            value, at = _varint(data, at)
        else:
            size = _SIZES.get(wire, 0)
            if wire == _BYTES:
                size, at = _varint(data, at)
            elif not size:
                raise ValueError(f"wire type {wire}")
            value, at = data[at : at + size], at + size
            if at > len(data):
                raise ValueError("cut off")
        yield number, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, where the next thing begins)."""
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("cut off")
