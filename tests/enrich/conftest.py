"""Hosts made of plain directories: the inodes of real directories serve as cgroup ids."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from huatuo.kernel.host import Host

__all__ = ["FakeHost", "Layout"]

SECOND = 1_000_000_000
_MOUNTS = {
    "v2": [("cgroup2", "/sys/fs/cgroup", "rw")],
    "v1": [
        ("cgroup", "/sys/fs/cgroup/memory", "rw,memory"),
        ("cgroup", "/sys/fs/cgroup/blkio", "rw,blkio"),
        ("cgroup", "/sys/fs/cgroup/cpu,cpuacct", "rw,cpu,cpuacct"),
    ],
    "hybrid": [
        ("cgroup", "/sys/fs/cgroup/memory", "rw,memory"),
        ("cgroup", "/sys/fs/cgroup/blkio", "rw,blkio"),
        ("cgroup2", "/sys/fs/cgroup/unified", "rw"),
    ],
}


@dataclass(frozen=True)
class FakeHost(Host):
    """A host whose clock stands still until a test moves it."""

    clock: list[int] = field(default_factory=lambda: [1000 * SECOND], compare=False)

    def now_ns(self) -> int:
        return self.clock[0]

    def utc_offset_ns(self) -> int:
        return 1_700_000_000 * SECOND - 1000 * SECOND

    def pass_seconds(self, seconds: float) -> None:
        self.clock[0] += int(seconds * SECOND)


@dataclass(frozen=True, slots=True)
class Layout:
    """Builds the trees of one host."""

    host: FakeHost
    version: str

    def mount(self, controller: str = "memory") -> Path:
        base = self.host.root / "sys/fs/cgroup"
        return base if self.version == "v2" else base / controller

    def cgroup(self, path: str, *controllers: str) -> int:
        """Make a cgroup in all hierarchies, or those named; its id in the (last) hierarchy."""
        inode = 0
        for controller in controllers or ("blkio", "memory"):
            directory = self.mount(controller) / path.lstrip("/")
            directory.mkdir(parents=True, exist_ok=True)
            inode = directory.stat().st_ino
        return inode

    def remove(self, path: str, *controllers: str) -> None:
        for controller in controllers or ("blkio", "memory"):
            directory = self.mount(controller) / path.lstrip("/")
            if directory.exists():
                directory.rmdir()

    def file(self, path: str, content: Any) -> None:
        """A runtime's state, below the root; anything but text becomes JSON."""
        where = self.host.root / path
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(content if isinstance(content, str) else json.dumps(content))

    def process(self, pid: int, path: str, netns: int) -> None:
        """A process in a cgroup and a network namespace."""
        directory = self.host.proc / str(pid)
        (directory / "ns").mkdir(parents=True, exist_ok=True)
        line = f"0::{path}\n" if self.version == "v2" else f"4:memory:{path}\n0::/\n"
        (directory / "cgroup").write_text(line)
        link = directory / "ns/net"
        link.unlink(missing_ok=True)
        link.symlink_to(f"net:[{netns}]")


@pytest.fixture
def make_layout(tmp_path: Path) -> Callable[[str], Layout]:
    def make(version: str) -> Layout:
        root = tmp_path / version
        host = FakeHost(root / "proc", root / "sys", root / "run", root)
        lines = [
            f"{30 + at} 25 0:{26 + at} / {where} rw,nosuid - {kind} {kind} {options}"
            for at, (kind, where, options) in enumerate(_MOUNTS[version])
        ]
        layout = Layout(host, version)
        layout.file("proc/self/mountinfo", "\n".join(lines) + "\n")
        for _, where, _ in _MOUNTS[version]:
            (root / where.lstrip("/")).mkdir(parents=True)
        layout.process(1, "/init.scope", 4026531840)
        return layout

    return make


@pytest.fixture(params=["v1", "v2", "hybrid"])
def layout(request: pytest.FixtureRequest, make_layout: Callable[[str], Layout]) -> Layout:
    """One after the other of the three kinds of host."""
    return make_layout(request.param)
