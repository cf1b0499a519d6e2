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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from huatuo.model.profile import Line, Location, Stack
from huatuo.store.profile.recent import NumberTable, RecentPaths
from huatuo.store.profile.stored import LINES, digest, encode_nodes, nodes_of, plain

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
_DROPPED_ROWS = 4096  # at a time


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
    """The writer's side. `forget` after a transaction that failed."""

    def __init__(self, on_bad_block: Callable[[str], None]) -> None:
        self._bad = on_bad_block
        self._max_bytes = _EPOCH_BYTES
        self.forget()

    def fit(self, room: int) -> None:
        """The store can have this many bytes. The dictionary of an epoch goes as a whole, so it
        must not be a large part of them."""
        self._max_bytes = min(_EPOCH_BYTES, room // 16)

    def forget(self) -> None:
        self._epoch: _Epoch | None = None
        self._stacks, self._locations, self._paths = NumberTable(), NumberTable(), RecentPaths()

    def recheck(self, db: sqlite3.Connection) -> None:
        """After deleting: the current epoch may be without samples, and be gone soon."""
        if self._epoch is not None and not _is_used(db, self._epoch):
            self.forget()

    def add(
        self, db: sqlite3.Connection, time_ns: int, stacks: Sequence[Stack]
    ) -> tuple[int, Ints]:
        """The current epoch, and the node where each stack ends."""
        epoch = self._current(db, time_ns)
        first = epoch.nodes
        keys = np.fromiter((hash(stack.locations) for stack in stacks), np.int64, len(stacks))
        leaves = self._stacks.find(keys)
        unknown = np.flatnonzero(leaves == 0)
        wanted = [stacks[at].locations for at in unknown.tolist()]
        number_of = self._numbers(db, epoch, {location for stack in wanted for location in stack})
        new: dict[int, int] = {}
        leaves[unknown] = [
            self._leaf(db, epoch, map(number_of.__getitem__, reversed(stack)), new, first)
            for stack in wanted
        ]
        self._stacks.keep(keys[unknown], leaves[unknown])
        if new:
            db.executemany("INSERT INTO profile_paths VALUES (?, ?)", new.items())
            parts = np.fromiter(new, np.int64, len(new))
            _put_nodes(db, epoch.base + first, parts >> 32, parts & 0xFFFFFFFF)
            epoch.bytes += len(new) * _NODE_BYTES
            epoch.save(db)
        return epoch.id, leaves

    def _current(self, db: sqlite3.Connection, time_ns: int) -> _Epoch:
        epoch = self._epoch or next(_epochs(db), None)
        if (
            epoch is None
            or not (self._epoch or _is_used(db, epoch))
            or time_ns - epoch.start_ns > _DAY_NS
            or epoch.nodes > _EPOCH_NODES
            or epoch.bytes > self._max_bytes
        ):
            self.forget()
            db.execute("DELETE FROM profile_paths")
            epoch = _Epoch(epoch.id + 1 if epoch else 1, time_ns)
            epoch.save(db)
        self._epoch = epoch
        return epoch

    def _leaf(
        self,
        db: sqlite3.Connection,
        epoch: _Epoch,
        numbers: Iterable[int],
        new: dict[int, int],
        first: int,
    ) -> int:
        """Of a stack's locations, outermost first. Nodes from `first` on, which are `new`, are not
        in the database yet."""
        node = 0
        for number in numbers:
            path = node << 32 | number
            found = self._paths.get(path) or new.get(path)
            if found is None and node < first:
                row = db.execute("SELECT node FROM profile_paths WHERE id = ?", (path,)).fetchone()
                found = row[0] if row else None
            if found is None:
                found = new[path] = epoch.nodes
                epoch.nodes += 1
            self._paths.put(path, found)
            node = found
        return node

    def _numbers(
        self, db: sqlite3.Connection, epoch: _Epoch, distinct: Collection[Location]
    ) -> dict[Location, int]:
        keys = np.fromiter(map(hash, distinct), np.int64, len(distinct))
        numbers = self._locations.find(keys)
        found = dict(zip(distinct, numbers.tolist(), strict=True))
        unknown = [location for location, number in found.items() if not number]
        for location in unknown:
            found[location] = self._location(db, epoch, location)
        new = numbers == 0
        self._locations.keep(keys[new], np.array([found[each] for each in unknown], np.int64))
        return found

    def _location(self, db: sqlite3.Connection, epoch: _Epoch, location: Location) -> int:
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
        shown = (plain(location._replace(lines=new)) for location, new in lines.items())
        wanted = {location[:4]: location for location in shown}
        changed: set[tuple[object, ...]] = set()
        for epoch in list(_epochs(db)):
            if self._epoch is not None and epoch.id == self._epoch.id:
                epoch = self._epoch
            numbers: set[int] = set()
            for site, location in wanted.items():
                found = self._set_lines(db, epoch, location)
                numbers.update(found)
                if found:
                    changed.add(site)
            if numbers:
                epoch.save(db)
            if numbers and epoch is self._epoch:
                self._stacks = NumberTable()
                self._locations.remove(np.array(list(numbers), np.int64))
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
        """Make many small chunks of nodes one: all after the last large one."""
        if self._epoch is None:
            return
        rows = db.execute(
            "SELECT id, nodes, data FROM profile_nodes WHERE id > max(?,"
            " (SELECT ifnull(max(id), 0) FROM profile_nodes WHERE nodes >= ?)) ORDER BY id",
            (self._epoch.base, _CHUNK_NODES),
        ).fetchall()
        if len(rows) < _CHUNKS:
            return
        parts = [nodes_of(first, count, data, self._bad) for first, count, data in rows]
        db.execute("DELETE FROM profile_nodes WHERE id >= ?", (rows[0][0],))
        parents, numbers = (np.concatenate(each) for each in zip(*parts, strict=True))
        _put_nodes(db, rows[0][0], parents, numbers)


def drop_epochs(db: sqlite3.Connection) -> bool:
    """Delete some of what no samples refer to any more; False when there is none."""
    row = db.execute(
        "SELECT id, id = (SELECT max(id) FROM profile_epochs) FROM profile_epochs AS e"
        " WHERE NOT EXISTS (SELECT 1 FROM profile_blocks WHERE epoch = e.id) LIMIT 1"
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


def _is_used(db: sqlite3.Connection, epoch: _Epoch) -> bool:
    """Whether there are samples. Without them it is being dropped."""
    row = db.execute("SELECT 1 FROM profile_blocks WHERE epoch = ? LIMIT 1", (epoch.id,)).fetchone()
    return row is not None


def _put_nodes(db: sqlite3.Connection, first: int, parents: Ints, numbers: Ints) -> None:
    """`first` is the id of the first one."""
    data = encode_nodes(first & 0xFFFFFFFF, parents, numbers)
    db.execute("INSERT INTO profile_nodes VALUES (?, ?, ?)", (first, len(parents), data))
