"""The reader's side of the dictionary: the tree of an epoch, and what its locations are."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt

from huatuo.model.profile import FrameKind, Line, Location
from huatuo.store.codec import BadBlock
from huatuo.store.profile.stored import LINES, nodes_of

__all__ = ["digests", "locations", "tree"]

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
_LOST_NAME = "[unreadable]"
_LOST = Location(FrameKind.NATIVE, "", 0, "", (Line(_LOST_NAME),))  # the medium changed it
_KINDS = {kind.value: kind for kind in FrameKind}
_int_list = msgspec.json.Decoder(list[int])
_text_list = msgspec.json.Decoder(list[str])
# As Line._make and Location._make, without the price of a function in Python for each.
_line: Callable[[tuple[str, str, int]], Line] = partial(tuple.__new__, Line)
_location: Callable[[tuple[object, ...]], Location] = partial(tuple.__new__, Location)


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
    found, (wholes,) = _columns(db, "profile_locations", epoch, numbers, "whole")
    at, is_there = _places(found, numbers)
    return np.where(is_there, np.append(_ints(wholes), 0)[at], 0)


def locations(db: sqlite3.Connection, epoch: int, numbers: Ints) -> list[Location]:
    """Of ascending numbers."""
    found, (kind_names, mappings, addresses, sizes, hexed) = _columns(
        db, "profile_locations", epoch, numbers,
        "kind", "mapping", "address", "length(lines)", "hex(lines)",
    )  # fmt: skip
    try:
        stored = np.frombuffer(bytes.fromhex("".join(_texts(hexed))), LINES)
        kinds = [_KINDS[kind] for kind in _texts(kind_names)]
    except (KeyError, ValueError) as error:
        raise BadBlock(f"a location of profiles: {error}") from error
    of_mapping, of_line = _ints(mappings), stored["name"].astype(np.int64)
    known, first, second = _names(db, epoch, np.unique(np.concatenate([of_mapping, of_line])))
    at = np.searchsorted(known, of_line).tolist()
    columns = (map(first.__getitem__, at), map(second.__getitem__, at), stored["line"].tolist())
    lines = list(map(_line, zip(*columns, strict=True)))
    ends = np.cumsum(_ints(sizes) // LINES.itemsize).tolist()
    at = np.searchsorted(known, of_mapping).tolist()
    made = map(
        _location,
        zip(
            kinds,
            map(first.__getitem__, at),
            _ints(addresses).view(np.uint64).tolist(),
            map(second.__getitem__, at),
            (tuple(lines[start:end]) for start, end in pairwise([0, *ends])),
            strict=True,
        ),
    )
    every = [*made, _LOST]
    at, is_there = _places(found, numbers)
    return list(map(every.__getitem__, np.where(is_there, at, len(found)).tolist()))


def _names(db: sqlite3.Connection, epoch: int, numbers: Ints) -> tuple[Ints, list[str], list[str]]:
    """(numbers, names, details), ascending, with all that are asked for."""
    found, (first, second) = _columns(db, "profile_names", epoch, numbers, "name", "detail")
    names, details = _texts(first), _texts(second)
    lost = np.setdiff1d(numbers, found)
    if not len(lost):
        return found, names, details
    order = np.argsort(np.concatenate([found, lost])).tolist()
    names += [_LOST_NAME] * len(lost)
    details += [""] * len(lost)
    found = np.sort(np.concatenate([found, lost]))
    return found, [names[at] for at in order], [details[at] for at in order]


def _columns(
    db: sqlite3.Connection, table: str, epoch: int, numbers: Ints, *columns: str
) -> tuple[Ints, list[str]]:
    """The numbers of rows, ascending, and their columns as JSON: at least the rows asked for,
    as far as they exist.

    Columns are put together by SQLite, because fetching row by row would take and let go the
    interpreter's lock for each.
    """
    if not len(numbers):
        return np.empty(0, np.int64), ["[]"] * len(columns)
    base = epoch << 32
    low, high = int(numbers[0]), int(numbers[-1])
    where, values = "BETWEEN ? AND ?", [str(base + low), str(base + high)]
    if 4 * len(numbers) < high - low:
        where, values = "IN (SELECT value FROM json_each(?))", [_json(numbers + base)]
    arrays = ", ".join(f"json_group_array(c{at})" for at in range(len(columns)))
    inner = ", ".join(f"{column} AS c{at}" for at, column in enumerate(columns))
    ids, *found = db.execute(
        f"SELECT json_group_array(id), {arrays}"
        f" FROM (SELECT id, {inner} FROM {table} WHERE id {where} ORDER BY id)",
        values,
    ).fetchone()
    return _ints(ids) - base, found


def _places(found: Ints, numbers: Ints) -> tuple[Ints, Mask]:
    """Where each number stands in `found`, and whether it does."""
    at = np.searchsorted(found, numbers)
    return at, np.append(found, -1)[at] == numbers


def _ints(text: str) -> Ints:
    return np.array(_int_list.decode(text), np.int64)


def _texts(text: str) -> list[str]:
    return _text_list.decode(text)


def _json(numbers: Ints) -> str:
    return msgspec.json.encode(numbers.tolist()).decode()
