"""Whether pages of a process are in memory: /proc/PID/pagemap and /proc/kpageflags.

Format: Documentation/admin-guide/mm/pagemap.rst.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from huatuo.kernel.host import Host

__all__ = ["PageFlags", "entries"]

_ENTRY = 8
_PRESENT, _FRAME_MASK = np.uint64(1 << 63), np.uint64((1 << 55) - 1)
_HUGE = 1 << 22 | 1 << 17  # KPF_THP, KPF_HUGE


def entries(host: Host, pid: int, addresses: Sequence[int]) -> npt.NDArray[np.uint64]:
    """Page frame number of each address, 0 where its page is not in memory; shape (n,).

    OSError if the process is gone or not ours to look at. Without CAP_SYS_ADMIN the numbers are 0:
    then pages seem absent.
    """
    found = np.zeros(len(addresses), np.uint64)
    fd = os.open(host.proc / str(pid) / "pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for at, address in enumerate(addresses):
            data = os.pread(fd, _ENTRY, address // host.page_size * _ENTRY)
            found[at] = int.from_bytes(data, "little")
    finally:
        os.close(fd)
    return np.where(found & _PRESENT, found & _FRAME_MASK, np.uint64(0))


class PageFlags:
    """Open /proc/kpageflags; a context manager. OSError if we may not."""

    def __init__(self, host: Host) -> None:
        self._fd = os.open(host.proc / "kpageflags", os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> PageFlags:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._fd)

    def is_huge(self, frame: int) -> bool:
        """Whether a page frame is part of a huge page."""
        data = os.pread(self._fd, _ENTRY, frame * _ENTRY)
        return bool(int.from_bytes(data, "little") & _HUGE)
