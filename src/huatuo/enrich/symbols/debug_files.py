"""Where the debug information of a stripped binary is kept apart.

Looked for below the root of the binary's processes first, then below the host's: by build id, then
by the name and checksum that .gnu_debuglink has.

Source: the GDB manual, "Debugging Information in Separate Files".

Used in worker processes: directories of strangers may be slow, or never answer.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from huatuo.errors import Malformed
from huatuo.kernel.elf import Elf
from huatuo.kernel.rooted import open_below

__all__ = ["OpenElf", "debug_file"]

_DEBUG = "/usr/lib/debug"
_CHUNK = 1 << 20
_LONGEST_LINK = 4096


@dataclass(frozen=True, slots=True)
class OpenElf:
    """An ELF file and a descriptor of it, both open."""

    elf: Elf
    fd: int

    @classmethod
    def of(cls, fd: int) -> OpenElf:
        """Takes `fd` over. Malformed, and closed, if it is no ELF file."""
        try:
            return cls(Elf(fd), fd)
        except BaseException:
            os.close(fd)
            raise


def debug_file(binary: Elf, path: str, roots: Sequence[int]) -> OpenElf | None:
    """The file with the debug information of `binary`, which its processes see at `path`.

    `roots` are directories opened with `open_root`.
    """
    build_id = binary.build_id
    for root in roots:
        if build_id:
            found = _open(root, f"{_DEBUG}/.build-id/{build_id[:2]}/{build_id[2:]}.debug")
            if found is not None and found.elf.build_id == build_id:
                return found
    link = _link(binary)
    if link is None:
        return None
    name, checksum = link
    for root in roots:
        for place in _places(path, name):
            found = _open(root, place)
            if found is not None and _checksum(found.fd) == checksum:
                return found
    return None


def _open(root: int, path: str) -> OpenElf | None:
    try:
        return OpenElf.of(open_below(root, path))
    except (OSError, Malformed):
        return None


def _link(binary: Elf) -> tuple[str, int] | None:
    """(name, CRC-32) that .gnu_debuglink has."""
    data = binary.contents(".gnu_debuglink", _LONGEST_LINK)
    name, _, rest = data.partition(b"\0")
    at = (len(name) + 4) // 4 * 4
    if not name or b"/" in name or not rest or at + 4 > len(data):
        return None
    return os.fsdecode(name), int(struct.unpack_from("<I", data, at)[0])


def _places(path: str, name: str) -> Iterator[str]:
    directory = path.rpartition("/")[0]
    yield f"{directory}/{name}"
    yield f"{directory}/.debug/{name}"
    yield f"{_DEBUG}{directory}/{name}"
    merged = directory.removeprefix("/usr") if directory.startswith("/usr/") else f"/usr{directory}"
    yield f"{_DEBUG}{merged}/{name}"  # /lib is a link to /usr/lib nowadays


def _checksum(fd: int) -> int:
    checksum, at = 0, 0
    while chunk := os.pread(fd, _CHUNK, at):
        checksum, at = zlib.crc32(chunk, checksum), at + len(chunk)
    return checksum
