"""Events in the database: the newest as rows, older ones in blocks.

A row is durable at once and cheap to write; a block is small and quick to search. `compact` moves
the oldest rows into a block in one transaction, so a reader sees every event exactly once.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import msgspec
import numpy as np
import numpy.typing as npt

from huatuo.model.event import Event
from huatuo.store.base import EventQuery, Facet
from huatuo.store.block import Block, Row, decode_event, event_json, flatten, nanoseconds
from huatuo.store.codec import BadBlock

__all__ = ["BLOCK_EVENTS", "SCHEMA", "EventLog"]

BLOCK_EVENTS = 2048
FACET_VALUES = 200  # of one field, the most frequent
SCHEMA = """
CREATE TABLE recent (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time_ns INTEGER, probe TEXT, kind TEXT, container TEXT,
    json BLOB
);
CREATE TABLE blocks (
    first_id INTEGER PRIMARY KEY, last_id INTEGER, start_ns INTEGER, end_ns INTEGER,
    words BLOB, events INTEGER, search BLOB, payload BLOB
);
"""
_ROW_FILTER = (
    "time_ns BETWEEN ? AND ? AND ? IN ('', probe) AND ? IN ('', kind) AND ? IN ('', container)"
)
_WORDS = ("probe", "kind", "container")
_pack = msgspec.msgpack.Encoder()
_words = msgspec.msgpack.Decoder(tuple[set[str], set[str], set[str]])


class EventLog:
    """Stateless but for the writer's counters; every method is given the connection to use."""

    def __init__(self, on_bad_block: Callable[[str], None]) -> None:
        self._bad = on_bad_block
        self._next_id = 1
        self._recent = 0

    def open(self, db: sqlite3.Connection) -> None:
        """Ids go on where they ended, also after everything has expired."""
        (last,) = db.execute(
            "SELECT max(seq) FROM sqlite_sequence WHERE name = 'recent'"
        ).fetchone()
        self._next_id = (last or 0) + 1
        (self._recent,) = db.execute("SELECT count(*) FROM recent").fetchone()

    def append(self, db: sqlite3.Connection, events: Sequence[Event]) -> list[Event]:
        stored = []
        rows = []
        for event_id, event in enumerate(events, self._next_id):
            container = event.container.full_name if event.container else ""
            time_ns, data = nanoseconds(event.time), event_json(event)
            rows.append((event_id, time_ns, event.probe, event.kind, container, data))
            stored.append(msgspec.structs.replace(event, id=event_id))
        db.executemany("INSERT INTO recent VALUES (?, ?, ?, ?, ?, ?)", rows)
        return stored

    def appended(self, count: int) -> None:
        """The transaction of `append` is committed."""
        self._next_id += count
        self._recent += count

    def needs_compaction(self) -> bool:
        return self._recent >= 2 * BLOCK_EVENTS

    def compact(self, db: sqlite3.Connection) -> None:
        """The oldest rows become a block."""
        rows = db.execute(
            "SELECT id, time_ns, json, probe, kind, container FROM recent ORDER BY id LIMIT ?",
            (BLOCK_EVENTS,),
        ).fetchall()
        plain: list[Row] = [row[:3] for row in rows]
        words = _pack.encode([sorted({row[3 + i] for row in rows}) for i in range(len(_WORDS))])
        first, last = plain[0][0], plain[-1][0]
        times = [row[1] for row in plain]
        index, payload = Block.of(plain)
        db.execute(
            "INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (first, last, min(times), max(times), words, len(plain), index, payload),
        )
        db.execute("DELETE FROM recent WHERE id <= ?", (last,))

    def recount(self, db: sqlite3.Connection) -> None:
        (self._recent,) = db.execute("SELECT count(*) FROM recent").fetchone()

    def find(self, db: sqlite3.Connection, query: EventQuery) -> list[Event]:
        found: list[Event] = []
        before = query.before_id or 2**63 - 1
        for event_id, _, data in self._rows(db, query, before, descending=True):
            found.append(decode_event(event_id, data))
            if len(found) >= query.limit:
                return found
        for first, block, mask in self._blocks(db, query, before):
            with self._readable(first):
                for row in np.flatnonzero(mask & (block.ids < before)).tolist()[::-1]:
                    found.append(block.event(row))
                    if len(found) >= query.limit:
                        return found
        return found

    def get(self, db: sqlite3.Connection, event_id: int) -> Event | None:
        row = db.execute("SELECT json FROM recent WHERE id = ?", (event_id,)).fetchone()
        if row:
            return decode_event(event_id, row[0])
        row = db.execute(
            "SELECT first_id FROM blocks WHERE first_id <= ? ORDER BY first_id DESC LIMIT 1",
            (event_id,),
        ).fetchone()
        if row:
            with self._readable(row[0]):
                block = self._open(db, row[0])
                at = int(np.searchsorted(block.ids, event_id))
                if at < block.count and block.ids[at] == event_id:
                    return block.event(at)
        return None

    def histogram(
        self, db: sqlite3.Connection, query: EventQuery, buckets: int
    ) -> list[tuple[int, dict[str, int]]]:
        start, end = self._range(db, query)
        if end < start:
            return []
        width = max(-(-(end - start + 1) // buckets), 1)
        counts: list[Counter[str]] = [Counter() for _ in range(-(-(end - start + 1) // width))]
        for _, time_ns, data in self._rows(db, query):
            counts[(time_ns - start) // width][_probe(data)] += 1
        for first, block, mask in self._blocks(db, query):
            with self._readable(first):
                words, codes = block.column("probe") or ([], np.empty(0, np.uint16))
                cells = (block.times[mask] - start) // width * len(words) + codes[mask]
                for cell, count in zip(*_unique(cells), strict=True):
                    counts[cell // len(words)][words[cell % len(words)] or ""] += count
        return [(start + i * width, dict(counter)) for i, counter in enumerate(counts)]

    def facets(
        self, db: sqlite3.Connection, query: EventQuery, fields: Sequence[str]
    ) -> list[Facet]:
        counts: dict[str, Counter[str]] = {name: Counter() for name in fields}
        for _, _, data in self._rows(db, query):
            flat = flatten(msgspec.json.decode(data))
            for name, counter in counts.items():
                if name in flat:
                    counter[flat[name]] += 1
        for first, block, mask in self._blocks(db, query):
            with self._readable(first):
                for name, counter in counts.items():
                    for value, count in block.values(name, mask):
                        counter[value] += count
        return [
            Facet(name, value, count)
            for name, counter in counts.items()
            for value, count in counter.most_common(FACET_VALUES)
        ]

    def count(self, db: sqlite3.Connection) -> int:
        (rows,) = db.execute("SELECT count(*) FROM recent").fetchone()
        (blocked,) = db.execute("SELECT total(events) FROM blocks").fetchone()
        return int(rows + blocked)

    def _range(self, db: sqlite3.Connection, query: EventQuery) -> tuple[int, int]:
        """The query's range without what lies before the first and after the last event."""
        oldest, newest = db.execute(
            "SELECT min(low), max(high) FROM (SELECT min(time_ns) AS low, max(time_ns) AS high"
            " FROM recent UNION ALL SELECT min(start_ns), max(end_ns) FROM blocks)"
        ).fetchone()
        if oldest is None:
            return 0, -1
        start = query.start_ns or oldest
        return start, newest if query.end_ns == 2**63 - 1 else query.end_ns

    def _rows(
        self,
        db: sqlite3.Connection,
        query: EventQuery,
        before: int = 2**63 - 1,
        descending: bool = False,
    ) -> Iterator[Row]:
        """Rows not yet in blocks that satisfy the query."""
        needle = query.text.lower() if query.text.isascii() else query.text
        cursor = db.execute(
            f"SELECT id, time_ns, json FROM recent WHERE id < ? AND {_ROW_FILTER} "
            f"ORDER BY id {'DESC' if descending else 'ASC'}",
            (before, query.start_ns, query.end_ns, query.probe, query.kind, query.container),
        )
        for row in cursor:
            data: bytes = row[2]
            if needle:
                searched = data.lower() if query.text.isascii() else data
                if needle.encode() not in searched:
                    continue
            if query.fields:
                flat = flatten(msgspec.json.decode(data))
                if any(flat.get(name) != value for name, value in query.fields.items()):
                    continue
            yield row

    def _blocks(
        self, db: sqlite3.Connection, query: EventQuery, before: int = 2**63 - 1
    ) -> Iterator[tuple[int, Block, npt.NDArray[np.bool_]]]:
        """Blocks with at least one row that satisfies the query, newest first."""
        heads = db.execute(
            "SELECT first_id, words FROM blocks"
            " WHERE first_id < ? AND end_ns >= ? AND start_ns <= ?"
            " ORDER BY first_id DESC",
            (before, query.start_ns, query.end_ns),
        ).fetchall()
        wanted = (query.probe, query.kind, query.container)
        for first, packed in heads:
            held = _words.decode(packed)
            if any(w and w not in words for w, words in zip(wanted, held, strict=True)):
                continue
            with self._readable(first):
                block = self._open(db, first)
                mask = block.matching(query)
                if mask.any():
                    yield first, block, mask

    @staticmethod
    def _open(db: sqlite3.Connection, first: int) -> Block:
        def payload() -> bytes:
            (found,) = db.execute(
                "SELECT payload FROM blocks WHERE first_id = ?", (first,)
            ).fetchone()
            return bytes(found)

        (search,) = db.execute("SELECT search FROM blocks WHERE first_id = ?", (first,)).fetchone()
        return Block(search, payload)

    @contextmanager
    def _readable(self, first: int) -> Iterator[None]:
        """A block that the medium damaged is passed over and reported."""
        try:
            yield
        except BadBlock as error:
            self._bad(f"events from id {first} on cannot be read: {error}")


class _ProbeOnly(msgspec.Struct):
    probe: str = ""


_probe_decoder = msgspec.json.Decoder(_ProbeOnly)


def _probe(data: bytes) -> str:
    return _probe_decoder.decode(data).probe


def _unique(cells: npt.NDArray[np.int64]) -> tuple[Iterable[int], Iterable[int]]:
    values, counts = np.unique(cells, return_counts=True)
    return values.tolist(), counts.tolist()
