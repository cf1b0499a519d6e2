"""Keeping the agent small: glibc holds on to what loading BPF objects needed for a moment.

libbpf reads the kernel's BTF (several MB) for every object and frees it again.
"""

from __future__ import annotations

import ctypes

__all__ = ["give_back", "return_large_blocks"]

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # malloc.h
_LARGE = 256 * 1024


def return_large_blocks() -> None:
    """Let large allocations go back to the kernel when freed; call before making any.

    Without it glibc raises the threshold with the first large block that is freed, and gives every
    thread a heap of its own, each with its own leftovers. Does nothing on a C library without
    mallopt.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Return free heap pages to the kernel (about 5 MB after start, 3 ms)."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
