"""Heatmaps as Pyroscope makes them: how many values of which size there are in each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from huatuo.export.pyroscope_messages import HeatmapSeries, HeatmapSlot
from huatuo.serve.pyroscope_labels import pairs

__all__ = ["heatmap"]

_BANDS = 20  # of equal height, between the smallest and the largest value

Values = npt.NDArray[np.int64]


def heatmap(
    series: Sequence[tuple[Mapping[str, str], Values]], start_ms: int, step_ms: int, limit: int
) -> list[HeatmapSeries]:
    """Each series' value of a step is one observation; series with equal labels are counted
    together. `limit` > 0: only so many, the largest first."""
    groups: dict[tuple[tuple[str, str], ...], list[Values]] = {}
    for labels, values in series:
        groups.setdefault(tuple(sorted(labels.items())), []).append(values)
    there = [values[values > 0] for _, values in series]
    known = np.concatenate(there) if there else np.empty(0, np.int64)
    if not len(known):
        return []
    low, high = int(known.min()), int(known.max())
    edges = low + np.arange(_BANDS) * max(high - low, 1) // _BANDS
    ranked = sorted(groups.items(), key=lambda item: -sum(int(v.sum()) for v in item[1]))
    return [
        HeatmapSeries(pairs(dict(key)), _slots(np.stack(values), edges, start_ms, step_ms))
        for key, values in (ranked[:limit] if limit > 0 else ranked)
    ]


def _slots(values: Values, edges: Values, start_ms: int, step_ms: int) -> list[HeatmapSlot]:
    """`values` (series, steps)."""
    row, step = np.nonzero(values > 0)
    band = np.searchsorted(edges, values[row, step], side="right") - 1
    counts = np.zeros((values.shape[1], len(edges)), np.int64)
    np.add.at(counts, (step, band), 1)
    lowest = edges.astype(float).tolist()
    return [
        HeatmapSlot(start_ms + at * step_ms, lowest, counts[at].tolist())
        for at in np.unique(step).tolist()
    ]
