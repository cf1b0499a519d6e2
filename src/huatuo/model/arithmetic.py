"""From cumulative values to rates, slot counts and quantiles. Pure functions over arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from huatuo.model.metric import edges

__all__ = ["increments", "maximum", "quantile", "quantiles", "round_significant"]

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]


def increments(values: Floats, times: Times) -> tuple[Floats, Floats]:
    """Growth of the cumulative series of one family in each interval, and the seconds it spans.

    `values` is (n, t) or (n, t, slots); the answers are (n, t-1, …) and (n, t-1). A series that
    decreases was reset and counts from zero. One that appears while its family was already there
    began in that interval, from zero. After a gap the growth spans the gap. NaN: nothing is known.
    """
    series, count = values.shape[:2]
    if count < 2:
        return np.empty((series, 0, *values.shape[2:])), np.empty((series, 0))
    cube = values.reshape(series, count, -1)
    present: npt.NDArray[np.bool_] = ~np.isnan(cube[:, :, 0])
    places = np.where(present, np.arange(count), -1)
    last = np.maximum.accumulate(places, axis=1)[:, :-1]
    before = np.take_along_axis(cube, np.maximum(last, 0)[:, :, None], axis=1)
    unseen = last < 0
    before[unseen] = np.nan
    known: npt.NDArray[np.bool_] = np.logical_or.reduce(present, axis=0)[:-1]
    before[unseen & known] = 0.0
    with np.errstate(invalid="ignore"):
        growth = cube[:, 1:] - before
        reset = (growth < 0).any(axis=2)
    growth[reset] = cube[:, 1:][reset]
    since = np.where(unseen, np.arange(count - 1), last)
    seconds = (times[1:] - times[since]) / 1e9
    return growth.reshape(series, count - 1, *values.shape[2:]), seconds


def _bounds(slots: int) -> tuple[Floats, Floats]:
    """Lower and upper edges of all slots; the open ends are given a power of two."""
    uppers = np.array(edges(slots))
    ends = np.append(uppers, uppers[-1] * 2)
    return ends / 2, ends


def quantiles(counts: Floats, q: float) -> Floats:
    """The q-quantile of each row of slot counts (n, slots), interpolated on the log scale.

    NaN for rows without observations. Exact to the slot, hence within a factor of two.
    """
    cumulative = np.cumsum(np.nan_to_num(counts), axis=1)
    total = cumulative[:, -1]
    rank = q * total
    slot = np.minimum((cumulative < rank[:, None]).sum(axis=1), counts.shape[1] - 1)
    index = np.arange(len(counts))
    inside = np.nan_to_num(counts)[index, slot]
    below = cumulative[index, slot] - inside
    with np.errstate(invalid="ignore", divide="ignore"):
        fraction = np.clip((rank - below) / inside, 0, 1)
    lower, upper = _bounds(counts.shape[1])
    found = lower[slot] * (upper[slot] / lower[slot]) ** fraction
    return np.where(total > 0, found, np.nan)


def quantile(counts: Floats, q: float) -> float:
    """The same of one row."""
    return float(quantiles(counts[None, :], q)[0])


def maximum(counts: Floats) -> Floats:
    """Upper edge of the highest slot with an observation, per row; NaN without any."""
    filled = np.nan_to_num(counts) > 0
    highest = counts.shape[1] - 1 - np.argmax(filled[:, ::-1], axis=1)
    _, upper = _bounds(counts.shape[1])
    return np.where(filled.any(axis=1), upper[highest], np.nan)


def round_significant(values: Floats, digits: int = 5) -> Floats:
    """Short numbers for JSON; keeps NaN."""
    with np.errstate(invalid="ignore", divide="ignore"):
        exponent = np.floor(np.log10(np.abs(values)))
        exponent = np.where(np.isfinite(exponent), exponent, 0)
        scale = 10.0 ** (digits - 1 - exponent)
        return np.where(
            np.abs(values) >= 10.0**digits, np.round(values), np.round(values * scale) / scale
        )
