"""Known issues: which events a rule applies to, and what becomes of them."""

from __future__ import annotations

import pytest

from huatuo.enrich.known import KnownIssues
from huatuo.errors import ConfigError
from huatuo.model.event import Container, Event
from huatuo.settings import KnownIssue

STACK = ["kfree_skb_reason+0x12", "tcp_v4_rcv+0x99", "ip_protocol_deliver_rcu+0x1"]
WEB = Container("web", "container", "/web", pod="web-0", namespace="shop")


def event(probe: str = "net.drop", title: str = "dropped: NO_SOCKET") -> Event:
    return Event("2026-01-01T00:00:00Z", probe, "drops", title, container=WEB, stack=STACK)


@pytest.mark.parametrize(
    ("rule", "applies"),
    [
        (KnownIssue("n", probe="net.drop"), True),
        (KnownIssue("n", probe="memory.oom"), False),
        (KnownIssue("n", title="NO_SOCK"), True),
        (KnownIssue("n", title="^NO_SOCK"), False),
        (KnownIssue("n", stack="^tcp_v4_rcv"), True),
        (KnownIssue("n", stack="udp_rcv"), False),
        (KnownIssue("n", container="shop/.*/web"), True),
        (KnownIssue("n", container="web"), False),
        (KnownIssue("n", title="dropped", stack="tcp_", container="shop/.*"), True),
        (KnownIssue("n", title="dropped", stack="udp_", container="shop/.*"), False),
    ],
)
def test_all_expressions_of_a_rule_must_be_found(rule: KnownIssue, applies: bool) -> None:
    (found,) = KnownIssues([rule]).judge([event()])
    assert found.known == ("n" if applies else "")


def test_muted_events_are_counted_and_gone() -> None:
    known = KnownIssues([KnownIssue("fixed in 6.9", "mute", title="NO_SOCKET")])
    assert known.judge([event(), event(), event(title="else")]) == [event(title="else")]
    assert known.counts == {("fixed in 6.9", "mute"): 2}


def test_the_first_rule_that_applies_counts() -> None:
    known = KnownIssues([KnownIssue("first", title="NO_SOCKET"), KnownIssue("second", "mute")])
    assert [found.known for found in known.judge([event()])] == ["first"]


def test_events_of_containers_without_a_pod_and_of_the_host() -> None:
    rule = KnownIssues([KnownIssue("n", container="")])
    assert rule.judge([Event("", "p", "k", "t")])[0].known == "n"
    host = KnownIssues([KnownIssue("n", container="web")])
    assert host.judge([Event("", "p", "k", "t")])[0].known == ""


def test_an_expression_that_is_none_names_its_rule() -> None:
    with pytest.raises(ConfigError, match=r'number 2: stack = "\(": '):
        KnownIssues([KnownIssue("a", title="x"), KnownIssue("b", stack="(")])
    with pytest.raises(ConfigError, match="longer than 1000"):
        KnownIssues([KnownIssue("a", title="x" * 1001)])
