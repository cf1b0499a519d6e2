"""Network namespaces: which containers have one of their own, and sockets of other namespaces."""

from __future__ import annotations

import ctypes as c
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from huatuo.kernel import procfs
from huatuo.kernel.cgroupfs import Cgroup, hierarchies
from huatuo.kernel.host import Host

__all__ = ["Namespace", "in_host_netns", "in_netns", "namespaces", "namespaces_readable"]

_CLONE_NEWNET = 0x40000000  # linux/sched.h
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Namespace:
    """`net` is its proc/PID/net; `cgroup` is the oldest that has processes in it."""

    cgroup: Cgroup
    net: str


def namespaces_readable(host: Host) -> str:
    """Why namespaces of other processes cannot be told apart, or ""."""
    try:
        _of_host(host)
        root = hierarchies(host).identity
    except OSError as error:
        return f"namespaces cannot be read: {error.filename}: {error.strerror}"
    return "" if root is not None else "no cgroup hierarchy is mounted"


def namespaces(host: Host, cgroups: Iterable[Cgroup]) -> Iterator[Namespace]:
    """Each namespace but the host's once: the containers of a pod share one.

    Taken from the first process of each cgroup. Of several cgroups the one with the lowest id is
    given, so that the answer does not change while they run.
    """
    root = hierarchies(host).identity
    hosts_own = _of_host(host)
    found: dict[int, tuple[Cgroup, str]] = {}
    for cgroup in cgroups:
        try:
            pid = procfs.read(f"{root}{cgroup.path}/cgroup.procs").partition("\n")[0]
            if not pid.isdecimal() or pid == "0":
                continue  # nobody there, or nobody that we may see
            inode = _inode(host, pid)
        except OSError:
            continue  # gone meanwhile
        if inode != hosts_own and (inode not in found or cgroup.id < found[inode][0].id):
            found[inode] = cgroup, pid
    for cgroup, pid in found.values():
        yield Namespace(cgroup, f"{host.proc}/{pid}/net/")


def _of_host(host: Host) -> int:
    """That of init, or our own where even root may not look at init's."""
    try:
        return _inode(host, "1")
    except PermissionError:
        return _inode(host, "self")


def _inode(host: Host, pid: str) -> int:
    return (host.proc / pid / "ns/net").stat().st_ino


def in_host_netns(host: Host, make: Callable[[], Made]) -> Made:
    """`make()` in the host's namespace: a socket stays in that in which it was made."""
    if _of_host(host) == _inode(host, "self"):
        return make()
    return in_netns(f"{host.proc}/1/ns/net", make)


def in_netns(path: str, make: Callable[[], Made]) -> Made:
    """`make()` in another namespace, in a thread that enters it and ends. OSError if it cannot."""
    made: list[Made] = []
    failed: list[BaseException] = []

    def enter() -> None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if c.CDLL(None, use_errno=True).setns(fd, _CLONE_NEWNET):
                    code = c.get_errno()
                    raise OSError(code, f"namespace cannot be entered: {os.strerror(code)}", path)
            finally:
                os.close(fd)
            made.append(make())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=enter, name="netns")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]
