"""The reader's side of the dictionary: the tree of an epoch, and what its locations are."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt

from huatuo.model.profile import FrameKind, Line, Location
from huatuo.store.codec import BadBlock
from huatuo.store.profile.stored import LINES, WORD, decode_nodes

__all__ = ["locations", "tree"]

Ints = npt.NDArray[np.int64]
_LOST_NAME = ("[unreadable]", "")
_LOST = Location(FrameKind.NATIVE, "", 0, "", (Line(*_LOST_NAME),))  # the medium changed it


def tree(
    db: sqlite3.Connection, epoch: int, on_bad_block: Callable[[str], None]
) -> tuple[Ints, Ints]:
    """(parent, location) of every node of an epoch; the root is node 0, its parent -1. Nodes that
    cannot be read hang below the root, with location 0."""
    (nodes,) = db.execute("SELECT nodes FROM profile_epochs WHERE id = ?", (epoch,)).fetchone()
    parents, numbers = np.zeros(nodes, np.int64), np.zeros(nodes, np.int64)
    parents[0] = -1
    base = epoch << 32
    rows = db.execute(
        "SELECT id, nodes, data FROM profile_nodes WHERE id BETWEEN ? AND ?", (base, base + nodes)
    )
    for first, count, data in rows:
        span = slice(first - base, first - base + count)
        try:
            parents[span], numbers[span] = decode_nodes(first - base, count, data)
        except BadBlock as error:
            on_bad_block(f"a part of the stacks of profiles cannot be read: {error}")
    return parents, numbers


def locations(db: sqlite3.Connection, epoch: int, numbers: Ints) -> list[Location]:
    """Of ascending numbers."""
    base = epoch << 32
    rows = db.execute(
        "SELECT id, kind, mapping, address, lines FROM profile_locations"
        " WHERE id IN (SELECT value FROM json_each(?))",
        (_json(numbers + base),),
    ).fetchall()
    lines = np.frombuffer(b"".join(row[4] for row in rows), LINES)
    mappings = np.array([row[2] for row in rows], np.int64)
    wanted = np.unique(np.concatenate([lines["name"].astype(np.int64), mappings])) + base
    names = {
        number - base: (name, detail)
        for number, name, detail in db.execute(
            "SELECT id, name, detail FROM profile_names"
            " WHERE id IN (SELECT value FROM json_each(?))",
            (_json(wanted),),
        )
    }
    flat = [Line(*names.get(name, _LOST_NAME), line) for name, line in lines.tolist()]
    kinds = {kind.value: kind for kind in FrameKind}
    found = {}
    at = 0
    for number, kind, mapping, address, packed in rows:
        end = at + len(packed) // LINES.itemsize
        name, build_id = names.get(mapping, _LOST_NAME)
        found[number - base] = Location(
            kinds[kind], name, address & WORD, build_id, tuple(flat[at:end])
        )
        at = end
    return [found.get(number, _LOST) for number in numbers.tolist()]


def _json(numbers: Ints) -> str:
    return msgspec.json.encode(numbers.tolist()).decode()
