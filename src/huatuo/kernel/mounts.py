"""What is mounted in the host's mount namespace, from /proc/1/mountinfo (proc(5))."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from huatuo.kernel import procfs
from huatuo.kernel.host import Host

__all__ = ["Mount", "mounts", "parse_mount"]

_ESCAPED = re.compile(r"\\([0-7]{3})")
# What ext4 does after an error is not "ro" since commit d3476f3dad4a ("ext4: don't set SB_RDONLY
# after filesystem errors"), v6.12 and stable kernels, and has this word since v6.15 only.
_READ_ONLY = {"ro", "emergency_ro", "shutdown"}


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount: `device` is major:minor of its file system, `root` the part of it that is seen."""

    device: str
    root: str
    target: str
    filesystem: str
    source: str
    read_only: bool  # this mount
    filesystem_read_only: bool  # the whole file system: the kernel refuses to write to it

    @property
    def number(self) -> int:
        """The device as the kernel's records have it (disk_t)."""
        major, _, minor = self.device.partition(":")
        return int(major) << 20 | int(minor)


def mounts(host: Host) -> Iterator[Mount]:
    """In the order of mounting, so that of two with the same target the later one is seen.

    Of our own namespace where that of process 1 cannot be read; nothing if neither can. Lines of
    another form are left out.
    """
    for process in ("1", "self"):
        try:
            text = procfs.read(str(host.proc / process / "mountinfo"))
        except OSError:
            continue
        for line in text.splitlines():
            with suppress(ValueError):
                yield parse_mount(line)
        return


def parse_mount(line: str) -> Mount:
    """ValueError if the line has another form."""
    before, separator, after = line.partition(" - ")
    words, (filesystem, source, super_options) = before.split(" "), after.split(" ", 2)
    if not separator or len(words) < 6:
        raise ValueError(f"mountinfo: {line[:80]!r}")
    return Mount(
        words[2],
        _plain(words[3]),
        _plain(words[4]),
        filesystem,
        _plain(source),
        "ro" in words[5].split(","),
        not _READ_ONLY.isdisjoint(super_options.split(",")),
    )


def _plain(escaped: str) -> str:
    """Blanks and the like are written as three octal digits."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), escaped)
