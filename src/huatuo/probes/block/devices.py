"""What the disks do, from /proc/diskstats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from huatuo.kernel.host import Host
from huatuo.probes.reader import Reader, Reading, counter, gauge

__all__ = ["Devices"]

_SECTOR = 512  # of diskstats, whatever the disk's own is
_OPERATIONS = counter("operations", "requests completed", "device", "operation")
_BYTES = counter("bytes", "bytes read, written and discarded", "device", "operation")
_MERGED = counter("merged_operations", "requests merged into others", "device", "operation")
_SECONDS = counter(
    "operation_seconds", "time from queueing to completion, summed", "device", "operation"
)
_IN_FLIGHT = gauge("in_flight_operations", "requests that are not completed yet", "device")
_BUSY = counter("busy_seconds", "time in which a request was in flight", "device")
_WEIGHTED = counter(
    "queue_seconds", "time multiplied by the number of requests in flight", "device"
)
# column of the first of four (operations, merged, sectors, milliseconds)
_GROUPS = (("read", 3), ("write", 7), ("discard", 14))
_FLUSHES, _FLUSH_MS = 18, 19


class Devices(Reader):
    """Throughput, operations, time and queue of every disk; partitions are part of theirs.

    operation_seconds per operation is the mean latency, queue_seconds per second the mean queue;
    the distribution is in block.latency. Devices without any I/O so far are left out, so a host's
    unused loop and ram devices do not appear.
    Reads: /proc/diskstats (block/genhd.c), /sys/block.
    Kernels: discards since 4.18, flushes since 5.5.
    Cost: one read and one directory listing.
    """

    priority = 80
    files = ("proc/diskstats", "sys/block")

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self._seen: list[str] = []
        self._disks: set[str] = set()

    def parts(self) -> Iterator[Iterator[Reading]]:
        yield self._diskstats()

    def _diskstats(self) -> Iterator[Reading]:
        rows = [line.split() for line in self.text(self.paths["proc/diskstats"]).splitlines()]
        names = [row[2] for row in rows]
        if names != self._seen:  # disks came or went
            self._disks = {disk.name for disk in Path(self.paths["sys/block"]).iterdir()}
            self._seen = names
        for row in rows:
            if row[2].replace("/", "!") in self._disks:
                yield from _device(row[2], [int(word) for word in row[3:]])


def _device(device: str, numbers: list[int]) -> Iterator[Reading]:
    row = [0, 0, 0, *numbers]  # columns as the kernel's documentation counts them
    if not row[3] and not row[7]:
        return
    for operation, first in _GROUPS:
        if first + 3 < len(row):
            key = (device, operation)
            operations, merged, sectors, milliseconds = row[first : first + 4]
            yield _OPERATIONS, key, operations
            yield _BYTES, key, sectors * _SECTOR
            yield _MERGED, key, merged
            yield _SECONDS, key, milliseconds / 1e3
    if len(row) > _FLUSH_MS:
        yield _OPERATIONS, (device, "flush"), row[_FLUSHES]
        yield _SECONDS, (device, "flush"), row[_FLUSH_MS] / 1e3
    yield _IN_FLIGHT, (device,), row[11]
    yield _BUSY, (device,), row[12] / 1e3
    yield _WEIGHTED, (device,), row[13] / 1e3
