"""The reader's side of the dictionary: the tree of an epoch, and what its locations are."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from huatuo.model.profile import FrameKind
from huatuo.store.codec import BadBlock
from huatuo.store.profile.locations import LocationTable
from huatuo.store.profile.stored import LINES, WORD, nodes_of

__all__ = ["digests", "locations", "tree"]

Ints = npt.NDArray[np.int64]
_LOST_NAME = "[unreadable]"  # the medium changed it
_KINDS = {kind.value: kind for kind in FrameKind}
_list = msgspec.json.Decoder(list[Any])


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
        parents[span], numbers[span] = nodes_of(first, count, data, on_bad_block)
    return parents, numbers


def digests(db: sqlite3.Connection, epoch: int, numbers: Ints) -> Ints:
    """What tells locations apart, also those of different epochs; of ascending numbers."""
    (wholes,) = _rows(db, "profile_locations", epoch, numbers, {"whole": 0})
    return np.array(wholes, np.int64)


def locations(db: sqlite3.Connection, epoch: int, numbers: Ints) -> LocationTable:
    """Of ascending numbers. What is missing is called so. Raises BadBlock."""
    defaults = {"kind": FrameKind.NATIVE.value, "mapping": 0, "address": 0, "hex(lines)": ""}
    kinds, mappings, addresses, hexed = _rows(db, "profile_locations", epoch, numbers, defaults)
    try:
        stored = np.frombuffer(bytes.fromhex("".join(hexed)), LINES)
        kinds = [_KINDS[kind] for kind in kinds]
    except (KeyError, ValueError) as error:
        raise BadBlock(f"a location of profiles: {error}") from error
    of_line, of_mapping = stored["name"].astype(np.int64), np.array(mappings, np.int64)
    used = np.unique(np.concatenate([of_line, of_mapping]))
    names, details = _rows(db, "profile_names", epoch, used, {"name": _LOST_NAME, "detail": ""})
    lines, files = (
        np.searchsorted(used, of_line).tolist(),
        np.searchsorted(used, of_mapping).tolist(),
    )
    return LocationTable(
        kinds,
        list(map(names.__getitem__, files)),
        [address & WORD for address in addresses],
        list(map(details.__getitem__, files)),
        list(accumulate((len(each) // (2 * LINES.itemsize) for each in hexed), initial=0)),
        list(map(names.__getitem__, lines)),
        list(map(details.__getitem__, lines)),
        stored["line"].tolist(),
    )


def _rows(
    db: sqlite3.Connection, table: str, epoch: int, numbers: Ints, columns: Mapping[str, object]
) -> list[list[Any]]:
    """Columns of the rows with these numbers, which ascend; `columns` has what stands for a row
    that is not there.

    SQLite puts them together, because fetching row by row would take and let go the interpreter's
    lock for each.
    """
    if not len(numbers):
        return [[] for _ in columns]
    base = epoch << 32
    low, high = int(numbers[0]), int(numbers[-1])
    values: list[int | str]
    where, values = "BETWEEN ? AND ?", [base + low, base + high]
    if 4 * len(numbers) < high - low:
        where += " AND id IN (SELECT value FROM json_each(?))"
        values.append(msgspec.json.encode((numbers + base).tolist()).decode())
    named = [f"{column} AS c{at}" for at, column in enumerate(columns)]
    arrays = [f"json_group_array(c{at})" for at in range(len(columns))]
    ids, *texts = db.execute(
        f"SELECT json_group_array(id), {', '.join(arrays)}"
        f" FROM (SELECT id, {', '.join(named)} FROM {table} WHERE id {where} ORDER BY id)",
        values,
    ).fetchone()
    stored = np.array(_list.decode(ids), np.int64) - base
    at = np.searchsorted(stored, numbers)
    at = np.where(np.append(stored, -1)[at] == numbers, at, len(stored))
    every = [
        [*_list.decode(text), missing]
        for text, missing in zip(texts, columns.values(), strict=True)
    ]
    return [list(map(column.__getitem__, at.tolist())) for column in every]
