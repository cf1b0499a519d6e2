"""What goes when: everything older than the age limit, then the oldest until the size fits."""

from __future__ import annotations

import sqlite3

from huatuo.store.history import HOUR_NS, WINDOW_NS
from huatuo.store.profile.dictionary import drop_epochs

__all__ = ["delete_before", "delete_oldest", "oldest_ns"]

_ROWS = 256  # of events not yet in blocks, at a time
_OLDEST = (
    ("recent", "SELECT min(time_ns) FROM recent"),
    ("blocks", "SELECT min(start_ns) FROM blocks"),
    ("chunks", "SELECT min(start_ns) FROM chunks"),
    ("head", "SELECT min(time_ns) FROM head"),
    ("profile_blocks", "SELECT min(start_ns) FROM profile_blocks"),
)


def oldest_ns(db: sqlite3.Connection) -> int:
    """Time of the oldest thing stored; 0 if there is none."""
    return min((found for found, _ in _oldest(db)), default=0)


def _oldest(db: sqlite3.Connection) -> list[tuple[int, str]]:
    found = ((db.execute(query).fetchone()[0], table) for table, query in _OLDEST)
    return sorted((when, table) for when, table in found if when is not None)


def delete_before(db: sqlite3.Connection, cutoff_ns: int) -> None:
    """A block or chunk goes when its last sample is too old."""
    db.execute("DELETE FROM recent WHERE time_ns < ?", (cutoff_ns,))
    db.execute("DELETE FROM blocks WHERE end_ns < ?", (cutoff_ns,))
    db.execute("DELETE FROM chunks WHERE start_ns < ? AND end_ns < ?", (cutoff_ns, cutoff_ns))
    db.execute("DELETE FROM head WHERE time_ns < ?", (cutoff_ns,))
    db.execute("DELETE FROM profile_blocks WHERE end_ns < ?", (cutoff_ns,))


def delete_oldest(db: sqlite3.Connection) -> bool:
    """One block of events or profiles, some rows, or one window of metrics; before that what no
    samples refer to any more. False when nothing is left."""
    if drop_epochs(db):
        return True
    found = _oldest(db)
    if not found:
        return False
    when, table = found[0]
    if table == "recent":
        db.execute(
            "DELETE FROM recent WHERE id IN (SELECT id FROM recent ORDER BY time_ns LIMIT ?)",
            (_ROWS,),
        )
    elif table == "blocks":
        db.execute("DELETE FROM blocks WHERE start_ns = ?", (when,))
    elif table == "chunks":
        end = when - when % WINDOW_NS + WINDOW_NS
        db.execute("DELETE FROM chunks WHERE start_ns < ? AND end_ns < ?", (end, when + HOUR_NS))
    elif table == "profile_blocks":
        db.execute("DELETE FROM profile_blocks WHERE start_ns = ?", (when,))
    else:
        db.execute("DELETE FROM head WHERE time_ns = ?", (when,))
    return True
