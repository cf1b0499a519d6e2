"""A block: some thousand events in columns, compressed, read by column.

The JSON of the events stands in one frame, a line each. Whatever has few distinct values (probe,
kind, container, most fields) stands beside it as a column of codes with its own frame, so that
filtering, counting and facets rarely touch the JSON.
"""

from __future__ import annotations

import calendar
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from huatuo.model.event import Event
from huatuo.store.base import EventQuery
from huatuo.store.codec import BadBlock, compress, decode_ints, decompress, encode_ints

__all__ = ["Block", "Row", "as_text", "decode_event", "event_json", "flatten", "nanoseconds"]

Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint16]
Row = tuple[int, int, bytes]  # id, time, JSON

_MAX_DISTINCT = 512  # values of a field in a block, beyond which it gets no column
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)
_ALWAYS = ("probe", "kind", "container")
_json = msgspec.json.Encoder()
_pack = msgspec.msgpack.Encoder()
_decoder = msgspec.json.Decoder(Event)


def nanoseconds(time: str) -> int:
    """RFC 3339 → UTC ns. Raises ValueError."""
    head, tail = time[:19], time[19:]
    digits = tail[1:] if tail[:1] == "." else ""
    fraction = digits[: len(digits) - len(digits.lstrip("0123456789"))]
    zone = digits[len(fraction) :] if digits else tail
    if len(head) != 19 or head[10] not in "Tt " or len(fraction) > 9:
        raise ValueError(f"not an RFC 3339 time: {time}")
    parts = (head[:4], head[5:7], head[8:10], head[11:13], head[14:16], head[17:19])
    seconds = calendar.timegm(tuple(int(part) for part in parts))
    if zone not in ("Z", "z"):
        sign, hours, minutes = zone[:1], zone[1:3], zone[4:6]
        if sign not in ("+", "-"):
            raise ValueError(f"not an RFC 3339 time: {time}")
        seconds -= int(sign + "1") * (int(hours) * 3600 + int(minutes) * 60)
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0"))


def event_json(event: Event) -> bytes:
    """As stored: without the id, which is the store's."""
    return _json.encode(msgspec.structs.replace(event, id=0) if event.id else event)


def decode_event(event_id: int, data: bytes) -> Event:
    """Raises BadBlock."""
    try:
        return msgspec.structs.replace(_decoder.decode(data), id=event_id)
    except msgspec.MsgspecError as error:
        raise BadBlock(str(error)) from error


def as_text(value: object) -> str:
    """A value as queries and facets spell it."""
    if isinstance(value, str):
        return value
    return str(value) if type(value) is int else _json.encode(value).decode()


def flatten(document: Mapping[str, Any]) -> dict[str, str]:
    """An event's JSON as name → text, names as in EventQuery.fields."""
    flat: dict[str, str] = {}
    _add(flat, "", document.get("fields") or {})
    for part in ("process", "container"):
        for name, value in (document.get(part) or {}).items():
            if not isinstance(value, dict):
                flat.setdefault(f"{part}.{name}", as_text(value))
    flat["probe"] = document.get("probe", "")
    flat["kind"] = document.get("kind", "")
    if "container.name" in flat:  # Container.full_name
        names = [flat.get(f"container.{part}", "") for part in ("namespace", "pod", "name")]
        flat["container"] = "/".join(names) if names[1] else names[2]
    return flat


def _add(flat: dict[str, str], prefix: str, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if type(value) is dict:
            _add(flat, f"{prefix}{name}.", value)
        elif type(value) is str:
            flat[prefix + name] = value
        elif type(value) is not list:
            flat[prefix + name] = as_text(value)


def _bloom(values: Sequence[str]) -> bytes:
    """A Bloom filter: which values a block cannot have. Three bits of eight or more per value."""
    size = 1 << (8 * len(values)).bit_length()
    bits = np.zeros(size, np.uint8)
    bits[_positions(values, size)] = 1
    return np.packbits(bits).tobytes()


def _positions(values: Sequence[str], size: int) -> npt.NDArray[np.uint64]:
    hashes = np.array([zlib.crc32(value.encode()) for value in values], np.uint64)
    with np.errstate(over="ignore"):
        mixed = hashes[:, None] * _MIX
    return (mixed >> np.uint64(64 - size.bit_length() + 1)).ravel()


class Block:
    """Rows by position, ascending by id. Made `of` rows, or read back from its two blobs,
    of which the payload is asked for only when it is needed."""

    def __init__(self, index: bytes, payload: Callable[[], bytes]) -> None:
        self._index = memoryview(index)
        self._payload = payload
        try:
            size = int.from_bytes(index[:4], "little")
            header = msgspec.msgpack.decode(decompress(bytes(self._index[4 : 4 + size])))
            self.count: int = header["count"]
            self._frames: dict[str, tuple[int, int]] = header["columns"]
            self._uncoded: set[str] = set(header["uncoded"])
        except (msgspec.MsgspecError, KeyError, TypeError) as error:
            raise BadBlock(str(error)) from error
        self._base = 4 + size

    @classmethod
    def of(cls, rows: Sequence[Row]) -> tuple[bytes, bytes]:
        """(index, payload) of rows that ascend by id."""
        flats = [flatten(msgspec.json.decode(data)) for _, _, data in rows]
        lengths = [len(data) + 1 for _, _, data in rows]
        ids_times = [[row[0] for row in rows], [row[1] for row in rows], lengths]
        frames: dict[str, tuple[int, int]] = {}
        body = bytearray()

        def add(name: str, data: bytes) -> None:
            packed = compress(data)
            frames[name] = (len(body), len(packed))
            body.extend(packed)

        for name, column in zip(("#id", "#time", "#length"), ids_times, strict=True):
            add(name, encode_ints(np.array(column, np.int64).reshape(1, -1)))
        uncoded = []
        for name in dict.fromkeys([*_ALWAYS, *(name for flat in flats for name in flat)]):
            values = [flat.get(name) for flat in flats]
            words = list(dict.fromkeys(values))
            if len(words) > _MAX_DISTINCT and name not in _ALWAYS:
                uncoded.append(name)
                add(f"?{name}", _bloom([word for word in words if word is not None]))
                continue
            code = {word: number for number, word in enumerate(words)}
            codes = np.array([code[value] for value in values], np.uint16)
            add(name, _pack.encode([words, codes.astype("<u2").tobytes()]))
        head = {"count": len(rows), "columns": frames, "uncoded": uncoded}
        header = compress(_pack.encode(head))
        payload = compress(b"".join(data + b"\n" for _, _, data in rows))
        return len(header).to_bytes(4, "little") + header + bytes(body), payload

    def _frame(self, name: str) -> bytes:
        offset, size = self._frames[name]
        start = self._base + offset
        return decompress(bytes(self._index[start : start + size]))

    def _ints(self, name: str) -> npt.NDArray[np.int64]:
        values, _ = decode_ints(memoryview(self._frame(name)), 1, self.count)
        return values.reshape(-1)

    @cached_property
    def ids(self) -> npt.NDArray[np.int64]:
        return self._ints("#id")

    @cached_property
    def times(self) -> npt.NDArray[np.int64]:
        return self._ints("#time")

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        return np.cumsum(self._ints("#length"))

    @cached_property
    def _lines(self) -> bytes:
        return decompress(self._payload())

    def json(self, row: int) -> bytes:
        start = int(self._ends[row - 1]) if row else 0
        return self._lines[start : int(self._ends[row]) - 1]

    def column(self, name: str) -> tuple[list[str | None], Codes] | None:
        """(words, codes) of a field, None as the word of rows without it; None if no row has it,
        or it has no column: see `flat_values`."""
        if name not in self._frames:
            return None
        words, codes = msgspec.msgpack.decode(
            self._frame(name), type=tuple[list[str | None], bytes]
        )
        return words, np.frombuffer(codes, "<u2")

    def matching(self, query: EventQuery) -> Mask:
        """Rows that satisfy everything in the query but paging and limit."""
        mask = (self.times >= query.start_ns) & (self.times <= query.end_ns)
        named = {"probe": query.probe, "kind": query.kind, "container": query.container}
        wanted = {name: value for name, value in named.items() if value} | dict(query.fields)
        slow = {}
        for name, value in wanted.items():
            column = self.column(name)
            if column is not None:
                words, codes = column
                mask &= codes == words.index(value) if value in words else False
            elif name in self._uncoded and self._may_hold(name, value):
                slow[name] = value
            else:
                mask &= False
        if query.text and mask.any():
            mask &= self._containing(query.text)
        if slow and mask.any():
            self._filter(mask, slow)
        return mask

    def _may_hold(self, name: str, value: str) -> bool:
        bits = np.unpackbits(np.frombuffer(self._frame(f"?{name}"), np.uint8))
        return bool(bits[_positions([value], len(bits))].all())

    def _containing(self, text: str) -> Mask:
        if text.isascii():
            return self._with(self._lines.lower(), text.lower().encode())
        return self._with(self._lines, text.encode())

    def _with(self, lines: bytes, needle: bytes) -> Mask:
        """Rows in whose bytes the needle is."""
        hits = np.zeros(self.count, np.bool_)
        at = lines.find(needle)
        while at >= 0:
            row = int(np.searchsorted(self._ends, at, side="right"))
            hits[row] = True
            at = lines.find(needle, int(self._ends[row]))
        return hits

    def _filter(self, mask: Mask, wanted: Mapping[str, str]) -> None:
        """Fields that have no column: rows that could match are decoded."""
        for value in wanted.values():
            mask &= self._with(self._lines, _json.encode(value)[1:-1])
        for row in np.flatnonzero(mask).tolist():
            flat = flatten(msgspec.json.decode(self.json(row)))
            mask[row] = all(flat.get(name) == value for name, value in wanted.items())

    def values(self, name: str, mask: Mask) -> Iterable[tuple[str, int]]:
        """(value, how many) of a field over these rows."""
        column = self.column(name)
        if column is not None:
            words, codes = column
            counts = np.bincount(codes[mask], minlength=len(words)).tolist()
            pairs = zip(words, counts, strict=True)
            return [(word, count) for word, count in pairs if count and word is not None]
        return self._slow_values(name, mask) if name in self._uncoded else ()

    def _slow_values(self, name: str, mask: Mask) -> Iterator[tuple[str, int]]:
        for row in np.flatnonzero(mask).tolist():
            value = flatten(msgspec.json.decode(self.json(row))).get(name)
            if value is not None:
                yield value, 1

    def event(self, row: int) -> Event:
        return decode_event(int(self.ids[row]), self.json(row))
