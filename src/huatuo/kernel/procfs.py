"""Reading and parsing files of /proc, /sys and cgroups. Parsers raise ValueError on other forms."""

from __future__ import annotations

import errno
import os
import re
import resource
from functools import cache
from pathlib import Path
from typing import ClassVar, NamedTuple

from huatuo.kernel.host import Host

__all__ = [
    "CodeMapping",
    "Files",
    "code_mappings",
    "net",
    "parse_headed",
    "parse_keyed",
    "parse_netdev",
    "parse_pairs",
    "parse_per_cpu",
    "parse_pressure",
    "parse_sockstat",
    "read",
]

_CHUNK = 65536
_CODE = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) ..x. ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) (\d+) *(.*)$", re.MULTILINE
)
_LONGEST_MAPS = 4 << 20  # what a hostile process has beyond is not looked at
_MINOR_BITS = 20  # of the kernel's dev_t


def read(path: str) -> str:
    """A file of the kernel, whole. Half the cost of `Host.read`: no Path and no file object."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _content(fd)
    finally:
        os.close(fd)


class Files:
    """Files that are read at every interval and therefore kept open.

    Opening a cgroup file costs 5 µs, reading it again 1 µs. A process has a limit of open files:
    half of it is used, by all instances together, and further files are opened for each read.
    """

    _room: ClassVar[int] = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2, 4096)

    def __init__(self) -> None:
        self._open: dict[str, int] = {}
        self._used: set[str] = set()

    def read(self, path: str) -> str:
        """The whole file as it is now. OSError if it is not there."""
        fd = self._open.get(path)
        if fd is None:
            if Files._room <= 0:
                return read(path)
            fd = self._open[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            Files._room -= 1
        self._used.add(path)
        try:
            return _content(fd)
        except OSError as error:
            self._forget(path)
            if error.errno == errno.ENODEV:  # removed; perhaps there is a new one of that name
                return read(path)
            raise

    def close_unused(self) -> None:
        """Close what was not read since the last call."""
        for path in self._open.keys() - self._used:
            self._forget(path)
        self._used.clear()

    def close(self) -> None:
        for path in list(self._open):
            self._forget(path)

    def __del__(self) -> None:
        self.close()

    def _forget(self, path: str) -> None:
        os.close(self._open.pop(path))
        Files._room += 1


def _content(fd: int) -> str:
    content = os.pread(fd, _CHUNK, 0)
    while more := os.pread(fd, _CHUNK, len(content)):
        content += more
    return content.decode(errors="replace")


@cache
def net(host: Host) -> Path:
    """proc/net of the host's network namespace, even if the agent runs in another one."""
    of_init = host.proc / "1/net"
    return of_init if os.access(of_init / "dev", os.R_OK) else host.proc / "net"


def parse_pairs(text: str) -> dict[str, int]:
    """Lines of `name number`: vmstat, memory.stat, cpu.stat."""
    words = text.split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=True))


def parse_keyed(text: str) -> dict[str, dict[str, int]]:
    """Lines of `key name=number name=number`: io.stat. Values that are no numbers are left out.

    Of several keys before the numbers the last one counts: some kernels print devices without
    statistics, and no line end after them.
    """
    found: dict[str, dict[str, int]] = {}
    key = ""
    for word in text.split():
        name, equals, value = word.partition("=")
        if not equals:
            key = word
        elif value.isdecimal():
            found.setdefault(key, {})[name] = int(value)
    return found


def parse_headed(text: str, *wanted: str) -> dict[str, dict[str, int]]:
    """Pairs of lines `Tcp: name name` and `Tcp: number number`: net/snmp and net/netstat.

    Only the `wanted` groups, or all if none is named.
    """
    found: dict[str, dict[str, int]] = {}
    lines = text.splitlines()
    for head, line in zip(lines[::2], lines[1::2], strict=True):
        if wanted and head.partition(":")[0] not in wanted:
            continue
        group, *names = head.split()
        same, *numbers = line.split()
        if group != same or not group.endswith(":"):
            raise ValueError(f"{group!r} is followed by {same!r}")
        values = zip(names, map(int, numbers), strict=True)
        found.setdefault(group[:-1], {}).update(values)
    return found


def parse_per_cpu(text: str) -> dict[str, list[int]]:
    """A line of names, and a line of hexadecimal numbers per CPU: net/stat/*."""
    head, *cpus = text.splitlines()
    rows = [[int(word, 16) for word in line.split()] for line in cpus]
    return {
        name: list(values)
        for name, values in zip(head.split(), zip(*rows, strict=True), strict=True)
    }


def parse_pressure(text: str) -> dict[str, tuple[int, float]]:
    """A PSI file: some and full (the latter not for cpu everywhere) → (stalled µs, 10 s ratio)."""
    found = {}
    for line in text.splitlines():
        name, avg10, _, _, total = line.split()
        stalled = int(total.removeprefix("total="))
        found[name] = stalled, float(avg10.removeprefix("avg10=")) / 100
    return found


def parse_netdev(text: str) -> dict[str, list[int]]:
    """net/dev: device → its columns, as the two head lines name them."""
    _, head, *lines = text.splitlines()
    if not head.lstrip().startswith("face"):
        raise ValueError(f"expected the names of columns, found {head[:40]!r}")
    found = {}
    for line in lines:
        device, _, rest = line.partition(":")
        found[device.strip()] = [int(word) for word in rest.split()]
    return found


def parse_sockstat(text: str) -> dict[str, dict[str, int]]:
    """Lines of `TCP: inuse 1 orphan 0`: net/sockstat and net/sockstat6."""
    found = {}
    for line in text.splitlines():
        protocol, _, rest = line.partition(":")
        words = rest.split()
        numbers = map(int, words[1::2])
        found[protocol] = dict(zip(words[::2], numbers, strict=True))
    return found


class CodeMapping(NamedTuple):
    """Executable memory of a process; `inode` is 0 where it is no file's, `device` a kernel dev_t.

    `offset` is that of `start` in the file; `name` a path, or [vdso] and the like.
    """

    start: int
    end: int
    offset: int
    device: int
    inode: int
    name: str


def code_mappings(process: Path) -> list[CodeMapping]:
    """The executable mappings in the maps file of /proc/PID, by address. OSError if it is gone."""
    data = bytearray()
    fd = os.open(process / "maps", os.O_RDONLY | os.O_CLOEXEC)
    try:
        while len(data) < _LONGEST_MAPS and (more := os.read(fd, _CHUNK)):
            data += more
    finally:
        os.close(fd)
    return [_code_mapping(*match.groups()) for match in _CODE.finditer(data)]


def _code_mapping(*texts: bytes) -> CodeMapping:
    start, end, offset, major, minor = (int(text, 16) for text in texts[:5])
    name = texts[6].decode(errors="replace")
    return CodeMapping(start, end, offset, major << _MINOR_BITS | minor, int(texts[5]), name)
