"""Parsers of kernel files: their forms, and ValueError for anything else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huatuo.kernel import procfs
from huatuo.kernel.host import Host


def test_read_gives_the_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "long"
    file.write_text("line\n" * 100_000)
    assert procfs.read(str(file)) == file.read_text()


def test_net_is_that_of_init_where_it_can_be_read(tmp_path: Path) -> None:
    own = tmp_path / "own"
    assert procfs.net(Host(proc=own)) == own / "net"
    with_init = tmp_path / "init"
    (with_init / "1/net").mkdir(parents=True)
    (with_init / "1/net/dev").touch()
    assert procfs.net(Host(proc=with_init)) == with_init / "1/net"


def test_keyed_lines_without_line_ends() -> None:
    text = "7:1 7:0 254:0 rbytes=5 wbytes=x\n8:0 rbytes=6\n"
    assert procfs.parse_keyed(text) == {"254:0": {"rbytes": 5}, "8:0": {"rbytes": 6}}


def test_headed_lines() -> None:
    text = "Tcp: MaxConn InSegs\nTcp: -1 7\nUdp: NoPorts\nUdp: 1\n"
    assert procfs.parse_headed(text) == {"Tcp": {"MaxConn": -1, "InSegs": 7}, "Udp": {"NoPorts": 1}}
    assert procfs.parse_headed(text, "Udp") == {"Udp": {"NoPorts": 1}}


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (procfs.parse_pairs, "name\n"),
        (procfs.parse_pairs, "name word\n"),
        (procfs.parse_headed, "Tcp: a b\nTcp: 1\n"),
        (procfs.parse_headed, "Tcp: a\nUdp: 1\n"),
        (procfs.parse_headed, "Tcp: a\n"),
        (procfs.parse_netdev, "a\nb\neth0: 1\n"),
        (procfs.parse_sockstat, "TCP: inuse\n"),
        (procfs.parse_pressure, "some avg10\n"),
    ],
)
def test_other_forms_are_refused(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)


@settings(deadline=None)
@given(st.text())
def test_nothing_but_value_and_key_errors_comes_out(text: str) -> None:
    for parse in (
        procfs.parse_headed,
        procfs.parse_keyed,
        procfs.parse_netdev,
        procfs.parse_pairs,
        procfs.parse_pressure,
        procfs.parse_sockstat,
    ):
        with suppress(ValueError, KeyError):
            parse(text)


def test_kept_files_give_new_content_and_are_closed(tmp_path: Path) -> None:
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_text("one\n")
    other.write_text("x\n")
    files = procfs.Files()
    before = open_files()
    assert files.read(str(file)) == "one\n"
    assert files.read(str(other)) == "x\n"
    file.write_text("two\n")
    assert files.read(str(file)) == "two\n"
    assert open_files() == before + 2
    files.close_unused()
    files.read(str(file))
    files.close_unused()
    assert open_files() == before + 1, "the other was not read again"
    files.close()
    assert open_files() == before
    assert files.read(str(file)) == "two\n", "it can be used again"


def test_a_full_table_still_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs.Files, "_room", 0)
    file = tmp_path / "file"
    file.write_text("one\n")
    files, before = procfs.Files(), open_files()
    assert files.read(str(file)) == "one\n"
    assert open_files() == before


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
