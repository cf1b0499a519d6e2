"""How full file systems are, in bytes and in inodes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from huatuo.kernel.host import Host
from huatuo.kernel.mounts import Mount, mounts
from huatuo.kernel.questions import Questions
from huatuo.probes.reader import Reader, Reading, gauge

__all__ = ["Space"]

_LABELS = ("mount", "device", "filesystem")
_SIZE = gauge("size_bytes", "size of the file system", *_LABELS)
_FREE = gauge("free_bytes", "free space, with what is kept for root", *_LABELS)
_AVAILABLE = gauge("available_bytes", "free space for everybody", *_LABELS)
_INODES = gauge("inodes", "files that the file system can hold", *_LABELS)
_FREE_INODES = gauge("free_inodes", "files that can still be made", *_LABELS)
_READ_ONLY = gauge("read_only", "1 if the kernel refuses to write to it", *_LABELS)
_UNREACHABLE = gauge("unreachable", "1 if it does not answer, or with an error", *_LABELS)
# file systems that hold no data of their own, cannot change, or would be woken by the question
_WITHOUT_SPACE = {
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "cramfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "erofs",
    "fusectl",
    "fuse.lxcfs",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "pstore",
    "ramfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
    "udf",
}
_MOST = 512  # file systems that are asked
_WAIT_SECONDS = 0.05


class Space(Reader):
    """Size, free space, free inodes and state of every mounted file system.

    Each file system once, under its first mount point, however often it is mounted. Left out are
    images that never change, overlays, which are as full as what is below them, and the tmpfs of
    containers and services (only those one or two directories below the root count). The questions
    are asked by a thread that may hang: a dead NFS server is `unreachable` and nothing else waits.
    Reads: /proc/1/mountinfo and statvfs() (fs/statfs.c) through the root of process 1.
    Cost: one system call per file system.
    """

    priority = 60
    files = ("proc/1/mountinfo",)

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self._statfs = Questions(os.statvfs)
        self._base = self._root()

    def _root(self) -> str:
        """Where the host's tree is: ours, or that of process 1 if we are in a container."""
        if str(self.host.root) != "/":
            return str(self.host.root)
        seen = f"{self.host.proc}/1/root"
        return seen if os.access(seen, os.X_OK) else ""

    def parts(self) -> Iterator[Iterator[Reading]]:
        chosen = self._chosen()
        where = {number: f"{self._base}{mount.target}" for number, mount in chosen.items()}
        self._statfs.ask(where.values(), _WAIT_SECONDS)
        for number, mount in chosen.items():
            yield self._one(mount, where[number])

    def _chosen(self) -> dict[int, Mount]:
        """Device number → the first of its mounts that is not hidden by a later one."""
        visible = {mount.target: mount for mount in mounts(self.host)}
        found: dict[int, Mount] = {}
        for mount in visible.values():
            if _is_of_interest(mount) and len(found) < _MOST:
                found.setdefault(mount.number, mount)
        return found

    def _one(self, mount: Mount, path: str) -> Iterator[Reading]:
        key = (mount.target, mount.number, mount.filesystem)
        found = self._statfs.answers.get(path)
        if found is None and path not in self._statfs.hanging:
            return  # not asked yet
        yield _UNREACHABLE, key, float(not isinstance(found, os.statvfs_result))
        yield _READ_ONLY, key, float(mount.filesystem_read_only)
        if isinstance(found, os.statvfs_result) and found.f_blocks:
            yield _SIZE, key, found.f_blocks * found.f_frsize
            yield _FREE, key, found.f_bfree * found.f_frsize
            yield _AVAILABLE, key, found.f_bavail * found.f_frsize
            if found.f_files:  # btrfs makes inodes as it needs them
                yield _INODES, key, found.f_files
                yield _FREE_INODES, key, found.f_ffree


def _is_of_interest(mount: Mount) -> bool:
    if mount.filesystem in _WITHOUT_SPACE:
        return False
    parts = mount.target.split("/")
    return mount.filesystem != "tmpfs" or (len(parts) <= 3 and parts[1] not in ("sys", "proc"))
