"""Cgroups that are made, removed and renamed, as it happens: tracepoints cgroup:cgroup_mkdir,
cgroup_rmdir and cgroup_rename (kernel/cgroup/cgroup.c).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from huatuo.kernel.cgroupfs import hierarchies, hierarchy_number
from huatuo.kernel.features import bpf_unavailable
from huatuo.kernel.host import Host
from huatuo.kernel.object import BpfObject

__all__ = ["CgroupChange", "CgroupEvents"]

_LONGEST_NAME = 159
_NEARLY_FULL = 500  # changes that nobody had read: more than a third of the ring


class CgroupChange(NamedTuple):
    """One of the hierarchy of cgroup ids, of that of the io (v1: blkio) controller, or of both."""

    cgroup: int
    parent: int
    kind: str  # made · removed · renamed
    name: str  # "" if it is too long to be told
    is_identity: bool
    is_block: bool


class CgroupEvents:
    """`fd` becomes readable when there are changes; `drain` gives them in order.

    Raises KernelLacks where BPF cannot run: then new cgroups are found by looking again.
    """

    @staticmethod
    def unavailable(host: Host) -> str:
        """Why this cannot run, or ""."""
        return bpf_unavailable(host)

    def __init__(self, host: Host) -> None:
        found = hierarchies(host)
        self._identity = hierarchy_number(host, "memory" if "memory" in found.v1 else "")
        self._block = hierarchy_number(host, "blkio" if "blkio" in found.v1 else "")
        tunables = {"identity_hierarchy": self._identity, "block_hierarchy": self._block}
        self._object = BpfObject(Path(__file__).with_name("cgroup_events.bpf.o"), tunables)
        self._object.load()
        self._object.attach()
        self._ring = self._object.rings["changes"]
        self._kinds = self._ring.schema.field("change").labels
        self._lost = 0
        self.fd = self._ring.fd

    def drain(self) -> tuple[list[CgroupChange], bool]:
        """All changes since the last call, oldest first; and whether none was lost.

        Read until nothing is left: what comes between the last look and the moment at which the
        kernel learns of it wakes nobody.
        """
        found: list[CgroupChange] = []
        while len(rows := self._ring.drain()):
            for cgroup, parent, hierarchy, change, name in rows.tolist():
                name = name.partition(b"\0")[0]  # the rest is what was in the ring before
                text = "" if len(name) >= _LONGEST_NAME else os.fsdecode(name)
                sides = hierarchy == self._identity, hierarchy == self._block
                found.append(CgroupChange(cgroup, parent, self._kinds[change], text, *sides))
        return found, len(found) < _NEARLY_FULL or not self._has_lost()

    def _has_lost(self) -> bool:
        """Whether the ring was full since the last call."""
        _, values = self._object.maps["account"].read()
        before, self._lost = self._lost, int(values["ring_full"][0])
        return self._lost != before

    def close(self) -> None:
        self._object.close()
