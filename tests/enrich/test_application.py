"""Processes as /proc tells of them: whatever strangers call themselves, however stuck they are."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from huatuo.enrich import application
from huatuo.enrich.application import Applications
from huatuo.enrich.runtimes import runtime_of
from huatuo.kernel import process
from huatuo.model.event import Container, Event, Process
from tests.enrich.conftest import Layout

TOP = Container("web", "container", "/docker/web")


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are waited for, however busy the machine is."""
    monkeypatch.setattr(application, "_WAIT_SECONDS", 10.0)


@pytest.fixture
def layout(make_layout: Callable[[str], Layout]) -> Layout:
    return make_layout("v2")


def running(
    layout: Layout, pid: int, parent: int = 1, path: str = "/docker/web", comm: bytes = b"app",
    command: bytes = b"app\0", local: int = 0,
) -> Path:  # fmt: skip
    """A process as the kernel shows it, started 100 s after the boot."""
    directory = layout.host.proc / str(pid)
    (directory / "ns").mkdir(parents=True, exist_ok=True)
    ticks = 100 * layout.host.ticks_per_second
    fields = [parent, 1, 1, 0, -1, 0, 0, 0, 0, 0, 40, 2, 0, 0, 20, 0, 3, 0, ticks, 4096, 7, 0, 0]
    stat = b"%d (%s) S %s\n" % (pid, comm, " ".join(map(str, fields)).encode())
    (directory / "stat").write_bytes(stat)
    (directory / "cmdline").write_bytes(command)
    (directory / "cgroup").write_text(f"0::{path}\n")
    (directory / "status").write_text(f"Name:\tx\nNSpid:\t{pid}\t{local or pid}\n")
    return directory


def event(pid: int, container: Container | None = TOP) -> Event:
    when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + ".5Z"
    return Event(when, "net.drop", "drops", "x", container=container, process=Process(pid, "app"))


def completed(layout: Layout, *events: Event) -> list[Event]:
    return Applications(layout.host).complete(events)


def test_ancestors_end_with_the_container(layout: Layout) -> None:
    running(layout, 1, 0, "/init.scope", b"systemd")
    running(layout, 10, 1, "/system.slice/docker.service", b"shim")
    running(layout, 11, 10, comm=b"init", command=b"/init\0", local=1)
    running(layout, 12, 11, "/docker/web/inner", b"sh")
    running(layout, 13, 12, command=b"app\0--password=x\0two words\0")
    (found,) = completed(layout, event(13))
    assert found.application is not None
    assert found.application.command == "app '--password=***' 'two words'"
    assert [one.pid for one in found.application.ancestors] == [12, 11]
    assert found.application.ancestors[1].command == "/init"
    (host,) = completed(layout, event(13, None))
    assert host.application is not None
    assert [one.pid for one in host.application.ancestors] == [12, 11, 10, 1]


def test_without_a_pid_namespace_the_cgroup_says_where_it_ends(layout: Layout) -> None:
    running(layout, 10, 1, "/system.slice/docker.service")
    running(layout, 11, 10)
    running(layout, 12, 11)
    running(layout, 13, 1, "/docker/website")  # another one
    running(layout, 14, 13)
    (found, other) = completed(layout, event(12), event(14))
    assert found.application is not None
    assert other.application is not None
    assert [one.pid for one in found.application.ancestors] == [11]
    assert other.application.ancestors == []


def test_a_circle_of_parents_ends(layout: Layout) -> None:
    running(layout, 20, 21)
    running(layout, 21, 20)
    (found,) = completed(layout, event(20))
    assert found.application is not None
    assert len(found.application.ancestors) == 16


def test_a_number_that_is_anothers_by_now_says_nothing(layout: Layout) -> None:
    running(layout, 20)
    old = Event("2001-01-01T00:00:00Z", "net.drop", "drops", "x", process=Process(20, "app"))
    assert completed(layout, old)[0].application is None
    assert completed(layout, event(21))[0].application is None
    assert completed(layout, event(20))[0].application is not None


def test_a_process_that_is_stuck_does_not_hold_up_events(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its command line cannot be read, as while somebody holds the lock of its memory."""
    running(layout, 20)
    stuck = running(layout, 21) / "cmdline"
    stuck.unlink()
    os.mkfifo(stuck)
    applications = Applications(layout.host)
    try:
        monkeypatch.undo()
        began = time.monotonic()
        found = applications.complete([event(21), event(20)])
        assert time.monotonic() - began < 1
        assert found[0].application is None
        monkeypatch.setattr(application, "_WAIT_SECONDS", 10.0)  # it is given up before
        began = time.monotonic()
        assert applications.complete([event(21), event(20)])[1].application is not None
        assert time.monotonic() - began < 5
    finally:
        os.close(os.open(stuck, os.O_RDWR | os.O_NONBLOCK))


def test_a_stuck_process_is_said_on_the_page(layout: Layout) -> None:
    layout.cgroup("/docker/web")
    (layout.mount() / "docker/web/cgroup.procs").write_text("21\n")
    stuck = running(layout, 21) / "cmdline"
    stuck.unlink()
    os.mkfifo(stuck)
    try:
        found = Applications(layout.host).of_container(TOP)
        assert found.processes == []
        assert "stuck" in found.notes[0]
    finally:
        os.close(os.open(stuck, os.O_RDWR | os.O_NONBLOCK))


def test_all_processes_of_a_container_in_the_order_of_a_tree(layout: Layout) -> None:
    layout.cgroup("/docker/web/inner")
    (layout.mount() / "docker/web/cgroup.procs").write_text("11\n14\n12\n99\n")
    (layout.mount() / "docker/web/inner/cgroup.procs").write_text("13\n")
    running(layout, 11, 1, comm=b"init")
    running(layout, 12, 11)
    running(layout, 13, 14)
    running(layout, 14, 11)
    found = Applications(layout.host).of_container(TOP)
    assert [(one.pid, one.parent) for one in found.processes] == [
        (11, 0), (14, 11), (13, 14), (12, 11),
    ]  # fmt: skip
    first = found.processes[0]
    assert (first.comm, first.threads, first.memory_bytes) == ("init", 3, 7 * layout.host.page_size)
    assert first.cpu_seconds == 42 / layout.host.ticks_per_second


def test_only_named_variables_are_read(layout: Layout) -> None:
    directory = running(layout, 20)
    (directory / "environ").write_bytes(
        b"HOME=/x\0APP_MODE=fast\0APP_TOKEN=abc\0BAD\0APP_\xff=\n\0"
    )
    assert Applications(layout.host).complete([event(20)])[0].application is not None
    (found,) = Applications(layout.host, "APP_* NOTHING").complete([event(20)])
    assert found.application is not None
    assert found.application.environment == {
        "APP_MODE": "fast", "APP_TOKEN": "***", "APP_\ufffd": " ",
    }  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None,
          max_examples=60)  # fmt: skip
@given(
    comm=st.binary(min_size=1, max_size=15).filter(lambda b: b"\0" not in b),
    command=st.binary(max_size=200),
)
def test_whatever_a_process_calls_itself(layout: Layout, comm: bytes, command: bytes) -> None:
    running(layout, 30, 1, comm=comm, command=command)
    assert process.stat(layout.host, 30).parent == 1
    layout.cgroup("/docker/web")
    (layout.mount() / "docker/web/cgroup.procs").write_text("30\n")
    (one,) = Applications(layout.host).of_container(TOP).processes
    assert one.comm.isprintable()
    assert one.command.isprintable()
    assert one.memory_bytes == 7 * layout.host.page_size


@pytest.mark.parametrize(
    ("program", "mapped", "runtime"),
    [
        ("/usr/bin/python3.11", [], "python 3.11"),
        ("/usr/bin/python3", [], "python 3"),
        ("/opt/venv/bin/uwsgi", ["/usr/lib/libc.so.6", "/usr/lib/libpython3.12.so.1.0"],
         "python 3.12"),
        ("/usr/local/bin/node", [], "node"),
        ("/usr/lib/jvm/bin/java (deleted)", [], "java"),
        ("/srv/launcher", ["/usr/lib/jvm/lib/server/libjvm.so"], "java"),
        ("/usr/bin/ruby3.1", [], "ruby 3.1"),
        ("/usr/bin/perl", ["/usr/lib/libperl.so.5.36"], "perl"),
        ("/usr/sbin/php-fpm8.2", [], "php 8.2"),
        ("/usr/lib/erlang/bin/beam.smp", [], "erlang"),
        ("/usr/bin/postgres", ["/usr/lib/libc.so.6"], ""),
    ],
)  # fmt: skip
def test_runtimes(layout: Layout, program: str, mapped: list[str], runtime: str) -> None:
    directory = running(layout, 40)
    (directory / "exe").symlink_to(program)
    lines = [f"7f0000000000-7f0000001000 r-xp 0 08:01 {at + 1} {p}" for at, p in enumerate(mapped)]
    (directory / "maps").write_text("\n".join(lines) + "\n")
    assert runtime_of(layout.host, 40) == runtime
