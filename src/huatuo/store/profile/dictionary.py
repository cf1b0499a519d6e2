"""What samples refer to: calling contexts, locations, names; each once per epoch.

A stack is the number of its innermost node in a tree of calling contexts: a node is its parent and
a location, so stacks share what they have in common, and merging profiles adds up nodes.

    profile_epochs      a day, or as much as fits; goes as a whole with its last samples
    profile_nodes       (parent, location) of some thousand nodes in columns: cheap to read
    profile_paths       (parent, location) → node, of the current epoch: cheap to append to
    profile_locations   rows, because symbols repair them later
    profile_names       function and file, mapping and build id

Numbers count from 1 in each epoch; ids are `epoch << 32 | number`, so that an epoch's rows stand
together and are deleted without a search. Memory holds what was used last.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from huatuo.model.profile import Line, Location, Stack
from huatuo.store.profile.stored import LINES, decode_nodes, digest, encode_nodes, plain

__all__ = ["SCHEMA", "Dictionary", "drop_epochs"]

Ints = npt.NDArray[np.int64]
SCHEMA = """
CREATE TABLE profile_epochs (
    id INTEGER PRIMARY KEY, start_ns INTEGER, nodes INTEGER, locations INTEGER, names INTEGER,
    bytes INTEGER
);
CREATE TABLE profile_nodes (id INTEGER PRIMARY KEY, nodes INTEGER, data BLOB);
CREATE TABLE profile_paths (id INTEGER PRIMARY KEY, node INTEGER);
CREATE TABLE profile_locations (
    id INTEGER PRIMARY KEY, epoch INTEGER, whole INTEGER, site INTEGER, kind TEXT,
    mapping INTEGER, address INTEGER, lines BLOB
);
CREATE INDEX profile_locations_by_whole ON profile_locations (epoch, whole);
CREATE INDEX profile_locations_by_site ON profile_locations (epoch, site);
CREATE TABLE profile_names (
    id INTEGER PRIMARY KEY, epoch INTEGER, digest INTEGER, name TEXT, detail TEXT
);
CREATE INDEX profile_names_by_digest ON profile_names (epoch, digest)
"""
_TABLES = ("profile_nodes", "profile_locations", "profile_names")
_DAY_NS = 86400 * 1_000_000_000
_EPOCH_NODES = 1 << 20
_EPOCH_BYTES = 32 << 20  # less in a small store
_NODE_BYTES, _LOCATION_BYTES, _NAME_BYTES = 20, 80, 50  # about, with their indexes
_CHUNK_NODES = 1 << 14
_CHUNKS = 16  # small ones, before they are made one
_KEPT_LOCATIONS, _KEPT_PATHS = 4096, 16384  # used last; twice as many at most
_DROPPED_ROWS = 4096  # at a time

K = TypeVar("K")
V = TypeVar("V")


class _Recent(Generic[K, V]):
    """What was used last: two dicts, of which the older is dropped when the younger is full."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        found = self.young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: K, value: V) -> None:
        if len(self.young) >= self._size:
            self._old, self.young = self.young, {}
        self.young[key] = value

    def remove(self, values: set[V]) -> None:
        for each in (self.young, self._old):
            for key in [key for key, value in each.items() if value in values]:
                del each[key]


@dataclass(slots=True)
class _Epoch:
    """As its row; `nodes` counts the root, which is 0."""

    id: int
    start_ns: int
    nodes: int = 1
    locations: int = 0
    names: int = 0
    bytes: int = 0

    @property
    def base(self) -> int:
        return self.id << 32

    def save(self, db: sqlite3.Connection) -> None:
        db.execute(
            "REPLACE INTO profile_epochs VALUES (?, ?, ?, ?, ?, ?)",
            (self.id, self.start_ns, self.nodes, self.locations, self.names, self.bytes),
        )


class Dictionary:
    """The writer's side. `forget` after a transaction that failed, or that deleted epochs."""

    def __init__(self, max_bytes: int = 0) -> None:
        self._max_bytes = min(_EPOCH_BYTES, max_bytes // 16) if max_bytes else _EPOCH_BYTES
        self.forget()

    def forget(self) -> None:
        self._epoch: _Epoch | None = None
        self._locations: _Recent[Location, int] = _Recent(_KEPT_LOCATIONS)
        self._paths: _Recent[int, int] = _Recent(_KEPT_PATHS)

    def add(
        self, db: sqlite3.Connection, time_ns: int, stacks: Iterable[Stack]
    ) -> tuple[int, Ints]:
        """The current epoch, and the node where each stack ends."""
        epoch = self._current(db, time_ns)
        first = epoch.nodes
        new: dict[int, int] = {}
        leaves = [self._leaf(db, epoch, stack.locations, new, first) for stack in stacks]
        if new:
            db.executemany("INSERT INTO profile_paths VALUES (?, ?)", new.items())
            keys = np.fromiter(new, np.int64, len(new))
            _put_nodes(db, epoch.base + first, keys >> 32, keys & 0xFFFFFFFF)
            epoch.bytes += len(new) * _NODE_BYTES
            epoch.save(db)
        return epoch.id, np.array(leaves, np.int64)

    def _current(self, db: sqlite3.Connection, time_ns: int) -> _Epoch:
        if self._epoch is None:
            self._epoch = next(_epochs(db), None)
        epoch = self._epoch
        if (
            epoch is None
            or time_ns - epoch.start_ns > _DAY_NS
            or epoch.nodes > _EPOCH_NODES
            or epoch.bytes > self._max_bytes
        ):
            self.forget()
            db.execute("DELETE FROM profile_paths")
            epoch = self._epoch = _Epoch(epoch.id + 1 if epoch else 1, time_ns)
            epoch.save(db)
        return epoch

    def _leaf(
        self,
        db: sqlite3.Connection,
        epoch: _Epoch,
        stack: tuple[Location, ...],
        new: dict[int, int],
        first: int,
    ) -> int:
        """Nodes from `first` on, which are `new`, are not in the database yet."""
        numbers = list(map(self._locations.young.get, stack))
        young = self._paths.young
        node = 0
        for at in range(len(numbers) - 1, -1, -1):
            number = numbers[at] or self._location(db, epoch, stack[at])
            key = node << 32 | number
            found = young.get(key) or self._paths.get(key) or new.get(key)
            if found is None and node < first:
                row = db.execute("SELECT node FROM profile_paths WHERE id = ?", (key,)).fetchone()
                found = row[0] if row else None
            if found is None:
                found = new[key] = epoch.nodes
                epoch.nodes += 1
            if key not in young:
                self._paths.put(key, found)
                young = self._paths.young
            node = found
        return node

    def _location(self, db: sqlite3.Connection, epoch: _Epoch, location: Location) -> int:
        known = self._locations.get(location)
        if known is not None:
            return known
        shown = plain(location)
        whole = digest(shown)
        row = db.execute(
            "SELECT id FROM profile_locations WHERE epoch = ? AND whole = ?", (epoch.id, whole)
        ).fetchone()
        if row:
            number = int(row[0]) & 0xFFFFFFFF
        else:
            epoch.locations += 1
            epoch.bytes += _LOCATION_BYTES
            number = epoch.locations
            mapping = self._name(db, epoch, shown.mapping, shown.build_id)
            lines = self._lines(db, epoch, shown.lines)
            address = shown.address - (shown.address >> 63 << 64)
            db.execute(
                "INSERT INTO profile_locations VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (epoch.base + number, epoch.id, whole, digest(shown[:4]), shown.kind, mapping,
                 address, lines),
            )  # fmt: skip
        self._locations.put(location, number)
        return number

    def _lines(self, db: sqlite3.Connection, epoch: _Epoch, lines: tuple[Line, ...]) -> bytes:
        numbered = [(self._name(db, epoch, line.function, line.file), line.line) for line in lines]
        return np.array(numbered, LINES).tobytes()

    @staticmethod
    def _name(db: sqlite3.Connection, epoch: _Epoch, name: str, detail: str) -> int:
        key = digest((name, detail))
        row = db.execute(
            "SELECT id FROM profile_names WHERE epoch = ? AND digest = ?", (epoch.id, key)
        ).fetchone()
        if row:
            return int(row[0]) & 0xFFFFFFFF
        epoch.names += 1
        epoch.bytes += _NAME_BYTES + len(name) + len(detail)
        db.execute(
            "INSERT INTO profile_names VALUES (?, ?, ?, ?, ?)",
            (epoch.base + epoch.names, epoch.id, key, name, detail),
        )
        return epoch.names

    def set_lines(self, db: sqlite3.Connection, lines: Mapping[Location, tuple[Line, ...]]) -> int:
        """In all epochs; how many of these locations were stored with other lines."""
        wanted = [plain(location._replace(lines=new)) for location, new in lines.items()]
        changed: set[int] = set()
        for epoch in list(_epochs(db)):
            if self._epoch is not None and epoch.id == self._epoch.id:
                epoch = self._epoch
            numbers: set[int] = set()
            for at, location in enumerate(wanted):
                found = self._set_lines(db, epoch, location)
                numbers.update(found)
                if found:
                    changed.add(at)
            if numbers:
                epoch.save(db)
            if epoch is self._epoch:
                self._locations.remove(numbers)
        return len(changed)

    def _set_lines(self, db: sqlite3.Connection, epoch: _Epoch, location: Location) -> list[int]:
        """Numbers of the locations that were changed."""
        rows = db.execute(
            "SELECT id, whole FROM profile_locations WHERE epoch = ? AND site = ?",
            (epoch.id, digest(location[:4])),
        ).fetchall()
        whole = digest(location)
        ids = [row[0] for row in rows if row[1] != whole]
        if ids:
            new = self._lines(db, epoch, location.lines)
            db.executemany(
                "UPDATE profile_locations SET lines = ?, whole = ? WHERE id = ?",
                [(new, whole, each) for each in ids],
            )
        return [each & 0xFFFFFFFF for each in ids]

    def tidy(self, db: sqlite3.Connection) -> None:
        """Make many small chunks of nodes one."""
        if self._epoch is None:
            return
        rows = db.execute(
            "SELECT id, nodes, data FROM profile_nodes WHERE id > ? AND nodes < ? ORDER BY id",
            (self._epoch.base, _CHUNK_NODES),
        ).fetchall()
        if len(rows) < _CHUNKS:
            return
        parts = [decode_nodes(row[0] & 0xFFFFFFFF, *row[1:]) for row in rows]
        db.execute("DELETE FROM profile_nodes WHERE id >= ?", (rows[0][0],))
        parents, numbers = (np.concatenate(each) for each in zip(*parts, strict=True))
        _put_nodes(db, rows[0][0], parents, numbers)


def drop_epochs(db: sqlite3.Connection) -> bool:
    """Delete some of what no samples refer to any more; False when there is none."""
    row = db.execute(
        "SELECT id, id = (SELECT max(id) FROM profile_epochs) FROM profile_epochs"
        " WHERE id NOT IN (SELECT epoch FROM profile_blocks) LIMIT 1"
    ).fetchone()
    if row is None:
        return False
    epoch, is_current = row
    span = (epoch << 32, epoch + 1 << 32, _DROPPED_ROWS)
    for table in _TABLES:
        gone = db.execute(
            f"DELETE FROM {table} WHERE id IN"
            f" (SELECT id FROM {table} WHERE id BETWEEN ? AND ? LIMIT ?)",
            span,
        ).rowcount
        if gone:
            return True
    if is_current:
        db.execute("DELETE FROM profile_paths")
    db.execute("DELETE FROM profile_epochs WHERE id = ?", (epoch,))
    return True


def _epochs(db: sqlite3.Connection) -> Iterator[_Epoch]:
    """The newest first."""
    for row in db.execute(
        "SELECT id, start_ns, nodes, locations, names, bytes FROM profile_epochs ORDER BY id DESC"
    ):
        yield _Epoch(*row)


def _put_nodes(db: sqlite3.Connection, first: int, parents: Ints, numbers: Ints) -> None:
    """`first` is the id of the first one."""
    data = encode_nodes(first & 0xFFFFFFFF, parents, numbers)
    db.execute("INSERT INTO profile_nodes VALUES (?, ?, ?)", (first, len(parents), data))
