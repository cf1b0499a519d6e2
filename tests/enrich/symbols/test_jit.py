"""Maps of generated code: of this process, of one in namespaces of its own, and hostile ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from huatuo.enrich.symbols import jit
from huatuo.enrich.symbols.jit import JitSymbols
from huatuo.kernel.host import Host
from huatuo.model.profile import Line
from tests.enrich.conftest import Layout

PID = 4242


@pytest.fixture
def layout(make_layout: Callable[[str], Layout]) -> Layout:
    layout = make_layout("v2")
    layout.file(
        f"proc/{PID}/status",
        f"Name:\tnode\nUid:\t{os.getuid()}\t{os.getuid()}\t0\t0\nNSpid:\t{PID}\t7\n",
    )
    layout.file(f"proc/{PID}/stat", f"{PID} (a) b) S " + " ".join(map(str, range(50))))
    root = layout.host.root / "container"
    (root / "tmp").mkdir(parents=True)
    (layout.host.proc / str(PID) / "root").symlink_to(root)
    return layout


def write(layout: Layout, text: str | bytes, mode: str = "w") -> Path:
    path = layout.host.root / "container/tmp/perf-7.map"  # 7: as it sees itself
    with path.open(mode + "b") as stream:
        stream.write(text.encode() if isinstance(text, str) else text)
    return path


def names(symbols: JitSymbols, *addresses: int) -> list[str]:
    return [lines[0].function if lines else "" for lines in symbols.lines(PID, addresses)]


def test_functions(layout: Layout) -> None:
    write(layout, "7f001000 10 Function:~add /app/a.js:1\n7f002000 20 LazyCompile:*b c\n")
    symbols = JitSymbols(layout.host)
    found = symbols.lines(PID, [0x7F001000, 0x7F00100F, 0x7F001010, 0x7F002001, 0, 2**64 - 1])
    add, other = (Line("Function:~add /app/a.js:1"),), (Line("LazyCompile:*b c"),)
    assert found == [add, add, (), other, (), ()]
    assert symbols.lines(PID, []) == []


def test_read_on_when_it_grows_but_not_at_every_call(layout: Layout) -> None:
    symbols = JitSymbols(layout.host)
    assert names(symbols, 0x1000) == [""]
    write(layout, "1000 10 one\n2000 10 tw")
    assert names(symbols, 0x1000) == [""]  # looked at again after a second
    layout.host.pass_seconds(1.1)
    assert names(symbols, 0x1000, 0x2000) == ["one", ""]
    write(layout, "o\n3000 10 three\n", "a")
    layout.host.pass_seconds(1.1)
    assert names(symbols, 0x1000, 0x2000, 0x3000) == ["one", "two", "three"]


def test_newer_code_in_the_place_of_older(layout: Layout) -> None:
    write(layout, "1000 100 old\n1040 10 within\n2000 10 first\n1020 60 newer\n2000 8 second\n")
    found = names(JitSymbols(layout.host), 0x1000, 0x1020, 0x1045, 0x107F, 0x2000, 0x2009)
    assert found == ["old", "newer", "newer", "newer", "second", ""]


def test_a_new_process_with_an_old_number(layout: Layout) -> None:
    path = write(layout, "1000 10 old\n2000 10 old2\n")
    symbols = JitSymbols(layout.host)
    assert names(symbols, 0x1000) == ["old"]
    path.unlink()
    write(layout, "1000 10 new\n")
    layout.file(f"proc/{PID}/stat", f"{PID} (a) S " + " ".join(map(str, range(100, 150))))
    layout.host.pass_seconds(2)
    assert names(symbols, 0x1000, 0x2000) == ["new", ""]


def test_known_names_outlive_the_process(layout: Layout) -> None:
    write(layout, "1000 10 one\n")
    symbols = JitSymbols(layout.host)
    assert names(symbols, 0x1000) == ["one"]
    shutil.rmtree(layout.host.proc / str(PID))
    layout.host.pass_seconds(2)
    assert names(symbols, 0x1000) == ["one"]


def test_links_out_of_the_root_are_not_followed(layout: Layout, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("1000 10 secret\n")
    (layout.host.root / "container/tmp/perf-7.map").symlink_to(secret)
    assert names(JitSymbols(layout.host), 0x1000) == [""]


def test_pipes_do_not_block(layout: Layout) -> None:
    os.mkfifo(layout.host.root / "container/tmp/perf-7.map")
    assert names(JitSymbols(layout.host), 0x1000) == [""]


def test_files_of_other_users_are_not_believed(layout: Layout) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    path = write(layout, "1000 10 spoofed\n")
    os.chown(path, 12345, 12345)
    symbols = JitSymbols(layout.host)
    assert names(symbols, 0x1000) == [""]
    layout.file(f"proc/{PID}/status", f"Uid:\t12345\t12345\t0\t0\nNSpid:\t{PID}\t7\n")
    layout.host.pass_seconds(2)
    assert names(symbols, 0x1000) == ["spoofed"]


def test_large_maps_are_read_in_pieces_and_not_to_the_end(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jit, "_LARGEST", 3 << 20)
    lines = [f"{0x1000 + i * 16:x} 10 function number {i}\n" for i in range(200_000)]
    write(layout, "".join(lines))
    symbols = JitSymbols(layout.host)
    known = []
    for _ in range(6):
        begin = time.process_time()
        found = names(symbols, *(0x1000 + i * 16 for i in range(0, 200_000, 1000)))
        assert time.process_time() - begin < 1
        known.append(sum(map(bool, found)))
        layout.host.pass_seconds(1.1)
    assert 0 < known[0] < known[1] < known[2] < 200
    assert known[2] == known[-1]


def test_many_maps_take_no_more_memory_than_allowed(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jit, "_MOST_BYTES", 1 << 20)
    symbols = JitSymbols(layout.host)
    write(layout, "".join(f"{0x1000 + i * 16:x} 10 name{i}\n" for i in range(5000)))
    status = (layout.host.proc / str(PID) / "status").read_text()
    for pid in range(10, 20):
        layout.file(f"proc/{pid}/status", status)
        (layout.host.proc / str(pid) / "root").symlink_to(layout.host.root / "container")
        assert symbols.lines(pid, [0x1000]) == [(Line("name0"),)]
    assert sum(map(len, symbols._maps.values())) <= 1 << 20
    assert list(symbols._maps)[-1] == 19


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=300) | st.lists(
    st.tuples(st.integers(-5, 2**66), st.integers(-5, 2**66), st.binary(max_size=5))
).map(lambda rows: b"".join(b"%x %x %s\n" % row for row in rows)))  # fmt: skip
def test_nothing_is_raised(layout: Layout, content: bytes) -> None:
    write(layout, content)
    for lines in JitSymbols(layout.host).lines(PID, [0, 5, 2**40, 2**64 - 1]):
        assert len(lines) <= 1


def test_a_process_in_namespaces_of_its_own() -> None:
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("needs root and unshare")
    script = (
        "mount -t tmpfs none /tmp && printf '1000 20 inside %s\\n' $$ > /tmp/perf-$$.map"
        " && echo ready && exec sleep 60"
    )
    with subprocess.Popen(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script],
        stdout=subprocess.PIPE, text=True,
    ) as outer:  # fmt: skip
        try:
            assert outer.stdout
            if outer.stdout.readline() != "ready\n":
                pytest.skip("this machine does not let us make namespaces")
            children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
            inner = int(children[0])
            found = JitSymbols(Host()).lines(inner, [0x1010])
            assert found == [(Line("inside 1"),)]  # it is number 1 there
            assert not Path("/tmp/perf-1.map").exists()
        finally:
            outer.kill()
