"""The kernels of the matrix, and where their unpacked files lie."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["KERNELS", "Installed", "Kernel", "MatrixError", "cache_root", "find", "installed"]


class MatrixError(Exception):
    """The matrix itself is in trouble (tool missing, no mirror, no boot), not the command."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel of the matrix: the name people type, and the Debian suite that ships it."""

    name: str
    suite: str


KERNELS = (
    Kernel("5.10", "bullseye"),
    Kernel("6.1", "bookworm"),
    Kernel("6.12", "trixie"),
    Kernel("7.x", "sid"),
)


@dataclass(frozen=True, slots=True)
class Installed:
    """A kernel's unpacked packages; the directory's name is what `uname -r` prints."""

    directory: Path

    @property
    def release(self) -> str:
        return self.directory.name

    @property
    def version(self) -> str:
        """The Debian package version, such as 6.1.192-2."""
        return (self.directory / "version").read_text().strip()

    @property
    def image(self) -> Path:
        return self.directory / "vmlinuz"

    @property
    def config(self) -> Path:
        return self.directory / "config"

    @property
    def busybox(self) -> Path:
        return self.directory / "busybox"

    @property
    def modules(self) -> Path:
        return self.directory / "lib/modules" / self.release


def cache_root() -> Path:
    """Where unpacked kernels are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "huatuo/kernels"


def find(name: str) -> Kernel:
    """The kernel with that name or from that suite."""
    for kernel in KERNELS:
        if name in (kernel.name, kernel.suite):
            return kernel
    known = ", ".join(kernel.name for kernel in KERNELS)
    raise MatrixError(f"no kernel {name!r} in the matrix; known: {known}")


def installed(kernel: Kernel) -> Installed | None:
    """The fetched files of a kernel, or None before the first fetch."""
    link = cache_root() / kernel.name
    return Installed(link.resolve()) if (link / "version").exists() else None
