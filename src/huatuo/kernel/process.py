"""What /proc says of one process, as much of it as is worth reading of strangers.

Command lines, environments and mappings are in the process's own memory: reading them waits while
it is locked, which may be for ever. Whoever reads them does so in a thread that may be given up
(kernel/questions.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from huatuo.kernel.host import Host

__all__ = [
    "Bound",
    "Stat",
    "arguments",
    "bound_udp",
    "cgroup_paths",
    "executable",
    "local_pid",
    "processes_below",
    "sockets",
    "stat",
    "variables",
]

_LONGEST_COMMAND, _LARGEST_ENVIRONMENT = 4096, 65536  # bytes; the rest is not looked at
_MOST_DIRECTORIES = 256
_LARGEST_TABLE = 1 << 20
_UNCONNECTED = "07"  # TCP_CLOSE, which is what UDP uses for it
_SOCKET = re.compile(r"socket:\[(\d+)\]")


class Stat(NamedTuple):
    """`started_ticks`: since the machine was booted; with the pid it names a process for ever."""

    comm: str
    parent: int
    started_ticks: int
    threads: int
    cpu_ticks: int
    resident_pages: int


class Bound(NamedTuple):
    """A bound UDP socket that is not connected; `address` is 16 bytes, IPv4 as ::ffff:a.b.c.d."""

    address: bytes
    port: int
    inode: int


def stat(host: Host, pid: int) -> Stat:
    """OSError if it is gone. A program may call itself anything, also "x) S 1 (y"."""
    text = host.read(host.proc / str(pid) / "stat")
    comm = text.partition("(")[2].rpartition(")")[0]
    fields = text.rpartition(")")[2].split()
    number = [int(field) for field in fields[1:22]]
    return Stat(comm, number[0], number[18], number[16], number[10] + number[11], number[20])


def arguments(host: Host, pid: int) -> list[str]:
    """Its command line; empty for threads of the kernel. OSError if it is gone."""
    data = _beginning(host.proc / str(pid) / "cmdline", _LONGEST_COMMAND)
    return [part.decode(errors="replace") for part in data.rstrip(b"\0").split(b"\0")]


def variables(host: Host, pid: int) -> Iterator[tuple[str, str]]:
    """Its environment as it was at the start. OSError if it is gone, or not ours to see."""
    data = _beginning(host.proc / str(pid) / "environ", _LARGEST_ENVIRONMENT)
    for part in data.split(b"\0"):
        name, equals, value = part.decode(errors="replace").partition("=")
        if equals:
            yield name, value


def executable(host: Host, pid: int) -> str:
    """The path of its program as it sees it; OSError for threads of the kernel."""
    return os.readlink(f"{host.proc}/{pid}/exe").removesuffix(" (deleted)")  # noqa: PTH115


def local_pid(host: Host, pid: int) -> int:
    """Its number in its own PID namespace. OSError if it is gone."""
    for line in host.read(host.proc / str(pid) / "status").splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    return pid


def cgroup_paths(host: Host, pid: int) -> dict[str, str]:
    """Hierarchy → path: "" is the unified one, "name=systemd" that of systemd on v1."""
    found: dict[str, str] = {}
    for line in host.read(host.proc / str(pid) / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        found |= dict.fromkeys(controllers.split(","), path)
    return found


def sockets(host: Host, pid: int, most: int) -> set[int]:
    """Inodes of sockets among its first `most` open files. OSError if it is gone."""
    found = set()
    with os.scandir(host.proc / str(pid) / "fd") as entries:
        for _, entry in zip(range(most), entries, strict=False):
            try:
                match = _SOCKET.fullmatch(os.readlink(entry.path))  # noqa: PTH115
            except OSError:
                continue  # closed meanwhile
            if match:
                found.add(int(match[1]))
    return found


def bound_udp(host: Host, pid: int) -> Iterator[Bound]:
    """All of its network namespace. OSError if it is gone."""
    for table in ("udp", "udp6"):
        text = _beginning(host.proc / str(pid) / "net" / table, _LARGEST_TABLE).decode()
        for line in text.splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _UNCONNECTED:
                raw, _, port = fields[1].partition(":")
                words = np.frombuffer(bytes.fromhex(raw), ">u4").astype("=u4").tobytes()
                address = words if len(words) == 16 else bytes(10) + b"\xff\xff" + words
                yield Bound(address, int(port, 16), int(fields[9]))


def processes_below(directory: str, most: int) -> list[int]:
    """Processes in a cgroup and the cgroups inside it, at most so many."""
    found: list[int] = []
    pending = [directory]
    for here in pending:  # grows while it is gone through
        try:
            text = Path(here, "cgroup.procs").read_text()
            with os.scandir(here) as entries:
                below = [e.path for e in entries if e.is_dir(follow_symlinks=False)]
        except OSError:
            continue  # gone meanwhile, or a threaded cgroup
        found += [int(word) for word in text.split() if word != "0"]
        pending += below[: _MOST_DIRECTORIES - len(pending)]
        if len(found) >= most:
            break
    return found[:most]


def _beginning(path: Path, most: int) -> bytes:
    data = b""
    with path.open("rb", buffering=0) as stream:
        while len(data) < most and (more := stream.read(most - len(data))):
            data += more
    return data
