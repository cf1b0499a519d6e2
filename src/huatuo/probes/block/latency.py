"""Block devices: the latency of requests, from the stamps that the kernel keeps in them."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from huatuo.kernel.cgroupfs import hierarchies, walk
from huatuo.kernel.object import BpfObject
from huatuo.model.metric import Metric
from huatuo.model.record import Schema
from huatuo.model.units import show_duration
from huatuo.probes.base import Account
from huatuo.probes.bpf import BpfProbe, Rows

__all__ = ["Latency"]

# bit → word, in the order of enum request_flag in latency.bpf.c
_FLAGS = ("sync", "fua", "flush", "metadata", "priority", "readahead", "background")
_IN_TITLE = ("fua", "flush")


class Latency(BpfProbe):
    """How long requests wait in the queue and how long the device takes, by device and container.

    Each request counts once, in the container that issued its first bio; slow and failed requests
    are events. An event names the process if one sleeps until the request is done (direct I/O,
    flushes, journals) and the file if its pages are moved or it was opened for direct I/O; who made
    a buffered write, or a request of asynchronous I/O, is not known when it completes: block.files
    remembers. Devices that work on bios and have no requests (device mapper, md, zram) show up
    through the disks below them.
    Hooks: block:block_rq_complete (block/blk-mq.c) with the request's own stamps;
    block:block_rq_requeue; only once a queue is seen for which the kernel keeps no stamps, or with
    own_stamps, also block:block_rq_issue.
    Kernels: since 6.9 the kernel reads the clock once per plug: what a task spends between making
    and issuing a request without sleeping counts as device time unless own_stamps is set.
    Cost: about 105 ns per request and entering the program, 250 ns if the caches are cold; as much
    again with block_rq_issue.
    """

    priority = 80
    titles: ClassVar[Mapping[str, str]] = {
        "slow_requests": "{operation} on {disk} took {device_ns} after {queue_ns} in the queue",
        "failed_requests": "{operation} on {disk} failed: {error}",
    }
    subjects: ClassVar[Mapping[str, str]] = {"slow_requests": "cgroup", "failed_requests": "cgroup"}

    held: ClassVar[Collection[str]] = ("block_rq_issue",)

    def prepare(self, opened: BpfObject) -> None:
        for row in range(opened.maps["hot_rows"].max_entries):
            opened.maps["free_rows"].update(None, struct.pack("<I", row))

    def start(self) -> None:
        super().start()
        self._unstamped = 0
        if self.settings["own_stamps"]:
            self._running().attach_held("block_rq_issue")

    def collect(self) -> Iterator[Metric]:
        self._stamp_where_needed()
        return super().collect()

    def account(self) -> Account:
        account = super().account()
        return replace(account, lost={**account.lost, "unstamped": self._count_unstamped()})

    def _count_unstamped(self) -> int:
        _, counts = self._running().maps["unstamped"].read()
        return int(counts["value"][0])

    def _stamp_where_needed(self) -> None:
        unstamped = self._count_unstamped()
        if unstamped > self._unstamped:
            self._running().attach_held("block_rq_issue")
        self._unstamped = unstamped

    def tables(self) -> Iterator[tuple[Schema, Rows, Schema, Rows]]:
        """Hot and cold rows as one table; each key is in one of them."""
        maps = self._running().maps
        self._forget_gone()
        keys, numbers = maps["hot_numbers"].read()
        _, hot = maps["hot_rows"].read()
        cold_keys, cold = maps["cold_rows"].read()
        key, value = maps["cold_rows"].key, maps["cold_rows"].value
        assert key and value
        rows = np.concatenate([hot[numbers["value"]], cold])
        yield key, np.concatenate([keys, cold_keys]), value, rows

    def _forget_gone(self) -> None:
        """Make room when the tables fill up: rows of containers that are gone."""
        maps = self._running().maps
        hot, numbers = maps["hot_numbers"].read()
        cold, _ = maps["cold_rows"].read()
        root = hierarchies(self.host).controller("blkio")
        is_full = len(hot) == maps["hot_numbers"].max_entries and len(cold) > 0
        if root is None or not (is_full or len(cold) > maps["cold_rows"].max_entries // 2):
            return
        alive = np.array([0, *(cgroup.id for cgroup in walk(root))], np.uint64)
        for key in cold[~np.isin(cold["cgroup"], alive)]:
            maps["cold_rows"].delete(key.tobytes())
        gone = ~np.isin(hot["cgroup"], alive)
        for key in hot[gone]:
            maps["hot_numbers"].delete(key.tobytes())
        self._forget_recent()
        for number in numbers["value"][gone]:
            self._zero("hot_rows", int(number))
            maps["free_rows"].update(None, struct.pack("<I", number))

    def _forget_recent(self) -> None:
        """No CPU remembers rows that are given to others."""
        for slot in range(self._running().maps["recents"].max_entries):
            self._zero("recents", slot)

    def _zero(self, name: str, at: int) -> None:
        found = self._running().maps[name]
        assert found.value
        found.update(struct.pack("<I", at), bytes(found.value.dtype.itemsize))

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        """Name the flags; a title that says whose share of the time it was, and for whom."""
        bits = int(fields.get("flags", 0))
        words = [word for bit, word in enumerate(_FLAGS) if bits >> bit & 1]
        fields["flags"] = words
        operation = str(fields["operation"])
        what = "+".join([operation, *(w for w in words if w in _IN_TITLE and w != operation)])
        queue, device = int(fields["queue_ns"]), int(fields["device_ns"])
        title = f"{what} on {fields['disk']}"
        if fields["error"] != "none":
            title += f" failed: {fields['error']}, after {show_duration((queue + device) / 1e9)}"
        else:
            share = round(100 * queue / max(queue + device, 1))
            title += f" took {show_duration((queue + device) / 1e9)}"
            title += f" ({share} % of it queued, {100 - share} % in the device)"
        if fields.get("tid"):
            title += f" for {fields['comm']}[{fields['tid']}]"
        if fields.get("path"):
            title += f", {fields['path']}"
        elif fields.get("filesystem") == "block":
            title += f", blocks of {fields['filesystem_disk']} itself"
        return title
