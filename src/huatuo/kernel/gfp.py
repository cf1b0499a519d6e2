"""Names of the flags of a page allocation (gfp_t), as the kernel writes them.

Bits 0 to 22 mean the same on all kernels from 5.10 to 7.2, but for bit 9, which nothing uses since
6.3; further bits depend on the kernel's configuration and stay numbers. Source:
include/linux/gfp_types.h and include/trace/events/mmflags.h; tests/live compares with the running
kernel's own text.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["gfp_names"]

_FROM_BIT_0 = (
    "DMA HIGHMEM DMA32 MOVABLE RECLAIMABLE HIGH IO FS ZERO ATOMIC DIRECT_RECLAIM KSWAPD_RECLAIM "
    "WRITE NOWARN RETRY_MAYFAIL NOFAIL NORETRY MEMALLOC COMP NOMEMALLOC HARDWALL THISNODE ACCOUNT"
)
_BITS = _FROM_BIT_0.split()
_RECLAIM = "DIRECT_RECLAIM KSWAPD_RECLAIM"
_KERNEL = f"{_RECLAIM} IO FS"
_MOVABLE = f"{_KERNEL} HARDWALL HIGHMEM MOVABLE"


def _mask(names: str) -> int:
    return sum(1 << _BITS.index(name) for name in names.split())


# combinations with a name of their own, in the kernel's order: the first that fits is taken out
_SETS = {
    "GFP_TRANSHUGE": _mask(f"{_MOVABLE} COMP NOMEMALLOC NOWARN") & ~_mask("KSWAPD_RECLAIM"),
    "GFP_TRANSHUGE_LIGHT": _mask(f"{_MOVABLE} COMP NOMEMALLOC NOWARN") & ~_mask(_RECLAIM),
    "GFP_HIGHUSER_MOVABLE": _mask(_MOVABLE),
    "GFP_HIGHUSER": _mask(f"{_KERNEL} HARDWALL HIGHMEM"),
    "GFP_USER": _mask(f"{_KERNEL} HARDWALL"),
    "GFP_KERNEL_ACCOUNT": _mask(f"{_KERNEL} ACCOUNT"),
    "GFP_KERNEL": _mask(_KERNEL),
    "GFP_NOFS": _mask(f"{_RECLAIM} IO"),
    "GFP_NOIO": _mask(_RECLAIM),
}


def gfp_names(flags: int) -> str:
    """GFP_KERNEL|__GFP_ZERO; unknown bits as one number at the end; "0" without any."""
    return "|".join(_parts(flags)) or "0"


def _parts(flags: int) -> Iterator[str]:
    for name, mask in _SETS.items():
        if flags & mask == mask:
            yield name
            flags &= ~mask
    for bit, name in enumerate(_BITS):
        if flags >> bit & 1:
            yield f"__GFP_{name}"
    if rest := flags >> len(_BITS) << len(_BITS):
        yield hex(rest)
