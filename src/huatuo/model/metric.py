"""Metric families at one moment, in columns.

A probe yields families whose label columns may still be kernel identities (cgroup ids, disks);
enrichment replaces those by names, by the column's meaning. Nothing here is per sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from huatuo.model.meaning import MEANINGS, Meaning, Role

__all__ = ["FIRST_EDGE_LOG2", "Column", "Metric", "edges"]

Key = TypeVar("Key", bound=tuple[str, ...])  # the values of all labels, in order
FIRST_EDGE_LOG2 = -20  # upper edge of slot 0 is 2^-20 s; see bpf/histogram.bpf.h


def edges(slots: int) -> list[float]:
    """Upper edges in seconds of all slots but the last, which has none."""
    return [2.0 ** (FIRST_EDGE_LOG2 + slot) for slot in range(slots - 1)]


@dataclass(frozen=True, slots=True)
class Column:
    """One label of all samples of a family, shape (n,): names, or identities still to resolve."""

    values: Sequence[str] | npt.NDArray[np.generic]
    meaning: Meaning = MEANINGS["plain"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family.

    `values`: counters and gauges float64 (n,) in base units; histograms uint64 (n, slots), then
    `sums` holds float64 (n,) in base units and edges are `edges(slots)`.
    """

    name: str
    kind: Role
    help: str
    values: npt.NDArray[np.generic]
    labels: Mapping[str, Column] = field(default_factory=dict)
    sums: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def of(
        cls,
        name: str,
        kind: Role,
        help: str,
        samples: Mapping[Key, float],
        label_names: Sequence[str] = (),
    ) -> Metric:
        """From label values to value: {("eth0",): 12.0}, or {(): 3.0} without labels."""
        columns = {
            label: Column([key[i] for key in samples]) for i, label in enumerate(label_names)
        }
        return cls(name, kind, help, np.array(list(samples.values()), np.float64), columns)
