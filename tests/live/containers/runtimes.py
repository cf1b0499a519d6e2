"""Real containers of the runtimes in Debian, and their daemons, with all state below tmp_path, so
that a runtime that is in use on the machine is left alone. Nothing is pulled: the root file system
is a busybox.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from huatuo.kernel.cgroupfs import hierarchies
from huatuo.kernel.host import Host
from tests.live.conftest import need

__all__ = [
    "BURN",
    "PODMAN_RUN",
    "SLEEP",
    "Real",
    "call",
    "end",
    "exists",
    "make_rootfs",
    "oci",
    "real",
    "tool",
    "wait",
]

SLEEP = ["/bin/sleep", "300"]
BURN = ["/bin/sh", "-c", "while :; do :; done"]


@dataclass(frozen=True, slots=True)
class Real:
    """A running container, as its runtime describes it."""

    name: str
    id: str
    pid: int
    runtime: str
    started: str
    stop: Callable[[], None]
    rename: Callable[[str], None] | None = None

    def inode(self, host: Host, controller: str) -> int:
        """Its cgroup's id in a controller's hierarchy, by what /proc says of the process."""
        found = hierarchies(host)
        root = found.controller(controller)
        assert root is not None
        wanted = controller if controller in found.v1 else ""
        for line in Path(f"/proc/{self.pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if wanted in controllers.split(","):
                return (root / path.lstrip("/")).stat().st_ino
        raise AssertionError(f"process {self.pid} is in no {controller} hierarchy")


def tool(name: str) -> str:
    """The program's path; skips where it is missing."""
    need(os.geteuid() == 0, "containers need root")
    need(hierarchies(Host()).identity is not None, "no cgroup hierarchy is mounted")
    found = shutil.which(name)
    need(found, f"{name} is not installed")
    return str(found)


def call(*argv: str | Path) -> str:
    """Output of a command; skips if a runtime cannot run containers on this machine at all.

    Into files: what a runtime leaves running would hold a pipe open.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, timeout=60, check=False
        )
        output.seek(0)
        errors.seek(0)
        if done.returncode:
            said = errors.read().strip()[-200:]
            pytest.skip(f"{Path(argv[0]).name} cannot run here: {said}")
        return output.read()


def end(*argv: str | Path) -> None:
    """A command that tidies up; whether there was anything to tidy does not matter."""
    nothing = subprocess.DEVNULL
    subprocess.run(argv, stdin=nothing, stdout=nothing, stderr=nothing, timeout=60, check=False)


def make_rootfs(root: Path) -> None:
    """A root file system of one static busybox."""
    busybox = tool("busybox")
    for directory in ("bin", "dev", "etc", "proc", "sys", "tmp", "run"):
        (root / directory).mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    for applet in ("sh", "sleep"):
        (root / "bin" / applet).symlink_to("busybox")


@contextmanager
def oci(
    runtime: str,
    host: Host,
    rootfs: Path,
    tmp_path: Path,
    argv: list[str],
    change: Callable[[dict[str, Any]], None] | None = None,
) -> Iterator[Real]:
    """runc or crun, by hand; `change` may do anything to its specification."""
    program = tool(runtime)
    base = [program, "--root", str(host.run / runtime)]
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    call(program, "spec", "--bundle", bundle)
    spec = json.loads((bundle / "config.json").read_text())
    spec["process"] |= {"terminal": False, "args": argv}
    spec["root"] = {"path": str(rootfs), "readonly": False}
    if change:
        change(spec)
    (bundle / "config.json").write_text(json.dumps(spec))
    name = f"huatuo-{runtime}-{os.getpid()}"
    output = tmp_path / "output"
    with output.open("w") as stream:
        started = subprocess.run(
            [*base, "run", "--detach", "--bundle", bundle, name],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            timeout=60,
            check=False,
        )
    try:
        if started.returncode or "not supported" in output.read_text():
            pytest.skip(f"{runtime} cannot run here: {output.read_text().strip()[-200:]}")
        state = json.loads(call(*base, "state", name))
        yield Real(
            name,
            name,
            state["pid"],
            runtime,
            state["created"],
            lambda: end(*base, "delete", "--force", name),
        )
    finally:
        end(*base, "delete", "--force", name)


PODMAN_RUN = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--network", "none"]


@contextmanager
def podman(host: Host, rootfs: Path, argv: list[str]) -> Iterator[Real]:
    program = tool("podman")
    tool("runc")
    storage = ["--root", str(host.root / "var/lib/containers/storage"), "--storage-driver", "vfs"]
    runroot = tempfile.mkdtemp(prefix="hp")  # podman wants at most 50 characters
    base = [program, *storage, "--runroot", runroot, "--runtime", "runc"]
    name = f"huatuo-podman-{os.getpid()}"
    try:
        call(*base, "run", "--detach", "--name", name, *PODMAN_RUN, "--rootfs", rootfs, *argv)
        (said,) = json.loads(call(*base, "inspect", name))
        yield Real(
            said["Name"],
            said["Id"],
            said["State"]["Pid"],
            "podman",
            said["Created"],
            lambda: end(*base, "rm", "--force", "--time", "0", name),
        )
    finally:
        end(*base, "rm", "--force", "--time", "0", name)
        shutil.rmtree(runroot, ignore_errors=True)


CONTAINERD = """
version = 2
root = "{tmp}/containerd"
state = "{run}/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "{run}/containerd/containerd.sock"
"""


@contextmanager
def containerd(host: Host, rootfs: Path, tmp_path: Path, argv: list[str]) -> Iterator[Real]:
    program, ctr = tool("containerd"), tool("ctr")
    tool("runc")
    (tmp_path / "config.toml").write_text(CONTAINERD.format(tmp=tmp_path, run=host.run))
    socket = host.run / "containerd/containerd.sock"
    base = [ctr, "--address", str(socket)]
    name = f"huatuo-ctr-{os.getpid()}"
    with (
        (tmp_path / "containerd.log").open("w") as log,
        subprocess.Popen(
            [program, "--config", tmp_path / "config.toml"], stdout=log, stderr=log
        ) as daemon,
    ):
        try:
            wait(socket.exists, "containerd's socket")
            states = host.run / "containerd/runc"
            options = ["--detach", "--label", "app=shop", "--runc-root", states, "--rootfs"]
            call(*base, "run", *options, rootfs, name, *argv)
            rows = [line.split() for line in call(*base, "tasks", "list").splitlines()]
            (pid,) = [int(row[1]) for row in rows if row[0] == name]
            state = json.loads((states / "default" / name / "state.json").read_text())

            def stop() -> None:
                end(*base, "tasks", "kill", "--signal", "9", name)
                end(*base, "tasks", "delete", "--force", name)

            yield Real(name, name, pid, "containerd", state["created"], stop)
        finally:
            end(*base, "tasks", "kill", "--signal", "9", name)
            end(*base, "tasks", "delete", "--force", name)
            end(*base, "containers", "delete", name)
            daemon.terminate()


@contextmanager
def dockerd(host: Host, tmp_path: Path) -> Iterator[list[str]]:
    """Docker's engine, without a network of its own; gives the client's command."""
    program, client = tool("dockerd"), tool("docker")
    socket, run = tmp_path / "docker.sock", tempfile.mkdtemp(prefix="hd")
    data = host.root / "var/lib/docker"
    argv = [program, "--host", f"unix://{socket}", "--data-root", data, "--exec-root", run]
    argv += ["--pidfile", tmp_path / "docker.pid", "--storage-driver", "vfs"]
    argv += ["--bridge", "none", "--iptables=false", "--ip6tables=false"]
    with (
        (tmp_path / "dockerd.log").open("w") as log,
        subprocess.Popen(argv, stdout=log, stderr=log) as daemon,
    ):
        try:
            wait(socket.exists, "docker's socket")
            yield [client, "--host", f"unix://{socket}"]
        finally:
            daemon.terminate()
            daemon.wait(30)
            shutil.rmtree(run, ignore_errors=True)


@contextmanager
def docker(host: Host, rootfs: Path, tmp_path: Path, argv: list[str]) -> Iterator[Real]:
    with dockerd(host, tmp_path) as base:
        call("tar", "-C", rootfs, "-cf", tmp_path / "image.tar", ".")
        call(*base, "import", tmp_path / "image.tar", "huatuo-busybox:1")
        name = f"huatuo-docker-{os.getpid()}"
        options = ["--detach", "--network", "none", "--name", name, "--label", "app=shop"]
        options += ["--memory", "64m", "--cpus", "0.5"]
        try:
            call(*base, "run", *options, "huatuo-busybox:1", *argv)
            (said,) = json.loads(call(*base, "inspect", name))
            yield Real(
                said["Name"].removeprefix("/"),
                said["Id"],
                said["State"]["Pid"],
                "docker",
                said["State"]["StartedAt"],
                lambda: end(*base, "rm", "--force", name),
                lambda new: end(*base, "rename", said["Id"], new),
            )
        finally:
            end(*base, "rm", "--force", name)


def exists(host: Host, path: str) -> bool:
    """Whether a cgroup is there."""
    root = hierarchies(host).identity
    assert root is not None
    return (root / path.lstrip("/")).exists()


def wait(condition: Callable[[], bool], what: str) -> None:
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    pytest.skip(f"{what} has not appeared in 10 s")


@contextmanager
def real(
    runtime: str, host: Host, rootfs: Path, tmp_path: Path, argv: list[str] = SLEEP
) -> Iterator[Real]:
    if runtime in ("runc", "crun"):
        with oci(runtime, host, rootfs, tmp_path, argv) as container:
            yield container
    elif runtime == "podman":
        with podman(host, rootfs, argv) as container:
            yield container
    elif runtime == "docker":
        with docker(host, rootfs, tmp_path, argv) as container:
            yield container
    else:
        with containerd(host, rootfs, tmp_path, argv) as container:
            yield container
