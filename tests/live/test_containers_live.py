"""Real containers of runc, crun, podman and containerd: what we say is what the runtime says.

The root file system is a busybox; nothing is pulled. Each runtime keeps its state below tmp_path,
so that a runtime that is in use on the machine is left alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.enricher import Enricher
from huatuo.kernel.cgroupfs import hierarchies
from huatuo.kernel.host import Host
from huatuo.probes.cpu.sched import Sched
from tests.live.conftest import need, running

pytestmark = pytest.mark.live

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


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """A root file system of one static busybox."""
    busybox = tool("busybox")
    root = tmp_path / "rootfs"
    for directory in ("bin", "dev", "etc", "proc", "sys", "tmp", "run"):
        (root / directory).mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    for applet in ("sh", "sleep"):
        (root / "bin" / applet).symlink_to("busybox")
    return root


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """This machine, but runtimes' state is below tmp_path."""
    root = tmp_path / "root"
    (root / "run/containerd").mkdir(parents=True)
    (root / "sys").symlink_to("/sys")
    return Host(root=root, run=root / "run")


@pytest.fixture(autouse=True)
def _no_empty_cgroups_left() -> Iterator[None]:
    """Runtimes leave the parents they made; those that were not there before go again."""
    found = hierarchies(Host())
    roots = {*found.v1.values(), *([found.v2] if found.v2 else [])}
    made = [
        root / name
        for root in roots
        for name in ("libpod_parent/conmon", "libpod_parent", "default")
        if not (root / name).exists()
    ]
    yield
    for directory in made:
        for _ in range(20):
            try:
                directory.rmdir()
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.1)  # a monitor is still leaving it


@contextmanager
def oci(runtime: str, host: Host, rootfs: Path, tmp_path: Path, argv: list[str]) -> Iterator[Real]:
    """runc or crun, by hand."""
    program = tool(runtime)
    base = [program, "--root", str(host.run / runtime)]
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    call(program, "spec", "--bundle", bundle)
    spec = json.loads((bundle / "config.json").read_text())
    spec["process"] |= {"terminal": False, "args": argv}
    spec["root"] = {"path": str(rootfs), "readonly": False}
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
  address = "{tmp}/c.sock"
"""


@contextmanager
def containerd(host: Host, rootfs: Path, tmp_path: Path, argv: list[str]) -> Iterator[Real]:
    program, ctr = tool("containerd"), tool("ctr")
    tool("runc")
    (tmp_path / "config.toml").write_text(CONTAINERD.format(tmp=tmp_path, run=host.run))
    base = [ctr, "--address", str(tmp_path / "c.sock")]
    name = f"huatuo-ctr-{os.getpid()}"
    with (
        (tmp_path / "containerd.log").open("w") as log,
        subprocess.Popen(
            [program, "--config", tmp_path / "config.toml"], stdout=log, stderr=log
        ) as daemon,
    ):
        try:
            _wait(lambda: (tmp_path / "c.sock").exists(), "containerd's socket")
            states = host.run / "containerd/runc"
            options = ["--detach", "--runc-root", states, "--rootfs"]
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


def _wait(condition: Callable[[], bool], what: str) -> None:
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
    else:
        with containerd(host, rootfs, tmp_path, argv) as container:
            yield container


def same_second(ours: str, theirs: str) -> bool:
    """Runtimes print the same instant with more or fewer digits and in other zones."""
    first, second = (datetime.fromisoformat(text[:19] + "+00:00") for text in (ours, theirs))
    return abs((first - second).total_seconds()) <= 1


@pytest.mark.parametrize("runtime", ["runc", "crun", "podman", "containerd"])
def test_container_is_what_its_runtime_says(
    runtime: str, host: Host, rootfs: Path, tmp_path: Path
) -> None:
    inventory = Inventory(host)
    inventory.refresh()
    with real(runtime, host, rootfs, tmp_path) as container:
        identity = container.inode(host, "memory")
        block = container.inode(host, "blkio")
        owner = inventory.owner(identity)
        if not owner.started:  # state may follow the cgroup
            inventory.refresh()
            owner = inventory.owner(identity)
        assert (owner.kind, owner.name, owner.id) == ("container", container.name, container.id)
        assert owner.runtime == container.runtime
        assert same_second(owner.started, container.started)
        assert inventory.owner_of_blkcg(block) == owner
        netns = (Path(f"/proc/{container.pid}/ns/net")).stat().st_ino
        assert inventory.owner_of_netns(netns) == owner
        assert owner in inventory.containers()
        assert [c.path for c in inventory.cgroups() if inventory.owner(c.id) == owner] == [
            owner.cgroup
        ]
        container.stop()
        _wait(lambda: not _exists(host, owner.cgroup), "the end of the cgroup")
        inventory.refresh()
        after = inventory.owner(identity)
        assert (after.name, after.id) == (container.name, container.id)
        assert after.gone
        assert inventory.owner_of_blkcg(block).id == container.id


def _exists(host: Host, path: str) -> bool:
    root = hierarchies(host).identity
    assert root is not None
    return (root / path.lstrip("/")).exists()


@pytest.mark.parametrize("runtime", ["runc", "podman", "containerd"])
def test_container_made_after_the_scan_is_found_at_once(
    runtime: str, host: Host, rootfs: Path, tmp_path: Path
) -> None:
    inventory = Inventory(host)
    inventory.refresh()
    inventory.refresh()
    with real(runtime, host, rootfs, tmp_path) as container:
        began = time.monotonic()
        owner = inventory.owner(container.inode(host, "memory"))
        assert owner.name == container.name
        assert time.monotonic() - began < 1


@pytest.mark.usefixtures("need_bpf")
@pytest.mark.parametrize("runtime", ["runc", "podman"])
def test_metrics_of_the_scheduler_carry_the_containers_name(
    runtime: str, host: Host, rootfs: Path, tmp_path: Path
) -> None:
    """From sched_switch to the label: a container that burns a CPU shows up by its name."""
    enricher = Enricher(host)
    with running(Sched) as probe, real(runtime, host, rootfs, tmp_path, BURN) as container:
        time.sleep(1.5)
        found = {metric.name: metric for metric in enricher.metrics(probe.collect())}
        run = found["huatuo_cpu_sched_run_seconds_total"]
        row = list(run.labels["container"].values).index(container.name)
        used = int(Path(f"/proc/{container.pid}/schedstat").read_text().split()[0]) / 1e9
        assert float(np.asarray(run.values)[row]) == pytest.approx(used, rel=0.5)


@pytest.mark.usefixtures("need_bpf")
def test_a_container_that_dies_at_once_is_known_by_name_to_trace(rootfs: Path) -> None:
    """`podman run --rm` whose only process is OOM-killed within a moment of its start."""
    name = f"huatuo-brief-{os.getpid()}"
    tool("runc")
    base = [tool("podman"), "--runtime", "runc"]
    grow = 'x=0123456789; while :; do x="$x$x"; done'
    options = ["--rm", "--name", name, "--memory", "20m", *PODMAN_RUN]
    trace = [sys.executable, "-m", "huatuo", "trace", "memory.oom", "--json", "--count", "1"]
    pipe = subprocess.PIPE
    try:
        with subprocess.Popen(
            [*trace, "--duration", "30s"], stdout=pipe, stderr=pipe, text=True
        ) as tracer:
            assert tracer.stderr is not None
            assert "memory.oom" in tracer.stderr.readline()  # it is attached
            end(*base, "run", *options, "--rootfs", rootfs, "/bin/sh", "-c", grow)
            output, _ = tracer.communicate(timeout=60)
    finally:
        end(*base, "rm", "--force", "--time", "0", name)
    need(output, "podman cannot limit the memory of a container here")
    (event,) = [json.loads(line) for line in output.splitlines()]
    assert event["container"]["name"] == name
    assert event["container"]["runtime"] == "podman"
