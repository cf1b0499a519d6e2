"""Which metric families and series there are, and the number each goes by.

The writer keeps the numbers of the last snapshot's series in memory, so that an unchanged set of
labels costs one comparison of tuples; everything else is looked up in the database.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from huatuo.model.metric import Column, Metric

__all__ = ["GROUP_BYTES", "SCHEMA", "Catalog", "Family", "Numbered"]

GROUP_BYTES = 16 << 10  # families share a frame of a snapshot up to about this size
_MANY = 16  # series to look up one by one
_DAY_NS = 86400 * 1_000_000_000
SCHEMA = """
CREATE TABLE families (
    id INTEGER PRIMARY KEY, name TEXT, kind TEXT, width INTEGER, help TEXT, labels TEXT,
    grp INTEGER, bytes INTEGER, UNIQUE (name, kind, width)
);
CREATE TABLE series (
    id INTEGER PRIMARY KEY, family INTEGER, labels TEXT, last_ns INTEGER, UNIQUE (family, labels)
);
"""
Key = tuple[tuple[str, tuple[str, ...]], ...]
Ids = npt.NDArray[np.int32]

_encode = msgspec.json.Encoder(order="sorted").encode
_labels = msgspec.json.Decoder(dict[str, str])
_names = msgspec.json.Decoder(list[str])


@dataclass(frozen=True, slots=True)
class Family:
    """As stored; `width` is the number of slots, 0 where it is not a histogram."""

    id: int
    name: str
    kind: str
    width: int
    group: int


@dataclass(slots=True)
class Numbered:
    """A family of the last snapshot: its label columns and the numbers of its series."""

    family: Family
    key: Key | None = None
    ids: Ids = field(default_factory=lambda: np.empty(0, np.int32))
    packed: bytes = b""  # the same, as differences
    known: dict[str, int] = field(default_factory=dict)  # labels as JSON → number
    label_names: set[str] = field(default_factory=set)
    touched_ns: int = 0


class Catalog:
    """`forget` after a transaction that failed: numbers given out in it are not stored."""

    def __init__(self) -> None:
        self._cache: dict[tuple[str, str, int, int], Numbered] = {}

    def forget(self) -> None:
        self._cache = {}

    def number(
        self, db: sqlite3.Connection, time_ns: int, metrics: Iterable[Metric]
    ) -> Iterator[tuple[Metric, Family, bytes]]:
        """Each metric with its stored family and the numbers of its series, in its order, as
        differences of int32."""
        seen: Counter[tuple[str, str, int]] = Counter()
        for metric in metrics:
            if not len(metric):
                continue
            width = metric.values.shape[1] if metric.values.ndim == 2 else 0
            name = (metric.name, str(metric.kind), width)
            place = (*name, seen[name])  # two probes may feed one family
            seen[name] += 1
            entry = self._cache.get(place)
            if entry is None:
                entry = self._cache[place] = Numbered(self._family(db, metric, width))
            key = tuple((label, _strings(column)) for label, column in metric.labels.items())
            if key != entry.key or len(entry.ids) != len(metric):
                self._renumber(db, time_ns, metric, entry, key)
                entry.touched_ns = 0
            if time_ns - entry.touched_ns > _DAY_NS // 2:
                self._touch(db, entry.ids, time_ns)
                entry.touched_ns = time_ns
            yield metric, entry.family, entry.packed

    def _family(self, db: sqlite3.Connection, metric: Metric, width: int) -> Family:
        name, kind = metric.name, str(metric.kind)
        row = db.execute(
            "SELECT id, grp FROM families WHERE name = ? AND kind = ? AND width = ?",
            (name, kind, width),
        ).fetchone()
        if row:
            db.execute("UPDATE families SET help = ? WHERE id = ?", (metric.help, row[0]))
            return Family(row[0], name, kind, width, row[1])
        group, size = db.execute(
            "SELECT grp, sum(bytes) FROM families GROUP BY grp ORDER BY grp DESC LIMIT 1"
        ).fetchone() or (0, 0)
        own = len(metric) * 8 * (width + 1)
        if size and size + own > GROUP_BYTES:
            group += 1
        family_id = db.execute(
            "INSERT INTO families (name, kind, width, help, labels, grp, bytes)"
            " VALUES (?, ?, ?, ?, '[]', ?, ?)",
            (name, kind, width, metric.help, group, own),
        ).lastrowid
        assert family_id is not None
        return Family(family_id, name, kind, width, group)

    def _renumber(
        self, db: sqlite3.Connection, time_ns: int, metric: Metric, entry: Numbered, key: Key
    ) -> None:
        names = [name for name, _ in key]
        if not entry.label_names.issuperset(names):
            self._add_label_names(db, entry, names)
        labels = zip(*(values for _, values in key), strict=True) if key else [()] * len(metric)
        texts = [_encode(dict(zip(names, row, strict=True))).decode() for row in labels]
        if len(texts) > len(entry.known) + _MANY:  # at start: all at once
            rows = db.execute("SELECT labels, id FROM series WHERE family = ?", (entry.family.id,))
            entry.known = dict(rows.fetchall())
        known = {text: entry.known[text] for text in texts if text in entry.known}
        for text in texts:
            if text not in known:
                known[text] = self._series_id(db, entry.family.id, text, time_ns)
        entry.key, entry.known = key, known
        entry.ids = np.array([known[text] for text in texts], np.int32)
        entry.packed = np.diff(entry.ids, prepend=np.int32(0)).astype("<i4").tobytes()

    @staticmethod
    def _series_id(db: sqlite3.Connection, family: int, labels: str, time_ns: int) -> int:
        row = db.execute(
            "SELECT id FROM series WHERE family = ? AND labels = ?", (family, labels)
        ).fetchone()
        if row:
            return int(row[0])
        added = db.execute(
            "INSERT INTO series (family, labels, last_ns) VALUES (?, ?, ?)",
            (family, labels, time_ns),
        ).lastrowid
        assert added is not None
        return added

    @staticmethod
    def _add_label_names(db: sqlite3.Connection, entry: Numbered, names: list[str]) -> None:
        (stored,) = db.execute(
            "SELECT labels FROM families WHERE id = ?", (entry.family.id,)
        ).fetchone()
        union = list(dict.fromkeys([*_names.decode(stored), *names]))
        db.execute(
            "UPDATE families SET labels = ? WHERE id = ?",
            (_encode(union).decode(), entry.family.id),
        )
        entry.label_names = set(union)

    def names(self, db: sqlite3.Connection) -> list[tuple[str, str, str, list[str]]]:
        rows = db.execute("SELECT name, kind, help, labels FROM families ORDER BY name, id")
        return [(name, kind, help, _names.decode(labels)) for name, kind, help, labels in rows]

    def families(self, db: sqlite3.Connection, name: str) -> list[Family]:
        rows = db.execute(
            "SELECT id, name, kind, width, grp FROM families WHERE name = ? ORDER BY id", (name,)
        )
        return [Family(*row) for row in rows]

    def series(
        self, db: sqlite3.Connection, family: Family, wanted: Mapping[str, str]
    ) -> dict[int, dict[str, str]]:
        """Number → labels of the family's series that have these labels."""
        rows = db.execute(
            "SELECT id, labels FROM series WHERE family = ? ORDER BY labels", (family.id,)
        )
        decoded = ((number, _labels.decode(text)) for number, text in rows)
        return {
            number: labels
            for number, labels in decoded
            if all(labels.get(name, "") == value for name, value in wanted.items())
        }

    @staticmethod
    def _touch(db: sqlite3.Connection, ids: Ids, time_ns: int) -> None:
        """Keep `last_ns` at most a day behind the last sample."""
        db.execute(
            "UPDATE series SET last_ns = ? WHERE last_ns < ?"
            " AND id IN (SELECT value FROM json_each(?))",
            (time_ns, time_ns - _DAY_NS // 2, _encode(ids.tolist()).decode()),
        )

    def collect_garbage(self, db: sqlite3.Connection, oldest_ns: int) -> None:
        """Drop the names of series all of whose samples are older than `oldest_ns`."""
        gone = db.execute("DELETE FROM series WHERE last_ns < ?", (oldest_ns - _DAY_NS,)).rowcount
        if gone:
            db.execute("DELETE FROM families WHERE id NOT IN (SELECT family FROM series)")
            self.forget()


def _strings(column: Column) -> tuple[str, ...]:
    values = column.values
    if isinstance(values, np.ndarray):
        return tuple(str(value) for value in values.tolist())
    return tuple(values)
