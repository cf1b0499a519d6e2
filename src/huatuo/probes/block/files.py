"""Whose requests they are: process, file and device; for `huatuo io`, on demand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from huatuo.model.units import show_duration
from huatuo.probes.bpf import BpfProbe, Rows

__all__ = ["MODES", "Files", "what_of"]

MODES = ("direct", "mmap", "fsync", "writeback", "readahead", "metadata")  # enum mode, by bit


class Files(BpfProbe):
    """Requests by process, file and device, with how they came about; slow ones are events.

    For people who look: its table has a row per process and file, without bound, so nothing of it
    is exported; `huatuo io top` shows it, `huatuo io slow` the events. Buffered writes belong to
    the process that last made a page of the file dirty, journals to their thread; what device
    mapper holds back, to the kernel's thread that sends it on. A request that was merged belongs to
    the one it was merged into.
    Hooks: block:block_io_start (before 6.5 block_getrq), block_rq_issue, block_rq_complete
    (block/blk-mq.c); writeback:writeback_dirty_folio (mm/page-writeback.c).
    Cost: about 1.7 µs per request, and 0.7 µs per page that becomes dirty: too much for always.
    """

    automatic = False
    priority = 40
    titles: ClassVar[Mapping[str, str]] = {
        "slow_requests": "{operation} of {path} on {disk} took {device_ns} for {comm}[{tid}]"
    }
    subjects: ClassVar[Mapping[str, str]] = {"slow_requests": "cgroup"}

    def users(self) -> tuple[Rows, Rows]:
        """(keys, totals since start) of all process, file and device: struct user_key, user_row."""
        return self._running().maps["users"].read()

    def names(self) -> dict[tuple[int, int], bytes]:
        """(inode, device of the file system) → its path, as a path_t."""
        keys, values = self._running().maps["names"].read()
        pairs = zip(keys["inode"].tolist(), keys["disk"].tolist(), strict=True)
        return dict(zip(pairs, values["path"].tolist(), strict=True))

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        bits = int(fields["modes"])
        fields["modes"] = [name for bit, name in enumerate(MODES) if bits >> bit & 1]
        queue, device = int(fields["queue_ns"]), int(fields["device_ns"])
        took = show_duration((queue + device) / 1e9)
        share = round(100 * queue / max(queue + device, 1))
        how = ", ".join([*fields["modes"], f"{share} % of it queued"])
        who = f"{fields['comm']}[{fields['tid']}]"
        what = f"{fields['operation']} of {what_of(fields)}"
        return f"{what} on {fields['disk']} took {took} for {who} ({how})"


def what_of(fields: Mapping[str, Any]) -> str:
    """The file, or in words what else is moved."""
    if fields["path"]:
        return str(fields["path"])
    if fields["inode"]:
        return f"inode {fields['inode']}"
    if "metadata" in fields["modes"]:
        return "metadata"
    return "the disk itself" if fields["filesystem"] == "block" else "no file"
