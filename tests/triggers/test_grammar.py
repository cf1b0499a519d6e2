"""The language of conditions: what is read, and what a user reads when it is not."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huatuo.errors import ConfigError
from huatuo.triggers.grammar import (
    Binary,
    Compare,
    Join,
    Literal,
    Matcher,
    Past,
    Select,
    parse_condition,
)


def test_a_condition_is_read_as_it_is_said() -> None:
    found = parse_condition('rate(cpu_x_total{state="system"}) / 2 + 1 > 80 %', "when")
    rate = Select("huatuo_cpu_x_total", (Matcher("state", "=", "system"),), "rate")
    left = Binary("+", Binary("/", rate, Literal(2.0)), Literal(1.0))
    assert found == Compare(">", left, Literal(0.8, "%"))


def test_and_binds_more_than_or_and_parentheses_more_than_both() -> None:
    a, b, c = (Compare(">", Select(f"huatuo_{n}"), Literal(1.0)) for n in "abc")
    assert parse_condition("a > 1 or b > 1 and c > 1", "") == Join("or", a, Join("and", b, c))
    assert parse_condition("(a > 1 or b > 1) and c > 1", "") == Join("and", Join("or", a, b), c)
    assert parse_condition("(a) > 1", "") == a


def test_units_labels_and_the_past() -> None:
    found = parse_condition('before(p99(w{victim!=culprit, x=~"a|b"}), 5m) >= 20ms', "when")
    labels = (Matcher("victim", "!=", "culprit", other=True), Matcher("x", "=~", "a|b"))
    inner = Select("huatuo_w", labels, "p99")
    assert found == Compare(">=", Past("before", inner, 300.0), Literal(0.02, "s"))
    assert parse_condition("huatuo_m_bytes < 2 GiB", "") == Compare(
        "<", Select("huatuo_m_bytes"), Literal(2.0 * (1 << 30), "B")
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at its end: expected a number"),
        ("a", "expected a comparison"),
        ("a > ", "at its end"),
        ("a > 1 b", "expected `and`"),
        ("avg(a) > 1", "one of rate, p50"),
        ("rate(1) > 1", "expected a family"),
        ("before(a) > 1", "expected ','"),
        ("before(a, 5) > 1", "expected a duration"),
        ('a{x="1" > 1', "expected ',' or '}'"),
        ("a{x=~y} > 1", "in quotes"),
        ('a{x=~"("} > 1', "missing )"),
        ("a > 5 parsecs", "expected `and`"),
        ("(" * 5000 + "a", "longer than 2000"),
        ("(" * 1000 + "a", "fewer parentheses"),
    ],
)
def test_mistakes_are_answered_with_their_place(text: str, message: str) -> None:
    began = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        parse_condition(text, "[trigger] t: when")
    assert message in str(caught.value)
    assert str(caught.value).startswith("[trigger] t: when")
    assert time.monotonic() - began < 1


@given(st.text(alphabet='ab1 (){},"=~!<>+-*/%.msh', max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse_condition(text, "when")
    except ConfigError as error:
        assert str(error).startswith("when")
