"""Kernel numbers of devices → their names, from /sys; looked up again after some seconds."""

from __future__ import annotations

import os
from collections.abc import Callable

from huatuo.kernel.host import Host
from huatuo.kernel.mounts import mounts

__all__ = ["DeviceNames"]

_FRESH_NS = 10 * 1_000_000_000
_MINOR_BITS = 20  # of the kernel's own dev_t (include/linux/kdev_t.h)


class DeviceNames:
    """Disks and network interfaces. `process_in_netns`: a process there, or 0 if none is known."""

    def __init__(
        self,
        host: Host,
        process_in_netns: Callable[[int], int],
        is_host_netns: Callable[[int], bool],
    ) -> None:
        self._host = host
        self._is_host_netns = is_host_netns
        self._process_in_netns = process_in_netns
        self._disks: dict[int, str] = {}
        self._interfaces: dict[int, dict[int, str]] = {}  # netns, 0 for the host's → names
        self._read_ns = 0

    def disk(self, number: int) -> str:
        """ "vda" for dev_t 253:0; "253:0" if the device has gone; "" for 0, no device.

        A file system without a disk of its own has a number too: its source is its name.
        """
        self._expire()
        name = self._disks.get(number)
        if name is None:
            name = self._disks[number] = self._read_disk(number)
        return name

    def _read_disk(self, number: int) -> str:
        major, minor = number >> _MINOR_BITS, number & ((1 << _MINOR_BITS) - 1)
        if number == 0:
            return ""
        try:
            link = os.readlink(f"{self._host.sys}/dev/block/{major}:{minor}")  # noqa: PTH115
        except OSError:
            return self._read_source(f"{major}:{minor}")
        return link.rpartition("/")[2].replace("!", "/")  # sysfs writes cciss/c0d0 as cciss!c0d0

    def _read_source(self, device: str) -> str:
        """What is mounted with that number: overlay, server:/export, or the first disk of btrfs."""
        for mount in mounts(self._host):
            if mount.device == device:
                return mount.source.removeprefix("/dev/")
        return device

    def interface(self, index: int, netns: int = 0) -> str:
        """ "eth0"; "if7" if it is unknown; "" for 0, no interface."""
        self._expire()
        if index == 0:
            return ""
        process = self._process_in_netns(netns) if netns else 0
        if netns and not process and not self._is_host_netns(netns):
            return f"if{index}"  # nobody there to ask
        key = netns if process else 0
        names = self._interfaces.get(key)
        if names is None:
            names = self._of_process(process) if process else self._of_host()
            self._interfaces[key] = names
        return names.get(index, f"if{index}")

    def _of_host(self) -> dict[int, str]:
        names = {}
        try:
            for name in os.listdir(self._host.sys / "class/net"):  # noqa: PTH208
                names[self._host.read_int(self._host.sys / "class/net" / name / "ifindex")] = name
        except (OSError, ValueError):
            pass  # one has gone while we read: the next reading has all
        return names

    def _of_process(self, process: int) -> dict[int, str]:
        """Of the namespace a process is in, by its multicast lists: `index name …` per line."""
        names: dict[int, str] = {}
        for table in ("igmp", "dev_mcast"):
            try:
                lines = self._host.read(self._host.proc / str(process) / "net" / table)
            except OSError:
                continue
            for line in lines.splitlines():
                parts = line.split()
                if len(parts) > 1 and parts[0].isdigit() and not line.startswith("\t\t"):
                    names.setdefault(int(parts[0]), parts[1].rstrip(":"))
        return names

    @property
    def epoch(self) -> int:
        """Changes when names are looked up again."""
        self._expire()
        return self._read_ns

    def _expire(self) -> None:
        now = self._host.now_ns()
        if now - self._read_ns > _FRESH_NS:
            self._read_ns = now
            self._disks.clear()
            self._interfaces.clear()
