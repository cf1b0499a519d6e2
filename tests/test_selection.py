"""Rules that choose containers: what they select, and what a user reads when they are wrong."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huatuo.errors import ConfigError, HuatuoError
from huatuo.model.event import Container
from huatuo.model.selection import Selection, parse_choice, parse_selection

WEB = Container(
    "app", "container", "/kubepods/pod1/a", image="docker.io/library/nginx:1.27", runtime="cri-o",
    pod="web-7d", namespace="prod-eu", workload="Deployment/web", qos="guaranteed", type="normal",
    labels={"app.kubernetes.io/name": "web", "tier": "front"},
)  # fmt: skip
PAUSE = Container("pause", "container", "/kubepods/pod1/b", pod="web-7d", namespace="prod-eu",
                  qos="guaranteed", type="pause")  # fmt: skip
DB = Container("db", "container", "/machine.slice/libpod-1.scope", runtime="podman")
SSH = Container("ssh.service", "service", "/system.slice/ssh.service", runtime="systemd")
HOST = Container("/", "host", "/")
ALL = (WEB, PAUSE, DB, SSH, HOST)


def selected(text: str) -> set[str]:
    found = parse_selection(text, "x")
    assert found is not None
    return {owner.name for owner in ALL if found.matches(owner)}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("name=db", {"db"}),
        ("name=prod-eu/web-7d/app", {"app"}),
        ("namespace=prod-*", {"app", "pause"}),
        ("namespace=prod", set()),
        ("namespace=prod-*, type!=pause", {"app"}),
        ("qos=Guaranteed,type=normal or runtime=podman", {"app", "db"}),
        ("image=*nginx*", {"app"}),
        ("label.app.kubernetes.io/name=web", {"app"}),
        ("label.tier!=front", {"pause", "db"}),
        ("name=db|pause", {"db", "pause"}),
        ("workload='Deployment/web'", {"app"}),
        ('name="x y" or name=db', {"db"}),
        ("namespace=''", {"db"}),
        ("kind=service", {"ssh.service"}),
        ("kind=service|container,name!=ssh*", {"app", "pause", "db"}),
        ("name=.b", set()),  # a dot is a dot
        ("name=or or name=db", {"db"}),
        ("pod=web-7d", {"app", "pause"}),
    ],
)
def test_who_is_meant(text: str, names: set[str]) -> None:
    assert selected(text) == names


@pytest.mark.parametrize(
    ("include", "exclude", "names"),
    [
        ("", "", {"app", "pause", "db", "ssh.service", "/"}),
        ("namespace=prod-*", "", {"app", "pause", "ssh.service", "/"}),
        ("namespace=prod-*", "type=pause", {"app", "ssh.service", "/"}),
        ("", "name=*", {"ssh.service", "/"}),
        ("", "name=* or kind=service", {"/"}),
        ("kind=container", "", {"app", "pause", "db", "/"}),
        ("", "kind=*", {"/"}),
    ],
)
def test_units_and_the_host_stay_unless_a_rule_names_their_kind(
    include: str, exclude: str, names: set[str]
) -> None:
    choice = parse_choice(include, exclude, "[containers]")
    assert {owner.name for owner in ALL if choice.allows(owner)} == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("namspace=prod-*", 'x: "namspace": unknown; did you mean namespace? For example names'),
        ("labels.app=web", "did you mean label.NAME? For example label.app=web"),
        ("label=web", "did you mean label.NAME?"),
        ("colour=red", "expected one of name, namespace"),
        ("qos=garanteed", "x: qos=garanteed: unknown; did you mean guaranteed?"),
        ("type=sandbox", "one of normal, init, sidecar"),
        ("name", "x: expected KEY=PATTERN at 'name', for example namespace=prod-*"),
        ("name=a b=c", "x: expected a comma or `or` before 'b=c'"),
        ("name=a,", "expected KEY=PATTERN at ''"),
        ("name=a or", "expected a comma or `or` before 'or'"),
        ("name=a orname=b", "expected a comma or `or` before 'orname=b'"),
        ("name='a", 'expected KEY=PATTERN'),
        ("name=" + "a" * 5000, "x: longer than 4000 characters"),
        (",".join(["name=a"] * 65), "x: more than 64 terms"),
    ],
)  # fmt: skip
def test_mistakes_are_answered(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_selection(text, "x")
    assert message in str(caught.value)


WORDS = st.sampled_from(
    ["name", "=", "!=", "a*", ",", " or ", "'", '"', "label.x", "qos=guaranteed", " ", "|", "é"]
)


@given(st.lists(WORDS, max_size=30).map("".join) | st.text(max_size=200))
def test_any_text_is_rules_or_an_error_of_ours(text: str) -> None:
    try:
        found = parse_selection(text, "x")
    except HuatuoError:
        return
    assert (found is None) == (not text.strip())
    if found is not None:
        assert not found.matches(HOST)
        for owner in ALL:
            assert found.allows(owner) == (not found.judges(owner) or found.matches(owner))


VALUES = st.text("ab-.", max_size=6)
PATTERNS = st.text("ab-.*", min_size=1, max_size=8)


def simple(pattern: str, text: str) -> bool:
    """What * means, said another way."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(simple(pattern[1:], text[at:]) for at in range(len(text) + 1))
    return text[:1] == pattern[0] and simple(pattern[1:], text[1:])


@given(st.lists(PATTERNS, min_size=1, max_size=3), VALUES, st.booleans())
def test_patterns_mean_what_they_say(patterns: list[str], name: str, is_not: bool) -> None:
    found = parse_selection(f"name{'!' * is_not}={'|'.join(patterns)}", "x")
    assert found is not None
    expected = any(simple(pattern, name) for pattern in patterns) != is_not
    assert found.matches(Container(name, "container", "/x")) == expected


def test_a_hostile_name_costs_no_time() -> None:
    found = parse_selection("name=" + "a*" * 40 + "b", "x")
    assert isinstance(found, Selection)
    began = time.monotonic()
    assert not found.matches(Container("a" * 20_000, "container", "/x"))
    assert time.monotonic() - began < 1


def test_labels_that_rules_need_are_told() -> None:
    choice = parse_choice("label.a=1 or label.b=2", "label.c=3", "x")
    assert choice.labels == {"a", "b", "c"}
