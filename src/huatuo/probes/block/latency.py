"""Block devices: the latency of requests, from the stamps that the kernel keeps in them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import ClassVar

from huatuo.kernel.cgroupfs import hierarchies, walk
from huatuo.model.metric import Metric
from huatuo.probes.base import Account
from huatuo.probes.bpf import BpfProbe

__all__ = ["Latency"]


class Latency(BpfProbe):
    """How long requests wait in the queue and how long the device takes, by device and container.

    Each request counts once, in the container that issued its first bio; slow and failed requests
    are events. The submitting process is not known when a request completes. Devices that work on
    bios and have no requests (device mapper, md, zram) show up through the disks below them.
    Hooks: block:block_rq_complete (block/blk-mq.c) with the request's own stamps; only once a queue
    is seen for which the kernel keeps none, or with own_stamps, also block:block_rq_issue.
    Kernels: since 6.9 the kernel reads the clock once per plug: what a task spends between making
    and issuing a request without sleeping counts as device time unless own_stamps is set.
    Cost: about 125 ns per request and entering the program; as much again with block_rq_issue.
    """

    priority = 80
    titles: ClassVar[Mapping[str, str]] = {
        "slow_requests": "{operation} on {disk} took {device_ns} after {queue_ns} in the queue",
        "failed_requests": "{operation} on {disk} failed: {error}",
    }
    subjects: ClassVar[Mapping[str, str]] = {"slow_requests": "cgroup", "failed_requests": "cgroup"}

    held: ClassVar[Collection[str]] = ("block_rq_issue",)

    def start(self) -> None:
        super().start()
        self._unstamped = 0
        if self.settings["own_stamps"]:
            self._running().attach_held("block_rq_issue")

    def collect(self) -> Iterator[Metric]:
        self._stamp_where_needed()
        self._forget_gone()
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

    def _forget_gone(self) -> None:
        """Make room when the table fills up: rows of containers that are gone."""
        requests = self._running().maps["requests"]
        keys, _ = requests.read()
        root = hierarchies(self.host).controller("blkio")
        if len(keys) < requests.max_entries // 2 or root is None:
            return
        alive = {cgroup.id for cgroup in walk(root)} | {0}
        for key in keys:
            if int(key["cgroup"]) not in alive:
                requests.delete(key.tobytes())
