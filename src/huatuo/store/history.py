"""Metric history: snapshots as they come, turned into chunks per family, thinned with age.

    head     one row per snapshot and group of families, raw values in one frame: cheap to write
    chunks   level 0: one family over 10 minutes, every sample, series after series: cheap to read
             level 1: one family over 1 hour, the last sample of each minute, once a day old

A sample may for a moment stand in two places (the clock was set back, an upgrade); reading merges
by time, so that it counts once.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt

from huatuo.model.metric import Metric
from huatuo.store import catalog
from huatuo.store.base import MetricQuery, Series
from huatuo.store.catalog import Catalog, Family
from huatuo.store.codec import BadBlock, compress, decompress
from huatuo.store.piece import Piece

__all__ = ["FINE_NS", "HOUR_NS", "SCHEMA", "THIN_STEP_NS", "WINDOW_NS", "History"]

_SECOND = 1_000_000_000
WINDOW_NS = 600 * _SECOND  # of a chunk of level 0
HOUR_NS = 3600 * _SECOND  # of a chunk of level 1
THIN_STEP_NS = 60 * _SECOND
FINE_NS = 24 * HOUR_NS  # younger samples are all kept
_CHUNK_BYTES = 256 << 10  # of samples; a wide family is cut into several chunks by series
_MAX_NS = 2**63 - 1

SCHEMA = (
    catalog.SCHEMA
    + """
CREATE TABLE head (grp INTEGER, time_ns INTEGER, frame BLOB, PRIMARY KEY (grp, time_ns));
CREATE TABLE chunks (
    family INTEGER, level INTEGER, start_ns INTEGER, end_ns INTEGER,
    first_series INTEGER, last_series INTEGER, samples INTEGER, data BLOB
);
CREATE INDEX chunks_by_family ON chunks (family, start_ns);
CREATE INDEX chunks_by_time ON chunks (start_ns);
"""
)
_ENTRY = struct.Struct("<IIH")  # family, series, width
Ids = npt.NDArray[np.int32]
Work = tuple[int, int, int]  # level, family or group, start of its window


class History:
    """All state but the pending work is in the database."""

    def __init__(self, on_bad_block: Callable[[str], None]) -> None:
        self.catalog = Catalog()
        self._bad = on_bad_block
        self._window = -1
        self._pending: list[Work] = []

    def forget(self) -> None:
        """The last transaction failed."""
        self.catalog.forget()
        self._window = -1
        self._pending = []

    def append(self, db: sqlite3.Connection, time_ns: int, metrics: Iterable[Metric]) -> None:
        groups: dict[int, list[bytes]] = {}
        for metric, family, packed_ids in self.catalog.number(db, time_ns, metrics):
            sums = metric.sums if family.width else metric.values
            if sums is None:
                sums = np.zeros(len(metric))
            entry = groups.setdefault(family.group, [])
            entry.append(_ENTRY.pack(family.id, len(metric), family.width))
            entry.append(packed_ids)
            entry.append(sums.astype("<f8", copy=False).tobytes())
            if family.width:
                entry.append(metric.values.astype("<u8", copy=False).tobytes())
        rows = [(group, time_ns, compress(b"".join(e), 1)) for group, e in groups.items()]
        db.executemany("INSERT OR REPLACE INTO head VALUES (?, ?, ?)", rows)

    def is_due(self, now_ns: int) -> bool:
        """Whether `step` has something to do."""
        return bool(self._pending) or now_ns // WINDOW_NS != self._window

    def step(self, db: sqlite3.Connection, now_ns: int) -> None:
        """One piece of upkeep, some milliseconds: one group compacted or one family thinned."""
        if now_ns // WINDOW_NS != self._window:
            self._window = now_ns // WINDOW_NS
            self._pending = self._find_work(db, now_ns)
        if self._pending:
            level, subject, start = self._pending.pop()
            if level:
                self._thin(db, subject, start)
            else:
                self._compact(db, subject, start)

    @staticmethod
    def _find_work(db: sqlite3.Connection, now_ns: int) -> list[Work]:
        current = now_ns - now_ns % WINDOW_NS
        heads = db.execute(
            "SELECT DISTINCT 0, grp, time_ns - time_ns % ? AS start FROM head WHERE start <> ?"
            " ORDER BY start DESC",
            (WINDOW_NS, current),
        )
        old = current - FINE_NS
        old -= old % HOUR_NS
        chunks = db.execute(
            "SELECT DISTINCT 1, family, start_ns - start_ns % ? AS hour FROM chunks"
            " WHERE start_ns < ? AND level = 0 ORDER BY hour DESC",
            (HOUR_NS, old),
        )
        return [*chunks, *heads]

    def _compact(self, db: sqlite3.Connection, group: int, start_ns: int) -> None:
        """The snapshots of a window, one group of families: head → chunks of level 0."""
        span = (group, start_ns, start_ns + WINDOW_NS - 1)
        where = "grp = ? AND time_ns BETWEEN ? AND ?"
        found: dict[int, list[Piece]] = {}
        known: dict[bytes, Ids] = {}
        for time_ns, frame in db.execute(
            f"SELECT time_ns, frame FROM head WHERE {where} ORDER BY time_ns", span
        ):
            for family, piece in self._entries(time_ns, frame, known):
                found.setdefault(family, []).append(piece)
        for family, pieces in found.items():
            stored = self._take(db, family, 0, start_ns, start_ns + WINDOW_NS - 1)
            self._put(db, family, 0, Piece.merge([*stored, *pieces]))
        db.execute(f"DELETE FROM head WHERE {where}", span)

    def _thin(self, db: sqlite3.Connection, family: int, start_ns: int) -> None:
        """One family over an hour: chunks of level 0 → level 1."""
        end_ns = start_ns + HOUR_NS - 1
        fine = self._take(db, family, 0, start_ns, end_ns)
        if fine:
            coarse = self._take(db, family, 1, start_ns, end_ns)
            thinned = (piece.thin(THIN_STEP_NS) for piece in fine)
            self._put(db, family, 1, Piece.merge([*coarse, *thinned]).thin(THIN_STEP_NS))

    def _take(
        self, db: sqlite3.Connection, family: int, level: int, start_ns: int, end_ns: int
    ) -> list[Piece]:
        """Read and delete."""
        where = "family = ? AND level = ? AND start_ns BETWEEN ? AND ?"
        span = (family, level, start_ns, end_ns)
        rows = db.execute(f"SELECT data FROM chunks WHERE {where} ORDER BY start_ns", span)
        pieces = [piece for (data,) in rows for piece in self._decode(data)]
        db.execute(f"DELETE FROM chunks WHERE {where}", span)
        return pieces

    def _put(self, db: sqlite3.Connection, family: int, level: int, piece: Piece) -> None:
        start, end = int(piece.times[0]), int(piece.times[-1])
        everything = np.arange(len(piece.times))
        step = max(_CHUNK_BYTES // (len(everything) * 8 * (piece.width + 1)), 1)
        for first in range(0, len(piece.ids), step):
            series = np.arange(first, min(first + step, len(piece.ids)))
            part = piece if len(series) == len(piece.ids) else piece.pick(everything, series)
            low, high = int(part.ids[0]), int(part.ids[-1])
            db.execute(
                "INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (family, level, start, end, low, high, len(everything), part.encode()),
            )

    def query(self, db: sqlite3.Connection, query: MetricQuery) -> list[Series]:
        found = []
        for family in self.catalog.families(db, query.name):
            found.extend(self._query(db, family, query))
        return found

    def _query(self, db: sqlite3.Connection, family: Family, query: MetricQuery) -> list[Series]:
        labels = self.catalog.series(db, family, query.labels)
        if not labels:
            return []
        ids = np.array(sorted(labels), np.int32) if query.labels else None
        step = self._step(db, family, query)
        pieces = []
        for piece in self._pieces(db, family, query, ids):
            chosen = piece.select(query.start_ns, query.end_ns, ids)
            if chosen.values.size:
                pieces.append(chosen.thin(step) if step else chosen)
        if not pieces:
            return []
        merged = Piece.merge(pieces)
        merged = merged.thin(step) if step else merged
        return _series(family, labels, merged, query.points)

    def _step(self, db: sqlite3.Connection, family: Family, query: MetricQuery) -> int:
        """Over how long to take one sample; 0 to take all."""
        chunked, low, high = db.execute(
            "SELECT total(samples), min(start_ns), max(end_ns) FROM (SELECT DISTINCT samples,"
            " start_ns, end_ns FROM chunks WHERE family = ? AND start_ns <= ? AND end_ns >= ?)",
            (family.id, query.end_ns, query.start_ns),
        ).fetchone()
        recent, first, last = db.execute(
            "SELECT count(*), min(time_ns), max(time_ns) FROM head"
            " WHERE grp = ? AND time_ns BETWEEN ? AND ?",
            (family.group, query.start_ns, query.end_ns),
        ).fetchone()
        if chunked + recent <= query.points:
            return 0
        start = max(query.start_ns, min(t for t in (low, first) if t is not None))
        end = min(query.end_ns, max(t for t in (high, last) if t is not None))
        return int(-(-(end - start + 1) // max(query.points - 1, 1)))

    def _pieces(
        self, db: sqlite3.Connection, family: Family, query: MetricQuery, ids: Ids | None
    ) -> Iterator[Piece]:
        low, high = (0, _MAX_NS) if ids is None else (int(ids[0]), int(ids[-1]))
        chunks = db.execute(
            "SELECT data FROM chunks WHERE family = ? AND start_ns BETWEEN ? AND ? AND end_ns >= ?"
            " AND last_series >= ? AND first_series <= ? ORDER BY level DESC, start_ns",
            (family.id, query.start_ns - HOUR_NS, query.end_ns, query.start_ns, low, high),
        )
        for (data,) in chunks:
            yield from self._decode(data)
        heads = db.execute(
            "SELECT time_ns, frame FROM head WHERE grp = ? AND time_ns BETWEEN ? AND ?",
            (family.group, query.start_ns, query.end_ns),
        )
        known: dict[bytes, Ids] = {}
        for time_ns, frame in heads:
            for _, piece in self._entries(time_ns, frame, known, family.id):
                yield piece

    def _decode(self, data: bytes) -> Iterable[Piece]:
        try:
            return (Piece.decode(data),)
        except BadBlock as error:
            self._bad(f"a chunk of metric history cannot be read: {error}")
            return ()

    def _entries(
        self, time_ns: int, frame: bytes, known: dict[bytes, Ids], only: int = 0
    ) -> Iterator[tuple[int, Piece]]:
        """(family, samples) of one row of the head; equal ids are the same array in `known`."""
        try:
            raw = decompress(frame)
        except BadBlock as error:
            self._bad(f"a snapshot of metrics cannot be read: {error}")
            return
        at = 0
        times = np.array([time_ns], np.int64)
        while at < len(raw):
            family, count, width = _ENTRY.unpack_from(raw, at)
            at += _ENTRY.size
            if not only or family == only:
                packed = raw[at : at + 4 * count]
                ids = known.get(packed)
                if ids is None:
                    ids = known[packed] = np.cumsum(np.frombuffer(packed, "<i4"), dtype=np.int32)
                values = np.frombuffer(raw, "<f8", count, at + 4 * count).reshape(1, count)
                slots = None
                if width:
                    slots = np.frombuffer(raw, "<u8", count * width, at + 12 * count)
                    slots = slots.reshape(1, count, width)
                yield family, Piece(times, ids, values, slots)
            at += count * (12 + 8 * width)


def _series(
    family: Family, labels: dict[int, dict[str, str]], piece: Piece, points: int
) -> list[Series]:
    times = piece.times[-points:]
    position = {number: at for at, number in enumerate(piece.ids.tolist())}
    found = []
    for number, words in labels.items():
        at = position.get(number)
        if at is None:
            continue
        column = np.ascontiguousarray(piece.values[-points:, at])
        missing = np.isnan(column)
        if missing.all():
            continue
        values, sums = column, None
        if piece.slots is not None:
            values, sums = piece.slots[-points:, at].astype(np.float64), column
            values[missing] = np.nan
        found.append(Series(family.name, family.kind, words, times, values, sums))
    return found
