"""Disk throughput of containers, from their cgroups."""

from __future__ import annotations

from collections.abc import Iterator

from huatuo.kernel.cgroupfs import Cgroup
from huatuo.kernel.procfs import parse_keyed
from huatuo.probes.reader import CgroupReader, Reading, counter

__all__ = ["BlockCgroup"]

_BYTES = counter("bytes", "bytes moved for the container", "container", "device", "operation")
_OPERATIONS = counter(
    "operations", "requests issued for the container", "container", "device", "operation"
)
_V2 = {
    "rbytes": (_BYTES, "read"),
    "wbytes": (_BYTES, "write"),
    "dbytes": (_BYTES, "discard"),
    "rios": (_OPERATIONS, "read"),
    "wios": (_OPERATIONS, "write"),
    "dios": (_OPERATIONS, "discard"),
}
_V1 = (
    (_BYTES, "blkio.throttle.io_service_bytes_recursive"),
    (_OPERATIONS, "blkio.throttle.io_serviced_recursive"),
)
_OPERATION_V1 = {"Read": "read", "Write": "write", "Discard": "discard"}


class BlockCgroup(CgroupReader):
    """Bytes and requests per container and disk.

    On v1, buffered writes are charged to the root and not to the container that wrote.
    Reads: io.stat; on v1 blkio.throttle.io_service* (block/blk-cgroup.c, block/blk-throttle.c).
    Kernels: on v1 with CONFIG_BLK_DEV_THROTTLING.
    Cost: one or two reads per container.
    """

    priority = 70
    controller = "io"
    controller_v1 = "blkio"

    def read_v2(self, cgroup: Cgroup, directory: str) -> Iterator[Reading]:
        for device, stat in parse_keyed(self.text(directory + "io.stat")).items():
            disk = _dev_t(device)
            if disk is None:
                continue
            for name, (family, operation) in _V2.items():
                if name in stat:
                    yield family, (cgroup.id, disk, operation), stat[name]

    def read_v1(self, cgroup: Cgroup, directory: str) -> Iterator[Reading]:
        for family, file in _V1:
            for line in self.text(directory + file).splitlines():
                device, *rest = line.split()
                if device == "Total":
                    continue
                operation, count = rest
                disk = _dev_t(device)
                if disk is not None and operation in _OPERATION_V1:
                    yield family, (cgroup.id, disk, _OPERATION_V1[operation]), int(count)


def _dev_t(text: str) -> int | None:
    """major:minor as the kernel's number (disk_t); None of a disk that the kernel hides."""
    if text == "(unknown)":  # one path of a multipath NVMe disk
        return None
    major, minor = map(int, text.split(":"))
    if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
        raise ValueError(f"device {text}")
    return major << 20 | minor
