"""`huatuo query profiles`, over a store that is a double but for its directory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from huatuo.export import pprof
from huatuo.serve.params import rfc3339
from huatuo.store.embedded import EmbeddedStore
from tests.cli.test_commands import call
from tests.export.profiles import NS, START, TOTAL, rows
from tests.serve.memory_profiles import MemoryProfiles, samples_of

END = rfc3339(START + 60 * NS)


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The beginning of a command line that finds the samples of `web` and `db`."""
    profiles = MemoryProfiles()
    web = [(*row[:3], {"container": "web"}) for row in rows()]
    profiles.append(
        samples_of("cpu", web + [(*row[:3], {"container": "db"}) for row in rows()[:1]])
    )
    profiles.append(samples_of("resident", [(START, 3 << 20, web[0][2], {"container": "web"})]))
    EmbeddedStore(tmp_path, max_bytes=1 << 20, max_age_seconds=60).close()
    setup = EmbeddedStore._setup

    def with_profiles(self: EmbeddedStore) -> None:
        setup(self)
        self.profiles = profiles  # type: ignore[assignment, unused-ignore]

    monkeypatch.setattr(EmbeddedStore, "_setup", with_profiles)
    return ["query", "--store", str(tmp_path), "profiles", "--since", "2m", "--until", END]


def test_what_there_is(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, *words)
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["TYPE", "TITLE", "SAMPLES", "TOTAL", "LABELS"]
    assert lines[1] == ["cpu", "CPU", "time", "7", "27", "ms", "container=db,web"]
    assert lines[2] == ["resident", "memory", "resident", "1", "3", "MiB", "container=web"]
    code, out, _ = call(capsys, *words, "--json")
    assert [(one["type"], one["total"]) for one in json.loads(out)] == [
        ("cpu", TOTAL + 5_000_000), ("resident", 3 << 20),
    ]  # fmt: skip


def test_top_functions(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, *words, "cpu", "--select", '{container="web"}', "--top", "3")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == (
        "CPU time: 22 ms in 6 samples, 95.5% of it in complete stacks (4.5% too deep)"
    )
    assert [line.split() for line in lines[2:]] == [
        ["7", "ms", "31.8%", "11", "ms", "50.0%", "python3.11", "handle"],
        ["5", "ms", "22.7%", "8", "ms", "36.4%", "app", "std::min<int>(int,", "int)"],
        ["4", "ms", "18.2%", "4", "ms", "18.2%", "[anon]", "[anon]+0x7fffaa001000"],
    ]
    code, out, _ = call(capsys, *words, "cpu", "--json", "--top", "1")
    assert json.loads(out)["functions"] == [
        {"function": "std::min<int>(int, int)", "kind": "native", "mapping": "app",
         "self": 10_000_000, "total": 13_000_000},
    ]  # fmt: skip


def test_a_file(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cpu.pb.gz"
    code, _, _ = call(capsys, *words, "cpu", "--format", "pprof", "-o", str(file))
    assert code == 0
    (samples,) = pprof.read(file.read_bytes()).samples
    assert int(samples.values.sum()) == TOTAL + 5_000_000


def test_folded_stacks_on_the_standard_output(
    words: list[str], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    from huatuo.cli import main

    assert main([*words, "cpu", "--format", "folded"]) == 0
    lines = capfdbinary.readouterr().out.decode().splitlines()
    assert sum(int(line.rsplit(" ", 1)[1]) for line in lines) == TOTAL + 5_000_000


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--format", "pprof"], 2, "--format needs a type"),
        (["cpu", "--select", "{a=b}"], 1, "a quoted text"),
        (["cpu", "--format", "pprof", "-o", "/nowhere/x"], 1, "cannot be written"),
        (["gpu"], 2, "invalid choice"),
    ],
)
def test_errors(
    more: list[str], code: int, message: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found, _, err = call(capsys, *words, *more)
    assert found == code
    assert message in err


def test_nothing_there(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    early = [*words[:-1], rfc3339(START - 3600 * NS)]
    assert "no profiles in this time" in call(capsys, *early)[1]
    assert "no samples of CPU time" in call(capsys, *early, "cpu")[1]
