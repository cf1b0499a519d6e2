"""Memory for live tests: limits of cgroups, and the kernel's own counts."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huatuo.kernel.cgroupfs import identity_is_v1
from tests.live.conftest import HOST, Group, need

__all__ = ["MIB", "child", "limit", "need_disposable_host", "pairs", "vmstat"]

MIB = 1 << 20


def limit(group: Group, size: int) -> None:
    """Memory and, where it is limited apart, memory and swap together."""
    if identity_is_v1(HOST):
        group.write("memory.limit_in_bytes", size)
        together = group.directory / "memory.memsw.limit_in_bytes"
        if together.exists():
            together.write_text(str(size))
        return
    group.write("memory.max", size)
    swap = group.directory / "memory.swap.max"
    if swap.exists():
        swap.write_text("0")


@contextmanager
def child(parent: Group, name: str) -> Iterator[Group]:
    """A cgroup below another one, with the memory controller."""
    control = parent.directory / "cgroup.subtree_control"
    if control.exists():
        control.write_text("+memory")
    directory = parent.directory / name
    directory.mkdir()
    try:
        yield Group(directory)
    finally:
        for _ in range(100):
            try:
                directory.rmdir()
                break
            except OSError:
                time.sleep(0.05)


def pairs(path: Path) -> dict[str, int]:
    """memory.stat, memory.events, vmstat: name → number."""
    return HOST.read_pairs(path)


def vmstat() -> dict[str, int]:
    return pairs(HOST.proc / "vmstat")


def need_disposable_host(what: str) -> None:
    """Skip unless the whole machine may be brought into trouble."""
    need(
        os.environ.get("HUATUO_DISPOSABLE_HOST"),
        f"{what}: HUATUO_DISPOSABLE_HOST=1 allows it, in a VM",
    )
