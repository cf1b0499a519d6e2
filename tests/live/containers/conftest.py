"""A root file system, a host whose runtimes' state is ours, and tidying up after runtimes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from huatuo.kernel.cgroupfs import hierarchies
from huatuo.kernel.host import Host
from tests.live.containers.runtimes import make_rootfs


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """A root file system of one static busybox."""
    make_rootfs(tmp_path / "rootfs")
    return tmp_path / "rootfs"


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
        for name in ("libpod_parent", "default", "docker", "kubepods")
        if not (root / name).exists()
    ]
    yield
    for top in made:
        for path, _, _ in os.walk(top, topdown=False):
            _remove(Path(path))


def _remove(directory: Path) -> None:
    for _ in range(20):
        try:
            directory.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.1)  # a monitor is still leaving it
