"""A real podman in a real container: what runs inside is known by the name that it has there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from huatuo.enrich.containers.inventory import Inventory
from huatuo.kernel.cgroup_events import CgroupEvents
from huatuo.kernel.host import Host
from huatuo.model.event import Container
from tests.live.conftest import need
from tests.live.containers.runtimes import PODMAN_RUN, oci, tool, wait

pytestmark = pytest.mark.live

CAPABILITIES = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
]


def roomy(spec: dict[str, Any]) -> None:
    """What a container needs to run others: capabilities, its cgroups writable, places to write."""
    spec["process"] |= {"noNewPrivileges": False, "rlimits": []}
    kinds = ("bounding", "effective", "permitted")
    spec["process"]["capabilities"] = dict.fromkeys(kinds, CAPABILITIES)
    spec["root"]["readonly"] = True
    for mount in spec["mounts"]:
        if mount["destination"] in ("/sys", "/sys/fs/cgroup"):
            mount["options"] = [option for option in mount["options"] if option != "ro"]
    for directory in ("/run", "/var/lib/containers", "/var/tmp"):
        mount = {"destination": directory, "type": "tmpfs", "source": "tmpfs"}
        spec["mounts"].append(mount | {"options": ["rw", "nosuid"]})
    spec["linux"] |= {"maskedPaths": [], "readonlyPaths": [], "resources": {}}
    spec["linux"].pop("seccomp", None)
    spec["linux"]["cgroupsPath"] = "/huatuo-outer"


@contextmanager
def whole_system(at: Path) -> Iterator[Path]:
    """This machine's files without what is mounted in them, so that podman is there."""
    at.mkdir()
    subprocess.run([tool("mount"), "--bind", "/", at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


@pytest.mark.usefixtures("need_bpf")
def test_podman_in_a_container(host: Host, rootfs: Path, tmp_path: Path) -> None:
    tool("podman")
    need(rootfs.stat().st_dev == Path("/").stat().st_dev, "/tmp is a file system of its own")
    inventory = Inventory(host)
    events = CgroupEvents(host)
    inventory.follow(events)
    base = "podman --runtime runc --cgroup-manager cgroupfs --storage-driver vfs"
    options = " ".join(PODMAN_RUN)
    script = (
        f"cp -r {rootfs} /run/rootfs && "
        f"{base} run --detach --name inner {options} --rootfs /run/rootfs /bin/sleep 300"
        " && sleep 300"
    )
    with (
        whole_system(tmp_path / "system") as system,
        oci("runc", host, system, tmp_path, ["/bin/sh", "-c", script], roomy) as outer,
    ):
        wait(lambda: bool(named(inventory, "inner")), "the container inside")
        inner = named(inventory, "inner")[0]
        assert (inner.kind, inner.runtime) == ("container", "podman")
        assert inner.cgroup.startswith("/huatuo-outer/")
        assert inner.cgroup.endswith(f"/libpod-{inner.id}")
        assert named(inventory, outer.name)[0].cgroup == "/huatuo-outer"
        output = tmp_path / "output"
        wait(lambda: bool(output.read_text()), "podman's answer")
        assert output.read_text().strip() == inner.id
        outer.stop()
        wait(lambda: bool(named(inventory, "inner")[0].gone), "its end")
        after = named(inventory, "inner")[0]
        assert (after.id, after.runtime) == (inner.id, "podman")
    events.close()


def named(inventory: Inventory, name: str) -> list[Container]:
    inventory.look_again()
    return [each for each in inventory.containers() if each.name == name]
