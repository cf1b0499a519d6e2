"""Calling-context trees in columns: what is used of one, and several made one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from huatuo.model.profile import levels

__all__ = ["Tree"]

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Tree(NamedTuple):
    """`parents` (-1 at the root, node 0; parents stand before their children), `locations` and
    `values`: int64 (n,)."""

    parents: Ints
    locations: Ints
    values: Ints

    def pruned(self, used: Mask) -> Tree:
        """Only the root, the nodes `used`, and what is above them."""
        used[0] = True
        above = np.flatnonzero(used)[1:]
        while len(above):
            above = self.parents[above]
            above = above[~used[above] & (np.diff(above, prepend=-1) != 0)]
            used[above] = True
        number = np.cumsum(used) - 1
        parents = number[self.parents[used]]
        parents[0] = -1
        return Tree(parents, self.locations[used], self.values[used])

    @classmethod
    def merged(cls, trees: Sequence[Tree]) -> Tree:
        """Below one node each location stands once; values are added. Level by level."""
        starts = np.cumsum([0, *(len(tree.parents) for tree in trees[:-1])])
        parents = np.concatenate(
            [
                np.where(tree.parents < 0, -1, tree.parents + at)
                for tree, at in zip(trees, starts, strict=True)
            ]
        )
        locations = np.concatenate([tree.locations for tree in trees])
        number = np.zeros(len(parents), np.int64)  # in the merged tree
        found = [np.array([-1])], [np.array([-1])]
        count = 1
        for nodes in levels(parents)[1:]:
            keys = number[parents[nodes]] << 32 | locations[nodes]
            keys, where = np.unique(keys, return_inverse=True)
            number[nodes] = count + where
            count += len(keys)
            found[0].append(keys >> 32)
            found[1].append(keys & 0xFFFFFFFF)
        values = np.zeros(count, np.int64)
        np.add.at(values, number, np.concatenate([tree.values for tree in trees]))
        return cls(np.concatenate(found[0]), np.concatenate(found[1]), values)
