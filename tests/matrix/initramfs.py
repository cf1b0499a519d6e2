"""Builds the small initial file system a guest boots from: busybox, a few modules, two scripts."""

from __future__ import annotations

import lzma
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from .kernels import Installed, MatrixError

__all__ = ["build", "cpio_archive", "module_files"]

# What the guest needs before the host's files, and so modprobe, are in reach.
BOOT_MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")
GUEST = Path(__file__).parent / "guest"


def build(kernel: Installed, settings: str, command: str) -> bytes:
    """The archive for one run: `settings` are shell assignments, `command` defines `run`."""
    job = "\n".join((settings, command, (GUEST / "job.sh").read_text()))
    files: dict[str, tuple[int, bytes]] = {
        "bin": (stat.S_IFDIR | 0o755, b""),
        "bin/busybox": (stat.S_IFREG | 0o755, kernel.busybox.read_bytes()),
        "bin/sh": (stat.S_IFLNK | 0o777, b"busybox"),
        "init": (stat.S_IFREG | 0o755, (GUEST / "init.sh").read_bytes()),
        "job": (stat.S_IFDIR | 0o755, b""),
        "job/settings.sh": (stat.S_IFREG | 0o644, settings.encode()),
        "job/job.sh": (stat.S_IFREG | 0o644, job.encode()),
        "modules": (stat.S_IFDIR | 0o755, b""),
    }
    for position, path in enumerate(module_files(kernel.modules, BOOT_MODULES)):
        name = f"modules/{position:02}-{path.name.split('.')[0]}.ko"
        files[name] = (stat.S_IFREG | 0o644, _module_bytes(path))
    return b"".join(cpio_archive(files))


def module_files(modules: Path, names: Iterable[str]) -> list[Path]:
    """Module files in the order in which they must be loaded; built-in ones have none."""
    builtin = {_name(line) for line in (modules / "modules.builtin").read_text().splitlines()}
    needs: dict[str, list[str]] = {}
    paths: dict[str, str] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        paths[_name(path)] = path
        needs[_name(path)] = rest.split()
    ordered: list[Path] = []
    for name in names:
        if name not in paths:
            if name not in builtin:
                raise MatrixError(f"kernel {modules.name} has no module {name}, needed to boot")
            continue
        # modules.dep names the nearest dependency first, the deepest last.
        for relative in [*reversed(needs[name]), paths[name]]:
            if modules / relative not in ordered:
                ordered.append(modules / relative)
    return ordered


def cpio_archive(files: Mapping[str, tuple[int, bytes]]) -> Iterator[bytes]:
    """A cpio archive in the "newc" form the kernel reads; parents must precede children."""
    entries = [*files.items(), ("TRAILER!!!", (0, b""))]
    for number, (name, (mode, data)) in enumerate(entries, start=1):
        encoded = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields) + encoded
        yield header + bytes(-len(header) % 4)
        yield data + bytes(-len(data) % 4)


def _name(path: str) -> str:
    return Path(path).name.split(".")[0].replace("-", "_")


def _module_bytes(path: Path) -> bytes:
    if path.suffix == ".ko":
        return path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    raise MatrixError(f"cannot unpack {path.name}: only .ko and .ko.xz are known")
