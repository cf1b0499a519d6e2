"""`huatuo io`: its words, and its table from two looks at what the probe counted."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from huatuo.cli.io import Use, _View
from huatuo.kernel.host import Host
from huatuo.probes.block.files import MODES, Files, what_of
from tests.cli.test_commands import call

VDA = 254 << 20
ZERO = argparse.Namespace(container=None, device=None, sort="time", count=20)


class Counted(Files):
    """The probe's table as a test wants it: (process, inode, requests, bytes, ns) per row."""

    def __init__(self) -> None:
        super().__init__(Host())
        self.table: list[tuple[int, int, int, int, int]] = []

    @classmethod
    def object_path(cls) -> Path:
        return Files.object_path()

    def users(self) -> Any:
        users = next(each for each in self.btf().maps if each.name == "users")
        assert users.key
        assert users.value
        keys = np.zeros(len(self.table), users.key.dtype)
        rows = np.zeros(len(self.table), users.value.dtype)
        for at, (process, inode, requests, size, spent) in enumerate(self.table):
            keys[at]["tgid"], keys[at]["inode"], keys[at]["disk"] = process, inode, VDA
            rows[at]["reads"], rows[at]["bytes_read"] = requests, size
            rows[at]["device"], rows[at]["comm"] = spent, b"worker"
            rows[at]["modes"] = 1 << MODES.index("readahead")
        return keys, rows

    def names(self) -> dict[tuple[int, int], bytes]:
        return {(12, 0): b"log\0var\0/".ljust(320, b"\0")}


def looks(options: argparse.Namespace, *tables: list[tuple[int, int, int, int, int]]) -> list[Use]:
    """What the last of these looks shows."""
    view, probe = _View(Host(), options), Counted()
    uses: list[Use] = []
    for table in tables:
        probe.table = table
        uses = view.since_last(probe)
    return uses


def with_options(**changed: object) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(ZERO), **changed})


def test_a_look_shows_what_happened_since_the_last() -> None:
    (use,) = looks(ZERO, [(7, 12, 10, 4096, 500), (8, 13, 1, 1, 1)],
                   [(7, 12, 13, 8192, 900), (8, 13, 1, 1, 1)])  # fmt: skip
    assert (use.pid, use.comm, use.file) == (7, "worker", "/var/log")
    assert (use.reads, use.read_bytes, use.device_ns) == (3, 4096, 400)
    assert use.modes == ["readahead"]


@pytest.mark.parametrize(("sort", "first"), [("time", 1), ("bytes", 2), ("requests", 3)])
def test_the_most_comes_first(sort: str, first: int) -> None:
    table = [(1, 0, 1, 10, 900), (2, 0, 2, 900, 10), (3, 0, 9, 20, 20)]
    uses = looks(with_options(sort=sort, count=2), table)
    assert uses[0].pid == first
    assert len(uses) == 2, "no more than were asked for"


def test_only_the_device_that_was_asked_for() -> None:
    table = [(1, 0, 1, 1, 1)]
    (use,) = looks(ZERO, table)
    assert looks(with_options(device=use.device), table) == [use]
    assert looks(with_options(device="other"), table) == []


def test_rates_and_means_in_the_table() -> None:
    view = _View(Host(), ZERO)
    (use,) = looks(ZERO, [(7, 12, 10, 40960, 50_000_000)])
    row = view.text([use], 2.0).splitlines()[1].split("  ")
    words = [word.strip() for word in row if word]
    assert words[0] == "worker[7]"
    assert "5" in words, "reads per second"
    assert "20 KiB/s" in words
    assert "5 ms" in words, "per request"
    assert words[-1] == "/var/log"
    assert "no request to a disk in 2 s" in view.text([], 2.0)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"path": "/a", "inode": 5}, "/a"),
        ({"path": "", "inode": 5}, "inode 5"),
        ({"path": "", "inode": 0, "modes": ["metadata"]}, "metadata"),
        ({"path": "", "inode": 0, "modes": [], "filesystem": "block"}, "the disk itself"),
        ({"path": "", "inode": 0, "modes": [], "filesystem": "other"}, "no file"),
    ],
)
def test_what_is_moved_in_words(fields: dict[str, object], name: str) -> None:
    assert what_of(fields) == name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("top", "--interval", "0s"), "--interval 0s: expected more than nothing"),
        (("top", "--interval", "2"), "expected a duration with its unit"),
        (("slow", "--threshold", "5"), "--threshold"),
    ],
)
def test_errors_are_one_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    code, out, err = call(capsys, "io", *words)
    assert code in (2, 3), "3 where no BPF can be loaded"
    assert out == ""
    assert code == 3 or message in err
    assert err.count("\n") == 1


def test_help_of_the_views(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "io", "top", "--help")
    assert code == 0
    assert all(mode in out for mode in MODES), "HOW is explained"
    assert "--interval" in out
    code, out, _ = call(capsys, "io", "slow", "--help")
    assert code == 0
    assert "fsync" in out
    assert call(capsys, "io")[0] == 2
