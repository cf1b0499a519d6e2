from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from huatuo.model.arithmetic import increments, maximum, quantile, round_significant
from huatuo.model.metric import edges

NAN = float("nan")
SECOND = 10**9


def growth(*series: list[float]) -> list[list[float]]:
    values = np.array(series, np.float64)
    times = np.arange(values.shape[1], dtype=np.int64) * SECOND
    return [list(row) for row in increments(values, times)[0]]


def same(left: list[float], right: list[float]) -> bool:
    return bool(np.array_equal(np.array(left), np.array(right), equal_nan=True))


def test_growth_of_a_counter() -> None:
    assert growth([1, 4, 4, 9]) == [[3, 0, 5]]


def test_a_reset_counts_from_zero() -> None:
    assert growth([10, 12, 3, 5]) == [[2, 3, 2]]


def test_a_series_that_appears_beside_others_began_then() -> None:
    assert growth([1, 2, 3], [NAN, 7, 9])[1] == [7, 2]


def test_a_family_that_appears_is_unknown_before() -> None:
    assert same(growth([NAN, 7, 9])[0], [NAN, 2])


def test_growth_over_a_gap_spans_it() -> None:
    values = np.array([[1.0, NAN, 5.0], [1.0, 1.0, 1.0]])
    found, seconds = increments(values, np.array([0, 1, 3], np.int64) * SECOND)
    assert same(list(found[0]), [NAN, 4])
    assert list(seconds[0]) == [1, 3]


def test_a_histogram_resets_as_a_whole() -> None:
    values = np.array([[[5.0, 5.0], [1.0, 6.0]]])
    found, _ = increments(values, np.array([0, SECOND], np.int64))
    assert found.tolist() == [[[1.0, 6.0]]]


def test_too_short_to_grow() -> None:
    assert growth([1.0]) == [[]]


@given(st.lists(st.integers(0, 26), min_size=1, max_size=300), st.floats(0.01, 0.99))
def test_a_quantile_lies_in_the_slot_of_the_exact_one(slots: list[int], q: float) -> None:
    counts = np.bincount(slots, minlength=27).astype(float)
    rank = max(int(np.ceil(q * len(slots) - 1e-9)), 1)
    slot = sorted(slots)[rank - 1]
    uppers = [*edges(27), edges(27)[-1] * 2]
    found = quantile(counts, q)
    assert uppers[slot] / 2 <= found * (1 + 1e-9)
    assert found <= uppers[slot] * (1 + 1e-9)


def test_no_observations_no_quantile() -> None:
    assert np.isnan(quantile(np.zeros(27), 0.5))
    assert np.isnan(maximum(np.zeros((1, 27)))[0])


def test_the_maximum_is_the_upper_edge() -> None:
    counts = np.zeros((1, 27))
    counts[0, [2, 7]] = 1
    assert maximum(counts)[0] == edges(27)[7]


def test_rounding_keeps_zero_nan_and_large_integers() -> None:
    found = round_significant(np.array([0.0, NAN, 123456789.0, 0.000123456, -2.0000001]))
    assert same(list(found), [0.0, NAN, 123456789.0, 0.00012346, -2.0])
