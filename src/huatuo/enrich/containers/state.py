"""Files in which runtimes keep their state, read as the host sees them.

Paths are written without a slash in front: run/containerd/…, var/lib/docker/…. Symbolic links are
followed within that root, so that neither the host's trees mounted elsewhere nor a container's own
tree lead anywhere else.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TypeVar

import msgspec

from huatuo.kernel.rooted import open_below, open_directory_below, open_root

__all__ = ["Listing", "State"]

_LARGEST = 32 << 20  # bytes of one file
_SETTLED_NS = 50_000_000  # a directory may change again within the tick of its time stamp
_Kind = TypeVar("_Kind")


class State:
    """`run` is where run/… is, if that is not simply below `root`."""

    def __init__(self, root: Path, run: Path | None = None) -> None:
        self._root, self._run = root, run
        self._open: dict[Path, int] = {}

    def load(self, path: str, kind: type[_Kind]) -> _Kind | None:
        """A JSON file, or None where it is absent, half-written or of another form."""
        try:
            return msgspec.json.decode(self.read(path), type=kind)
        except (OSError, msgspec.MsgspecError):
            return None

    def read(self, path: str) -> bytes:
        """A regular file, whole. Raises OSError, also for one that is too large to be state."""
        root, below = self._place(path)
        fd = open_below(root, below)
        try:
            size = os.fstat(fd).st_size
            if size > _LARGEST:
                raise OSError(f"{path}: {size} bytes are too many")
            parts = []
            while part := os.read(fd, 1 << 20):
                parts.append(part)
                if sum(map(len, parts)) > _LARGEST:
                    raise OSError(f"{path}: grows while it is read")
            return b"".join(parts)
        finally:
            os.close(fd)

    def changed_ns(self, path: str) -> int:
        """When a file was last written; 0 if it is not there."""
        try:
            root, below = self._place(path)
            fd = open_below(root, below)
        except OSError:
            return 0
        try:
            return os.fstat(fd).st_mtime_ns
        finally:
            os.close(fd)

    def directory(self, path: str) -> int:
        """Opened for listing; the caller closes it. Raises OSError."""
        return open_directory_below(*self._place(path))

    def _place(self, path: str) -> tuple[int, str]:
        root = self._root
        if self._run is not None and path.startswith("run/"):
            root, path = self._run, path.removeprefix("run/")
        if root not in self._open:
            self._open[root] = open_root(root)
        return self._open[root], path

    def close(self) -> None:
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def __del__(self) -> None:
        self.close()


class Listing:
    """The subdirectories of one directory, listed again only when it has changed."""

    def __init__(self, state: State, path: str) -> None:
        self._state, self.path = state, path
        self._stamp = (0, 0, 0)  # inode, time of change; 0: list again in any case
        self._names: frozenset[str] = frozenset()

    def names(self) -> frozenset[str]:
        """Empty if the directory is not there. The same object as long as nothing has changed."""
        try:
            fd = self._state.directory(self.path)
        except OSError:
            self._stamp = (0, 0, 0)
            if self._names:
                self._names = frozenset()
            return self._names
        try:
            self._look(fd)
        finally:
            os.close(fd)
        return self._names

    def _look(self, fd: int) -> None:
        found = os.fstat(fd)
        stamp = found.st_ino, found.st_mtime_ns, found.st_nlink
        if stamp == self._stamp:
            return
        try:
            with os.scandir(fd) as entries:
                names = frozenset(e.name for e in entries if e.is_dir(follow_symlinks=False))
        except OSError:
            return
        self._names = self._names if names == self._names else names
        is_settled = time.time_ns() - found.st_mtime_ns > _SETTLED_NS
        self._stamp = stamp if is_settled else (0, 0, 0)
