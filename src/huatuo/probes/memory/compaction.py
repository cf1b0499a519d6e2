"""Compaction of memory, and the fragmentation that makes it necessary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from huatuo.model.units import show_duration
from huatuo.probes.bpf import BpfProbe

__all__ = ["Compaction"]


class Compaction(BpfProbe):
    """Time spent on moving pages together, by container and kind; long ones are events.

    `direct` is time that an allocation of huge pages or of a large buffer waits; `kcompactd` works
    in the background; `manual` is asked for in /proc/sys/vm/compact_memory. Fallbacks are where
    fragmentation comes from: above all unmovable pages in movable blocks.

    Hooks: compaction:mm_compaction_begin, mm_compaction_end (mm/compaction.c), once per zone;
    kmem:mm_page_alloc_extfrag (mm/page_alloc.c).
    Kernels: 5.10 does not say which pages were looked at, and in which zone.
    Cost: 0.3 us per zone compacted, 0.1 us per fallback.
    """

    priority = 75
    titles: ClassVar[Mapping[str, str]] = {
        "slow_compactions": "zone {zone} was compacted for {duration_ns} ({kind}): {result}"
    }
    subjects: ClassVar[Mapping[str, str]] = {"slow_compactions": "cgroup"}

    @property
    def notes(self) -> list[str]:
        if any("(without control)" in hook for hook in self.hooks):
            return ["this kernel does not say which pages were looked at, and in which zone"]
        return []

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        """The event's title."""
        took = show_duration(fields["duration_ns"] / 1e9)
        zone = f" zone {fields['zone']}" if fields["zone"] else ""
        if fields["kind"] == "direct":
            size = f"an allocation of {1 << fields['order']} pages"
            return f"{size} waited {took} for compaction of{zone or ' a zone'}: {fields['result']}"
        return f"compacting{zone or ' a zone'} ({fields['kind']}) took {took}: {fields['result']}"
