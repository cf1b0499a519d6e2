"""Page faults that wait for a disk, and pages that are swapped out: for how long, and whose."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from huatuo.model.units import show_duration
from huatuo.probes.bpf import BpfProbe

__all__ = ["Faults"]

_SWAP = ("swap_begin", "swap_end", "out_begin", "out_end")


class Faults(BpfProbe):
    """How long major page faults wait, by container: for a file's page, or one from swap.

    Code and data of a program that was mapped and is not in memory, or no longer: with little
    memory left programs wait for their own code. Long waits are events with file and stack. Swap
    to a disk is handed over at once, and block.latency says how long the disk takes; zram and zswap
    compress in that time.
    Hooks: filemap_fault() (mm/filemap.c), do_swap_page() (mm/memory.c), swap_writepage() or
    swap_writeout() (mm/page_io.c); without fentry and kprobes filemap:mm_filemap_fault and
    mm_filemap_map_pages, which see faults of files that let go of their locks to wait.
    Kernels: swap needs fentry or kprobes; those tracepoints there are since 6.10. Faults that find
    their page are counted in memory.vmstat and memory.cgroup, and not timed.
    Cost: by the tracepoints 0.5 us per fault of a file that nothing around it was mapped with, and
    0.2 us per other fault of a file, in all 8 us per start of a program; the functions are not
    even entered for the latter.
    """

    priority = 60
    optional: ClassVar[Collection[str]] = _SWAP
    titles: ClassVar[Mapping[str, str]] = {
        "slow_faults": "{comm}[{tid}] waited {duration_ns} for a page of {path}"
    }
    subjects: ClassVar[Mapping[str, str]] = {"slow_faults": "cgroup"}

    @property
    def notes(self) -> list[str]:
        found = []
        if any("(retry)" in hook for hook in self.hooks):
            found.append("of faults of files only those that wait long enough to let go of locks")
        if not any("do_swap_page" in hook for hook in self.hooks):
            found.append("swapping needs fentry or kprobes")
        return found

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        who, took = f"{fields['comm']}[{fields['tid']}]", show_duration(fields["duration_ns"] / 1e9)
        if fields["source"] == "swap":
            return f"{who} waited {took} for a page from swap"
        where = f"{fields['path'] or 'a file'} ({fields['filesystem']} on {fields['disk']})"
        return f"{who} waited {took} for a page of {where}"
