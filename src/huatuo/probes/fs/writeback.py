"""Writers that are slowed down because too much is not written yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from huatuo.model.units import show_duration
from huatuo.probes.bpf import BpfProbe

__all__ = ["Writeback"]


class Writeback(BpfProbe):
    """How long the kernel pauses writers because there is too much dirty page cache.

    A write() that usually copies into memory takes as long as the disk then, or as the container's
    dirty limit makes it. Every pause counts, by container and device; a process whose pauses add up
    is an event, and again each time they have doubled.
    Hooks: writeback:balance_dirty_pages (mm/page-writeback.c).
    Kernels: eight arguments instead of twelve since 6.18.
    Cost: about 5 µs, with cold caches, per pause of 10 to 200 ms; nothing while there are none.
    """

    priority = 75
    titles: ClassVar[Mapping[str, str]] = {
        "throttled_writers": "{comm}[{tid}] was paused for {paused_ns}: {disk} is slower than it"
    }
    subjects: ClassVar[Mapping[str, str]] = {"throttled_writers": "cgroup"}

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        paused, since = (show_duration(fields[name] / 1e9) for name in ("paused_ns", "since_ns"))
        who = f"{fields['comm']}[{fields['tid']}]"
        disk = fields["disk"] or "its file system"
        return f"{who} was paused for {paused} in {since}: it writes faster than {disk}"
