"""Samples in the database: a block per batch, joined to larger ones as they become many.

A block of level 0 is a batch; sixteen of one level (fewer if they are large) become one of the
next, up to level 2 or some 100,000 samples. All samples of a block are of one type and one epoch
of the dictionary. A reader sees every sample exactly once, since a join is one transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from huatuo.model.profile import Line, Location, Samples, Stack
from huatuo.store.codec import BadBlock
from huatuo.store.profile import dictionary
from huatuo.store.profile.dictionary import Dictionary
from huatuo.store.profile.labels import LabelTable
from huatuo.store.profile.matching import Selector
from huatuo.store.profile.samples import MILLISECOND, Groups, Rows, group, join
from huatuo.store.profiles import ProfileQuery

__all__ = ["SCHEMA", "STATUS", "Found", "ProfileLog"]

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
SCHEMA = (
    dictionary.SCHEMA
    + """;
CREATE TABLE profile_blocks (
    id INTEGER PRIMARY KEY, type TEXT, epoch INTEGER, level INTEGER, start_ns INTEGER,
    end_ns INTEGER, samples INTEGER, groups BLOB, rows BLOB
);
CREATE INDEX profile_blocks_by_type ON profile_blocks (
    type, start_ns, end_ns, epoch, level, samples
);
CREATE INDEX profile_blocks_by_time ON profile_blocks (start_ns);
CREATE INDEX profile_blocks_by_epoch ON profile_blocks (epoch)
"""
)
STATUS = ""  # the label that tells the status of stacks; no other is called so
_JOINED = 16  # blocks
_FULL_SAMPLES = 1 << 17
_TOP = 2


@dataclass(frozen=True, slots=True)
class Found:
    """A block's samples that satisfy a query: the block's `groups`, of which only those samples
    are counted, and they themselves if asked."""

    epoch: int
    groups: Groups
    rows: Rows | None


class ProfileLog:
    """All state but what the dictionary remembers is in the database."""

    def __init__(self, on_bad_block: Callable[[str], None]) -> None:
        self._bad = on_bad_block
        self._dictionary = Dictionary(on_bad_block)
        self._due = True
        self._appended = 0

    def forget(self) -> None:
        """The last transaction failed."""
        self._dictionary.forget()
        self._due = True

    def fit(self, room: int) -> None:
        """The store can have this many bytes."""
        self._dictionary.fit(room)

    def recheck(self, db: sqlite3.Connection) -> None:
        """After deleting."""
        self._dictionary.recheck(db)

    # -- writing -------------------------------------------------------------------------------

    def append(self, db: sqlite3.Connection, samples: Samples) -> None:
        used = np.unique(samples.stack_of)
        stacks = [samples.stacks[at] for at in used.tolist()]
        times = samples.times // MILLISECOND * MILLISECOND
        epoch, leaves = self._dictionary.add(db, int(times.max()), stacks)
        stack_of = np.searchsorted(used, samples.stack_of)
        labels, sets = _label_sets(samples, stacks, stack_of)
        rows = Rows(times, np.arange(len(times)), samples.values)
        groups, rows = group(labels, leaves[stack_of], sets, rows)
        level = _TOP if len(samples) >= _FULL_SAMPLES else 0
        _put(db, samples.type, epoch, level, groups, rows)
        self._appended += 1
        self._due = self._due or self._appended % _JOINED == 0

    def set_lines(self, db: sqlite3.Connection, lines: Mapping[Location, tuple[Line, ...]]) -> int:
        return self._dictionary.set_lines(db, lines)

    def is_due(self) -> bool:
        """Whether `step` may have something to do."""
        return self._due

    def step(self, db: sqlite3.Connection) -> None:
        """Join some blocks of one type, at most some 100,000 samples."""
        work = db.execute(
            "SELECT type, epoch, level FROM profile_blocks WHERE level < ?"
            " GROUP BY type, epoch, level HAVING count(*) >= ? LIMIT 1",
            (_TOP, _JOINED),
        ).fetchone()
        if work is None:
            self._dictionary.tidy(db)
            self._due = False
            return
        rows = db.execute(
            "SELECT id, samples FROM profile_blocks WHERE type = ? AND epoch = ? AND level = ?"
            " ORDER BY id LIMIT ?",
            (*work, _JOINED),
        ).fetchall()
        ids: list[int] = []
        total = 0
        for block, samples in rows:
            if ids and total + samples > _FULL_SAMPLES:
                break
            ids.append(block)
            total += samples
        self._join(db, work, ids)

    def _join(self, db: sqlite3.Connection, work: tuple[str, int, int], ids: list[int]) -> None:
        type_, epoch, level = work
        blocks = []
        for block in ids:
            groups, rows = db.execute(
                "SELECT groups, rows FROM profile_blocks WHERE id = ?", (block,)
            ).fetchone()
            with self._readable():
                blocks.append((Groups.decode(groups), Rows.decode(rows)))
        if blocks:
            groups, rows = join(blocks)
            is_full = 2 * len(rows.times) > _FULL_SAMPLES
            _put(db, type_, epoch, _TOP if is_full else level + 1, groups, rows)
        db.executemany("DELETE FROM profile_blocks WHERE id = ?", [(block,) for block in ids])

    # -- reading -------------------------------------------------------------------------------

    @staticmethod
    def count(db: sqlite3.Connection) -> int:
        return int(db.execute("SELECT total(samples) FROM profile_blocks").fetchone()[0])

    def types(self, db: sqlite3.Connection, start_ns: int, end_ns: int) -> list[str]:
        found = db.execute("SELECT DISTINCT type FROM profile_blocks ORDER BY type").fetchall()
        queries = (ProfileQuery(name, start_ns, end_ns) for (name,) in found)
        return [query.type for query in queries if next(self.find(db, query), None)]

    def bounds(self, db: sqlite3.Connection, query: ProfileQuery) -> tuple[int, int]:
        """The query's range; an open end is taken from the samples of the type."""
        first, last = db.execute(
            "SELECT min(start_ns), max(end_ns) FROM profile_blocks"
            " WHERE type = ? AND start_ns <= ? AND end_ns >= ?",
            (query.type, query.end_ns, query.start_ns),
        ).fetchone()
        start = query.start_ns or first or 0
        return start, (last or start) if query.end_ns == 2**63 - 1 else query.end_ns

    def find(
        self, db: sqlite3.Connection, query: ProfileQuery, *, with_rows: bool = False
    ) -> Iterator[Found]:
        """Blocks with at least one sample that satisfies the query. Raises BadQuery."""
        selector = Selector(query.matchers)
        heads = db.execute(
            "SELECT id, epoch, start_ns, end_ns FROM profile_blocks"
            " WHERE type = ? AND start_ns <= ? AND end_ns >= ? ORDER BY start_ns",
            (query.type, query.end_ns, query.start_ns),
        ).fetchall()
        for block, epoch, start, end in heads:
            with self._readable():
                groups = Groups.decode(_column(db, "groups", block))
                mask = selector.sets(groups.labels)[groups.sets]
                if not mask.any():
                    continue
                rows = None
                if with_rows or start < query.start_ns or query.end_ns < end:
                    rows = Rows.decode(_column(db, "rows", block))
                    rows = rows.within(query.start_ns, query.end_ns, mask)
                    groups = groups.of(rows)
                else:
                    groups = groups.among(mask)
                if groups.counts.any():
                    yield Found(epoch, groups, rows)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """A block that the medium damaged is passed over and reported."""
        try:
            yield
        except BadBlock as error:
            self._bad(f"a block of profiles cannot be read: {error}")


def _column(db: sqlite3.Connection, name: str, block: int) -> bytes:
    row = db.execute(f"SELECT {name} FROM profile_blocks WHERE id = ?", (block,)).fetchone()
    return bytes(row[0])


def _put(
    db: sqlite3.Connection, type_: str, epoch: int, level: int, groups: Groups, rows: Rows
) -> None:
    times = rows.times
    db.execute(
        "INSERT INTO profile_blocks (type, epoch, level, start_ns, end_ns, samples, groups, rows)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (type_, epoch, level, int(times[0]), int(times[-1]), len(times), groups.encode(),
         rows.encode()),
    )  # fmt: skip


def _label_sets(
    samples: Samples, stacks: Sequence[Stack], stack_of: Ints
) -> tuple[LabelTable, Ints]:
    """The sets of labels, each with the status of a stack, and which of them each sample has."""
    statuses = [str(stack.status) for stack in stacks]
    words = list(dict.fromkeys(statuses))
    code = np.array([words.index(status) for status in statuses], np.int64)
    pairs, pair_of = np.unique(
        samples.labels_of.astype(np.int64) * len(words) + code[stack_of], return_inverse=True
    )
    sets = [
        {**samples.labels[pair // len(words)], STATUS: words[pair % len(words)]}
        for pair in pairs.tolist()
    ]
    labels, number = LabelTable.of(sets).distinct()
    return labels, number[pair_of]
