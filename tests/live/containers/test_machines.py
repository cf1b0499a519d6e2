"""System containers, which have a name and no id: real ones of systemd-nspawn and LXC."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from huatuo.enrich.application import Applications
from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.watched import Watched
from huatuo.kernel.cgroupfs import hierarchies
from huatuo.kernel.host import Host
from tests.live.containers.runtimes import SLEEP, Real, tool

pytestmark = pytest.mark.live


def sleeper(program: subprocess.Popen[bytes], output: Path) -> int:
    """The container's own first process; skips if the program ends before there is one."""
    for _ in range(200):
        found = subprocess.run(
            ["ps", "-e", "-o", "pid=,ppid=,comm="], capture_output=True, text=True, check=True
        ).stdout
        rows = [line.split(maxsplit=2) for line in found.splitlines()]
        below = {str(program.pid)}
        for pid, parent, comm in rows:  # parents have lower numbers here
            if parent in below:
                below.add(pid)
                if comm in ("sleep", "busybox"):
                    return int(pid)
        if program.poll() is not None:
            break
        time.sleep(0.05)
    program.kill()
    said = output.read_text().strip()[-300:]
    pytest.skip(f"{program.args[0]} cannot run here: {said}")  # type: ignore[index]


@contextmanager
def started(name: str, runtime: str, argv: list[str], tmp_path: Path) -> Iterator[Real]:
    output = tmp_path / "output"
    with output.open("wb") as stream:
        program = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )
    pid = sleeper(program, output)

    def stop() -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        try:
            program.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, signal.SIGKILL)
            program.wait()

    try:
        yield Real(name, name, pid, runtime, "", stop)
    finally:
        stop()


@contextmanager
def nspawn(rootfs: Path, tmp_path: Path, unit: str, name: str) -> Iterator[Real]:
    """In the cgroup that systemd gives the unit, made here: not everywhere is systemd the init."""
    program = tool("systemd-nspawn")
    (rootfs / "usr/lib").mkdir(parents=True)
    (rootfs / "usr/lib/os-release").write_text("ID=huatuo\n")
    mounted = hierarchies(Host())
    tops = {path / "machine.slice" for path in (*mounted.v1.values(), mounted.v2) if path}
    places = [top / unit for top in tops if os.access(top.parent, os.W_OK)]
    for place in places:
        with suppress(OSError):
            place.mkdir(parents=True)
    enter = "".join(f'echo $$ > "{place}/cgroup.procs"; ' for place in places if place.exists())
    words = [program, "--quiet", "--register=no", "--keep-unit", "--directory", str(rootfs),
             "--machine", name, *SLEEP]  # fmt: skip
    try:
        argv = ["sh", "-c", f'{enter.replace(chr(92), chr(92) * 2)}exec "$@"', "sh", *words]
        with started(name, "nspawn", argv, tmp_path) as container:
            yield container
    finally:
        for place in places:
            _remove(place)
            with suppress(OSError):
                place.parent.rmdir()


def _remove(directory: Path) -> None:
    """A cgroup with those that its processes made inside."""
    for _ in range(50):
        with suppress(OSError):
            for inner in sorted(directory.rglob("*"), reverse=True):
                if inner.is_dir():
                    inner.rmdir()
            directory.rmdir()
        if not directory.exists():
            return
        time.sleep(0.1)


@contextmanager
def lxc(rootfs: Path, tmp_path: Path, name: str) -> Iterator[Real]:
    program = tool("lxc-start")
    lines = {
        "lxc.uts.name": name, "lxc.rootfs.path": f"dir:{rootfs}", "lxc.net.0.type": "empty",
        "lxc.apparmor.profile": "unconfined", "lxc.mount.auto": "proc:mixed",
    }  # fmt: skip
    config = tmp_path / "config"
    config.write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))
    argv = [program, "-n", name, "-P", str(tmp_path), "-f", str(config), "-F", "--", *SLEEP]
    with started(name, "lxc", argv, tmp_path) as container:
        yield container


@pytest.fixture(params=["nspawn service", "nspawn scope", "lxc"])
def machine(request: pytest.FixtureRequest, rootfs: Path, tmp_path: Path) -> Iterator[Real]:
    name = f"huatuo-{os.getpid()}"
    escaped = name.replace("-", "\\x2d")
    if request.param == "lxc":
        with lxc(rootfs, tmp_path, name) as container:
            yield container
        return
    unit = f"machine-{escaped}.scope"
    if request.param == "nspawn service":
        name = name.replace("-", "")
        unit = f"systemd-nspawn@{name}.service"
    with nspawn(rootfs, tmp_path, unit, name) as container:
        yield container


def test_it_is_known_by_its_name(machine: Real) -> None:
    host = Host()
    inventory = Inventory(host)
    owner = inventory.owner(machine.inode(host, "memory"))
    assert (owner.kind, owner.name, owner.runtime) == ("container", machine.name, machine.runtime)
    assert inventory.owner_of_blkcg(machine.inode(host, "blkio")).name == machine.name
    netns = Path(f"/proc/{machine.pid}/ns/net").stat().st_ino
    if machine.runtime == "lxc":  # the other shares the host's
        assert inventory.owner_of_netns(netns) == owner
    watched = Watched(include=f"runtime={machine.runtime}, name=huatuo*", exclude="qos=guaranteed")
    assert watched.everywhere.allows(owner)
    assert not Watched(exclude=f"runtime={machine.runtime}").everywhere.allows(owner)


def test_what_runs_in_it(machine: Real) -> None:
    """Up to its own first process, whatever started that."""
    host = Host()
    inventory = Inventory(host)
    owner = inventory.owner(machine.inode(host, "memory"))
    found = Applications(host).of_container(owner)
    inside = {one.pid: one for one in found.processes}
    assert machine.pid in inside
    assert inside[machine.pid].command == " ".join(SLEEP)
    status = Path(f"/proc/{machine.pid}/status").read_text()
    local = next(line for line in status.splitlines() if line.startswith("NSpid")).split()[-1]
    assert inside[machine.pid].local_pid == int(local)
