"""A wake-up for every new cgroup: tracepoint cgroup:cgroup_mkdir (kernel/cgroup/cgroup.c)."""

from __future__ import annotations

from pathlib import Path

from huatuo.kernel.features import bpf_unavailable
from huatuo.kernel.host import Host
from huatuo.kernel.object import BpfObject

__all__ = ["Births"]


class Births:
    """`fd` becomes readable when a cgroup was made; `drain` says how many were since.

    Raises KernelLacks where BPF cannot run: then new cgroups are found by looking again.
    """

    @staticmethod
    def unavailable(host: Host) -> str:
        """Why this cannot run, or ""."""
        return bpf_unavailable(host)

    def __init__(self) -> None:
        self._object = BpfObject(Path(__file__).with_name("births.bpf.o"))
        self._object.load()
        self._object.attach()
        self._ring = self._object.rings["births"]
        self.fd = self._ring.fd

    def drain(self) -> int:
        return len(self._ring.drain())

    def close(self) -> None:
        self._object.close()
