"""A small disk to fill."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest


def mount_tmpfs(where: Path, megabytes: int) -> str:
    """ "" or why not."""
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"size={megabytes}m".encode()
    if libc.mount(b"huatuo-test", bytes(where), b"tmpfs", 0, options):
        return os.strerror(ctypes.get_errno())
    return ""


def small_disk(parent: Path, megabytes: int = 24) -> Iterator[Path]:
    """Mounted while the caller's fixture lives; skips where that is not allowed."""
    where = parent / "disk"
    where.mkdir()
    reason = mount_tmpfs(where, megabytes)
    if reason:
        pytest.skip(f"cannot mount a small disk: {reason}")
    yield where
    ctypes.CDLL(None).umount2(bytes(where), 2)
