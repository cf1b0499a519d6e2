"""Reclaim of memory: who does it, for how long, and what came of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from huatuo.model.units import show_bytes, show_duration
from huatuo.probes.bpf import BpfProbe

__all__ = ["Reclaim"]

_WHY = {
    "direct": "the host had no free pages",
    "node": "its NUMA node had no free pages",
}


class Reclaim(BpfProbe):
    """Time that programs lose because memory must be freed first, by container; kswapd by node.

    `direct`: the host has no free pages; `memcg`: a limit of the container or of a cgroup above it
    is reached; `node`: as zone_reclaim_mode wants. Long reclaims are events with pages, limit and
    stack, and so are long runs of kswapd and long waits because of memory.high.

    Hooks: vmscan:mm_vmscan_direct_reclaim_begin, _end, memcg_reclaim and node_reclaim likewise,
    kswapd_wake, kswapd_sleep, wakeup_kswapd, lru_shrink_inactive, throttled (mm/vmscan.c);
    try_to_free_mem_cgroup_pages() for the limit's cgroup up to 7.1, without fentry it is inferred;
    mem_cgroup_handle_over_high() (mm/memcontrol.c), which needs fentry or kprobes.
    Kernels: throttled since 5.16. Scanned pages need the classic reclaim lists or, with multi-gen
    LRU, 6.7. memory.high exists on cgroup v2 only.
    Cost: about 0.4 us per reclaim, and 0.1 us per batch of up to 32 pages in it.
    """

    priority = 85
    optional: ClassVar[Collection[str]] = ("throttled", "over_high_begin", "over_high_end")
    titles: ClassVar[Mapping[str, str]] = {
        "slow_reclaims": "{comm}[{pid}] reclaimed memory for {duration_ns} ({kind})",
        "kswapd_long_runs": "kswapd of node {node} has been reclaiming for {duration_ns}",
        "over_high_waits": "{comm}[{pid}] was held up for {duration_ns} by memory.high",
    }
    subjects: ClassVar[Mapping[str, str]] = dict.fromkeys(titles, "cgroup")

    @property
    def notes(self) -> list[str]:
        found = []
        if any("(inferred)" in hook for hook in self.hooks):
            found.append("which cgroup had reached its limit is inferred from its usage")
        if not any("over_high" in hook for hook in self.hooks):
            found.append("waits because of memory.high need fentry or kprobes")
        return found

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        """The event's title, with the reason and what was freed."""
        if "kind" in fields:
            return _reclaim_title(fields)
        if "finished" in fields:
            return _kswapd_title(fields)
        return ""


def _reclaim_title(fields: Mapping[str, Any]) -> str:
    limit = show_bytes(fields["domain_limit_bytes"])
    why = _WHY.get(fields["kind"], f"the limit of {limit} was reached")
    return (
        f"an allocation waited {show_duration(fields['duration_ns'] / 1e9)} for reclaim: {why}; "
        f"{fields['reclaimed_pages']} of {fields['scanned_pages']} pages freed"
    )


def _kswapd_title(fields: Mapping[str, Any]) -> str:
    did = "reclaimed" if fields["finished"] else "has been reclaiming"
    return (
        f"kswapd of node {fields['node']} {did} for {show_duration(fields['duration_ns'] / 1e9)}: "
        f"{fields['reclaimed_pages']} of {fields['scanned_pages']} pages freed"
    )
