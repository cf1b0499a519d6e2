"""What the writer used last, in bounded memory and without keeping anything alive."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["NumberTable", "RecentPaths"]

Ints = npt.NDArray[np.int64]
_SETS = 1 << 14
_WAYS = 4  # entries that share a set; the next one in turn gives way
_PATHS = 1 << 13


class NumberTable:
    """Hash → number above 0, some 65,000 of them in 1 MB, many at a time.

    Things with equal hashes of 64 bits are taken for the same: among 100,000 of them the chance is
    one in four thousand million.
    """

    def __init__(self) -> None:
        self._keys = np.zeros((_SETS, _WAYS), np.int64)
        self._values = np.zeros((_SETS, _WAYS), np.int64)
        self._turn = 0

    def find(self, keys: Ints) -> Ints:
        """0 where it is not known."""
        sets = keys & (_SETS - 1)
        hits = self._keys[sets] == keys.reshape(-1, 1)
        found: Ints = np.where(hits, self._values[sets], 0).max(axis=1)
        return found

    def keep(self, keys: Ints, values: Ints) -> None:
        ways = (self._turn + np.arange(len(keys))) % _WAYS
        self._turn += len(keys)
        sets = keys & (_SETS - 1)
        self._keys[sets, ways] = keys
        self._values[sets, ways] = values

    def remove(self, values: Ints) -> None:
        self._values[np.isin(self._values, values)] = 0


class RecentPaths:
    """Path → node: two dicts, of which the older is dropped when the younger is full; at most
    2 MB."""

    def __init__(self) -> None:
        self._young: dict[int, int] = {}
        self._old: dict[int, int] = {}

    def get(self, path: int) -> int | None:
        return self._young.get(path) or self._old.get(path)

    def put(self, path: int, node: int) -> None:
        if len(self._young) >= _PATHS:
            self._old, self._young = self._young, {}
        self._young[path] = node
