from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huatuo.serve.selector import SelectorError, parse_named, parse_selector
from huatuo.store.profiles import Matcher


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("{}", []),
        (' { a = "b" , } ', [("a", "=", "b")]),
        (
            '{a="b",c=~"d|e",f!="",g!~".+"}',
            [("a", "=", "b"), ("c", "=~", "d|e"), ("f", "!=", ""), ("g", "!~", ".+")],
        ),
        ("{a='it\\'s',b=`c:\\d`}", [("a", "=", "it's"), ("b", "=", "c:\\d")]),
        ('{a="\\n\\"\\\\\\x41\\u65e5"}', [("a", "=", '\n"\\A日')]),
        ('{"k8s.pod"="x",os.name="y"}', [("k8s.pod", "=", "x"), ("os.name", "=", "y")]),
        ('{comm=~"(?:py|node).*"}', [("comm", "=~", "(?:py|node).*")]),
        ('{comm=~"(?i)nginx-[0-9]+"}', [("comm", "=~", "(?i)nginx-[0-9]+")]),
    ],
)
def test_selectors(text: str, expected: list[tuple[str, str, str]]) -> None:
    assert parse_selector(text) == tuple(Matcher(*one) for one in expected)


def test_a_profile_type_may_stand_in_front() -> None:
    name, matchers = parse_named('process_cpu:cpu:nanoseconds:cpu:nanoseconds{a="b"}')
    assert name == "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
    assert matchers == (Matcher("a", "=", "b"),)
    assert parse_named("memory:inuse_space") == ("memory:inuse_space", ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "expected { at position 1"),
        ("{", "expected a label's name or } at position 2, found the end"),
        ('{a="b"', "expected , or } at position 7, found the end"),
        ("{a}", "expected =, !=, =~ or !~ after a at position 3"),
        ("{a=b}", "expected a quoted text after a= at position 4, found 'b}'"),
        ('{a="b}', "expected a quoted text after a="),
        ('{a="b"} c', "expected the end at position 9"),
        ('{a="b" c="d"}', "expected , or } at position 8"),
        ('{a="\\q"}', "unknown escape \\q in the text at position 4"),
        ('{a="\\U00110000"}', "unknown escape"),
        ('{a=~"("}', "is no valid expression"),
        ('{a=~"(a+)+b"}', "can take forever"),
        ('{a=~"(a|a)*b"}', "can take forever"),
        ('{a=~"((a|a))*b"}', "can take forever"),
        ('{a=~"(a*b?){10,20}"}', "can take forever"),
        ('{a=~".*.*.*.*.*b"}', "more than 4 repetitions"),
        ('{a=~"(a)\\\\1"}', "refers back"),
        ('{a=~"[[:alpha:]]"}', "a set in a set"),
        ('{a=~"(?=a)b"}', "looks around"),
        ('{a=~"(?<!a)b"}', "looks around"),
        ('{a=~"' + "a" * 2000 + '"}', "longer than 1024"),
        ("{" + 'a="b",' * 100 + "}", "more than 64 matchers"),
        ("{" + " " * 20000 + "}", "longer than"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, message: str) -> None:
    with pytest.raises(SelectorError) as refused:
        parse_selector(text)
    assert message in str(refused.value)


@given(st.text(st.sampled_from("{}=~!\"'`,ab\\ \n(|)*+."), max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        parse_selector(text)
    except SelectorError as error:
        assert str(error)


@given(st.text(st.sampled_from("ab().*+|?[]{}12,\\^$"), max_size=14))
def test_what_is_allowed_ends_in_time(pattern: str) -> None:
    try:
        (matcher,) = parse_selector(f"{{a=~`{pattern}`}}")
    except SelectorError:
        return
    begin = time.process_time()
    for value in ("a" * 120 + "!", "ab" * 60 + "!"):
        re.fullmatch(matcher.value, value)
    assert time.process_time() - begin < 5
