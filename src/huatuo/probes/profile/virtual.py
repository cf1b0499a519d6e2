"""Address space asked for by stack."""

from __future__ import annotations

from huatuo.kernel.features import tracefs_unavailable
from huatuo.kernel.host import Host
from huatuo.probes.profiler import Profiler

__all__ = ["Virtual"]


class Virtual(Profiler):
    """Who asks for address space by mmap, brk or mremap, and how much.

    Hooks: syscalls:sys_enter_mmap, sys_enter_brk, sys_enter_mremap.
    Cost: 10 us per such call, and 0.1 us per system call of any kind while it runs: on demand only.
    """

    profile = "virtual"
    on_tracepoint = True
    kind_label = "call"
    automatic = False

    @classmethod
    def unavailable(cls, host: Host) -> str:
        return super().unavailable(host) or tracefs_unavailable(host)
