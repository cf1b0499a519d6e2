from __future__ import annotations

import pytest

from huatuo.serve.params import Param, Query, parse_time, rfc3339
from huatuo.serve.refusal import Refusal

NOW = 1_800_000_000_000_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("-90s", NOW - 90 * 10**9),
        ("-1h", NOW - 3600 * 10**9),
        ("-1.5m", NOW - 90 * 10**9),
        ("+1d", NOW + 86400 * 10**9),
        ("1800000000", NOW),
        ("1800000000.25", NOW + 250_000_000),
        ("2027-01-15T08:00:00Z", NOW),
        ("2027-01-15T08:00:00.123456789Z", NOW + 123_456_789),
        ("2027-01-15T09:00:00+01:00", NOW),
        ("2027-01-15T09:00:00 01:00", NOW),  # an unescaped plus arrives as a space
    ],
)
def test_times(text: str, expected: int) -> None:
    assert parse_time("start", text, NOW) == expected


@pytest.mark.parametrize(
    "text", ["", "yesterday", "1h", "2027-13-01T00:00:00Z", "2027-01-15T08:00:00", "99999999999"]
)
def test_a_wrong_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse_time("start", text, NOW)
    assert refused.value.status == 400
    assert "start=" in refused.value.hint


def test_rfc3339_is_read_back_exactly() -> None:
    assert parse_time("t", rfc3339(NOW + 987_654_321), 0) == NOW + 987_654_321


PARAMS = (
    Param("start", "", "time", "-1h"),
    Param("end", "", "time", "now"),
    Param("limit", "", "integer", "100", minimum=1, maximum=1000),
    Param("as", "", "choice", "raw", choices=("raw", "rate")),
    Param("field.*", ""),
)


def test_defaults_and_prefixes() -> None:
    query = Query(PARAMS, [("field.process.comm", "nginx"), ("limit", "7")], NOW)
    assert query.integer("limit") == 7
    assert query.period_ns() == (NOW - 3600 * 10**9, NOW)
    assert query.prefixed("field") == {"process.comm": "nginx"}


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (("limt", "5"), "did you mean limit?"),
        (("field.", "5"), "field.*"),
        (("zzz", "5"), "known are start, end"),
        (("limit", "many"), "for example limit=100"),
        (("limit", "0"), "for example limit=100"),
        (("as", "pie"), "for example as=raw"),
        (("end", "-2h"), ""),
    ],
)
def test_wrong_parameters_say_what_to_do(given: tuple[str, str], hint: str) -> None:
    with pytest.raises(Refusal) as refused:
        Query(PARAMS, [given], NOW).period_ns()
    assert refused.value.status == 400
    assert hint in refused.value.hint
