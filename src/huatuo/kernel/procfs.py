"""Reading and parsing files of /proc, /sys and cgroups. Parsers raise ValueError on other forms."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from huatuo.kernel.host import Host

__all__ = [
    "net",
    "parse_headed",
    "parse_keyed",
    "parse_netdev",
    "parse_pairs",
    "parse_pressure",
    "parse_sockstat",
    "read",
]

_CHUNK = 65536


def read(path: str) -> str:
    """A file of the kernel, whole. Half the cost of `Host.read`: no Path and no file object."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.read(fd, _CHUNK)
        while more := os.read(fd, _CHUNK):
            content += more
    finally:
        os.close(fd)
    return content.decode(errors="replace")


@cache
def net(host: Host) -> Path:
    """proc/net of the host's network namespace, even if the agent runs in another one."""
    of_init = host.proc / "1/net"
    return of_init if os.access(of_init / "dev", os.R_OK) else host.proc / "net"


def parse_pairs(text: str) -> dict[str, int]:
    """Lines of `name number`, further words ignored: vmstat, memory.stat, cpu.stat, meminfo."""
    pairs = {}
    for line in text.splitlines():
        name, number, *_ = line.split()
        pairs[name] = int(number)
    return pairs


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


def parse_headed(text: str) -> dict[str, dict[str, int]]:
    """Pairs of lines `Tcp: name name` and `Tcp: number number`: net/snmp and net/netstat."""
    found: dict[str, dict[str, int]] = {}
    lines = text.splitlines()
    for head, line in zip(lines[::2], lines[1::2], strict=True):
        group, *names = head.split()
        same, *numbers = line.split()
        if group != same or not group.endswith(":"):
            raise ValueError(f"{group!r} is followed by {same!r}")
        values = zip(names, map(int, numbers), strict=True)
        found.setdefault(group[:-1], {}).update(values)
    return found


def parse_pressure(text: str) -> dict[str, tuple[int, float]]:
    """A PSI file: some and full (the latter not for cpu everywhere) → (stalled µs, 10 s ratio)."""
    found = {}
    for line in text.splitlines():
        name, *words = line.split()
        values = dict(word.split("=", 1) for word in words)
        found[name] = int(values["total"]), float(values["avg10"]) / 100
    return found


def parse_netdev(text: str) -> dict[str, list[int]]:
    """net/dev: device → its columns, as the two head lines name them."""
    found = {}
    for line in text.splitlines()[2:]:
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
