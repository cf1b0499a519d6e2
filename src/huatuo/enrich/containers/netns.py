"""Network namespace → the owner of the processes in it, for packets that have no socket.

Read from /proc/<pid>/ns/net of every process and /proc/<pid>/cgroup of those outside the host's
namespace. A namespace's inode number is reused soon after its death, so the answer is only kept
while its owner lives or until the next scan that finds the number elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from huatuo.kernel.host import Host
from huatuo.model.event import Container

__all__ = ["Netns"]

_RESCAN_NS = 1_000_000_000


class Netns:
    """`owner_at` gives the owner of a cgroup path of the identity hierarchy."""

    def __init__(
        self, host: Host, controller: str, owner_at: Callable[[str], Container | None]
    ) -> None:
        self._host = host
        self._controller = controller  # in /proc/<pid>/cgroup: "memory" on v1, "" on v2
        self._owner_at = owner_at
        self._found: dict[int, tuple[str, int]] = {}  # inode → (owner's cgroup path, a pid)
        self._owners: dict[int, Container] = {}  # as they were when they were last seen alive
        self._host_inode = 0
        self._scanned_ns = -_RESCAN_NS
        self.epoch = 0  # grows whenever an answer may have changed

    def owner(self, inode: int) -> Container | None:
        """None for the host's namespace, for an unknown one and one that several owners share."""
        self._know(inode)
        path, _ = self._found.get(inode, ("", 0))
        if not path:
            return None
        return self._owner_at(path) or self._owners.get(inode)

    def process(self, inode: int) -> int:
        """A process in that namespace, or 0."""
        self._know(inode)
        return self._found.get(inode, ("", 0))[1]

    def is_host(self, inode: int) -> bool:
        self._know(inode)
        return inode == self._host_inode

    def host(self) -> int:
        return self._host_inode or self._inode("1") or self._inode("self")

    def refresh(self) -> None:
        """Scan again, if anybody has asked since the start."""
        if self._host_inode:
            self._scan()

    def _know(self, inode: int) -> None:
        path, _ = self._found.get(inode, (" ", 0))
        known = inode == self._host_inode or not path or self._owner_at(path) is not None
        if inode and not known and self._host.now_ns() - self._scanned_ns >= _RESCAN_NS:
            self._scan()

    def _scan(self) -> None:
        self._scanned_ns = self._host.now_ns()
        self._host_inode = self.host()
        before = {inode: path for inode, (path, _) in self._found.items()}
        members: dict[int, dict[str, int]] = {}
        for pid in os.listdir(self._host.proc):  # noqa: PTH208  (names are enough)
            if pid.isdigit() and (inode := self._inode(pid)) not in (0, self._host_inode):
                owner = self._owner_at(self._cgroup(pid))
                if owner is not None and owner.kind != "host":
                    members.setdefault(inode, {}).setdefault(owner.cgroup, int(pid))
        for inode, owners in members.items():
            path = self._one_of(list(owners))
            self._found[inode] = (path, owners.get(path) or next(iter(owners.values())))
            if path and (owner := self._owner_at(path)) is not None:
                self._owners[inode] = owner
        for inode in self._found.keys() - members.keys():
            path, _ = self._found[inode]
            if not path or self._owner_at(path) is not None:
                del self._found[inode]  # its processes have left it; a dead owner's stays
                self._owners.pop(inode, None)
        self.epoch += before != {inode: path for inode, (path, _) in self._found.items()}

    def _one_of(self, paths: list[str]) -> str:
        """The single owner; of a pod's containers the only one besides the sandbox, or that."""
        if len(paths) == 1:
            return paths[0]
        owners = [owner for path in paths if (owner := self._owner_at(path)) is not None]
        pods = {(owner.namespace, owner.pod) for owner in owners}
        if len(pods) != 1 or not owners or not owners[0].pod:
            return ""
        real = [owner for owner in owners if owner.name != "pause"]
        pause = [owner for owner in owners if owner.name == "pause"]
        chosen = real if len(real) == 1 else pause
        return chosen[0].cgroup if chosen else ""

    def _inode(self, pid: str) -> int:
        try:
            link = os.readlink(f"{self._host.proc}/{pid}/ns/net")  # noqa: PTH115
        except OSError:
            return 0  # gone meanwhile, a kernel thread, or not ours to see
        return int(link.partition("[")[2].rstrip("]") or 0)

    def _cgroup(self, pid: str) -> str:
        try:
            lines = self._host.read(self._host.proc / pid / "cgroup").splitlines()
        except OSError:
            return ""
        for line in lines:
            _, controllers, path = line.split(":", 2)
            if self._controller in controllers.split(","):
                return path
        return ""
