"""The command line as a user meets it: help, errors, exit codes, JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from huatuo.cli import COMMANDS, main
from huatuo.probes.base import discover
from huatuo.probes.netdev.rdma import Rdma


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)."""
    try:
        code = main(list(words))
    except SystemExit as exit_of_argparse:
        code = int(exit_of_argparse.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "--help")
    assert code == 0
    for name in COMMANDS:
        assert re.search(rf"^    {name}\s", out, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_and_has_json(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    code, out, _ = call(capsys, name, "--help")
    assert code == 0
    assert "--json" in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "--version")
    assert code == 0
    assert out.startswith("huatuo ")


def test_without_a_command_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys)
    assert code == 2
    assert "COMMAND" in out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("trace", "memory.oon"), 2, "did you mean memory.oom?"),
        (("trace", "cpu.load"), 2, "use: huatuo collect cpu.load"),
        (("trace", "memory.oom", "--duration", "10"), 2, 'for example "10ms"'),
        (("collect", "cpu.sched", "--set", "blame_treshold=1ms"), 2, "did you mean"),
        (("collect", "cpu.sched", "--set", "blame_threshold"), 2, "expected NAME=VALUE"),
        (("config",), 2, "--defaults or --check"),
        (("config", "--check", "/nowhere/huatuo.toml"), 2, "No such file"),
        (("query", "--store", "/nowhere/at/all", "events"), 1, "/nowhere/at/all"),
        (("query", "events", "--since", "yesterday"), 1, ""),
    ],
)
def test_errors_are_one_line_that_helps(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, message: str
) -> None:
    found, _, err = call(capsys, *words)
    assert found in (code, 2)
    assert message in err
    assert err.startswith("huatuo: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_probes_lists_all_with_status(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "probes", "--json")
    document = json.loads(out)
    assert code == 0
    assert {probe["name"] for probe in document["probes"]} == set(discover())
    assert all(probe["status"] or probe["reason"] for probe in document["probes"])


def test_collect_prints_a_reader_now(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "collect", "cpu.load", "--json")
    families = {json.loads(line)["name"]: json.loads(line) for line in out.splitlines()}
    assert code == 0
    shown = families["huatuo_cpu_load_average_1m"]["samples"][0]["value"]
    assert shown == pytest.approx(float(Path("/proc/loadavg").read_text().split()[0]), abs=0.5)


def test_collect_says_why_a_probe_cannot_run_here(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rdma, "unavailable", lambda _: "RDMA is not loaded")
    code, out, error = call(capsys, "collect", "netdev.rdma")
    assert (code, out) == (3, "")
    assert "netdev.rdma: RDMA is not loaded" in error


def test_printed_defaults_pass_the_check(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _, out, _ = call(capsys, "config", "--defaults")
    (tmp_path / "huatuo.toml").write_text(out)
    assert call(capsys, "config", "--check", str(tmp_path / "huatuo.toml"))[0] == 0
