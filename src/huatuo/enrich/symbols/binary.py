"""A native binary as a process maps it, and the name under which its symbols are kept."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from huatuo.kernel.rooted import open_regular

__all__ = ["BinaryFile", "Identity", "key_by_content"]

_BUILD_ID = re.compile(r"[0-9a-f]{8,128}")
_BLOCK = 64 << 10


class Identity(NamedTuple):
    """What a mapping says of its file; good while the file is not changed in place."""

    device: int
    inode: int
    size: int


@dataclass(frozen=True, slots=True)
class BinaryFile:
    """`path` is where its processes see it, below `root`; `open_at` is where it can be opened now.

    `open_at` may be /proc/PID/map_files/…, a path below `root`, or /proc/self/fd/N of a file that
    is open already. All of it may be gone when it is used.
    """

    identity: Identity
    path: str
    open_at: Path
    root: Path = Path("/")
    build_id: str = ""  # in hexadecimal

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2] or self.path

    @property
    def key(self) -> str:
        """By build id and size: a file and its stripped twin have the same id. "" without one."""
        if not _BUILD_ID.fullmatch(self.build_id):
            return ""
        return f"{self.build_id}-{self.identity.size:x}"


def key_by_content(file: BinaryFile) -> str:
    """For a file without a build id: its first and last 64 KiB, its size and time. OSError."""
    fd = open_regular(file.open_at)
    try:
        status = os.fstat(fd)
        digest = hashlib.blake2b(f"{status.st_size} {status.st_mtime_ns}".encode(), digest_size=20)
        digest.update(os.pread(fd, _BLOCK, 0))
        digest.update(os.pread(fd, _BLOCK, max(status.st_size - _BLOCK, 0)))
    finally:
        os.close(fd)
    return f"content-{digest.hexdigest()}"
