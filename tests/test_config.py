"""Configuration: what is accepted, and what a user reads when it is not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huatuo.config import Config, defaults, load
from huatuo.errors import ConfigError
from huatuo.model.units import parse, show
from huatuo.settings import KnownIssue


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "huatuo.toml"
    path.write_text(text)
    return path


def test_printed_defaults_are_a_valid_file_and_the_defaults(tmp_path: Path) -> None:
    config = load(written(tmp_path, defaults()))
    expected = Config()
    assert dataclasses.replace(config, settings={}) == expected
    assert config.settings["cpu.sched"]["blame_threshold"] == 1_000_000


def test_units_become_base_units(tmp_path: Path) -> None:
    text = '[cpu.sched]\nblame_threshold = "10ms"\n[governor]\ncpu = "2.5%"\nmemory = "64MiB"\n'
    config = load(written(tmp_path, text))
    assert config.settings == {"cpu.sched": {"blame_threshold": 10_000_000}}
    assert config.governor.cpu == pytest.approx(0.025)
    assert config.governor.memory == 64 << 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[cpu.sched]\nblame_treshold = "1ms"', "did you mean blame_threshold?"),
        ("[cpu.sched]\nblame_threshold = 10", 'for example "10ms"'),
        ('[cpu.sched]\nblame_threshold = "10 parsecs"', 'for example "10ms"'),
        ("[cpu.shed]\nx = 1", "did you mean cpu.sched?"),
        ("[stores]\nx = 1", "did you mean store?"),
        ('probes = ["auto", "cpu.shed"]', "did you mean cpu.sched?"),
        ("probes = 3", 'for example ["auto"'),
        ('[governor]\ncpu = "1"', 'for example "1%"'),
        ('[agent]\ninterval = "0.5"', 'for example "10ms"'),
        ('[[trigger]]\nfor = "2 weeks"', 'for example "10ms"'),
        ('[[trigger]]\nwhem = "x > 1"', "did you mean when?"),
        ("trigger = 3", "written [[trigger]]"),
        ('[containers]\ninclude = "namspace=x"', '[containers] include: "namspace": unknown; did'),
        ('[containers]\nexclude = "qos=best"', "qos=best: unknown; did you mean besteffort?"),
        ('[net.drop]\ncontainers = "name"', "[net.drop] containers: expected KEY=PATTERN"),
        ("[net.drop]\ncontainers = 3", 'for example "text"'),
        ('[net.drop]\ncontainer = "x"', "did you mean containers?"),
        ("[agent", "not valid TOML"),
        ("agent = 3", "written [agent]"),
    ],
)
def test_mistakes_are_answered(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value).partition("not valid TOML")[0]


def test_a_probe_says_whom_it_watches(tmp_path: Path) -> None:
    text = '[net.drop]\ncontainers = "qos=guaranteed"\n[cpu.load]\ncontainers = ""\n'
    config = load(written(tmp_path, text))
    assert config.watched == {"net.drop": "qos=guaranteed", "cpu.load": ""}
    assert config.settings == {"net.drop": {}, "cpu.load": {}}


def test_known_issues_are_tables(tmp_path: Path) -> None:
    text = (
        '[[known]]\nnote = "a"\ntitle = "x"\n[[known]]\nnote = "b"\naction = "mute"\nstack = "y"\n'
    )
    assert load(written(tmp_path, text)).known == (
        KnownIssue("a", title="x"), KnownIssue("b", "mute", stack="y"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('title = "x"', "number 1: has no note"),
        ('note = "a"', "would apply to every event"),
        ('note = "a"\ntitel = "x"', "titel: unknown; did you mean title?"),
        ('note = "a"\ntitle = "x"\naction = "hide"', 'expected "mark" or "mute"'),
        ('note = "a"\nprobe = "net.dorp"', "did you mean net.drop?"),
    ],
)
def test_mistakes_in_known_issues(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(written(tmp_path, f"[[known]]\n{table}\n"))
    assert message in str(error.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "absent.toml")


@given(ns=st.integers(0, 10**18))
def test_durations_survive_printing(ns: int) -> None:
    shown = show("duration_ns_t", ns).strip('"')
    assert parse("duration_ns_t", shown, "x") == ns


@given(size=st.integers(0, 2**50))
def test_sizes_survive_printing(size: int) -> None:
    assert parse("bytes_t", show("bytes_t", size).strip('"'), "x") == size


def test_triggers_say_only_what_the_file_says(tmp_path: Path) -> None:
    """What a table leaves out is the built-in trigger's of that name, and no default's."""
    text = '[[trigger]]\nname = "load"\nfor = "20s"\nenabled = false\n[[trigger]]\nname = "x"\n'
    config = load(written(tmp_path, text))
    expected = {"name": "load", "hold": 20_000_000_000, "enabled": False}
    assert config.triggers == (expected, {"name": "x"})
