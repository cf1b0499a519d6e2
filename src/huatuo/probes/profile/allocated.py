"""Pages taken from the page allocator by stack."""

from __future__ import annotations

from huatuo.probes.profiler import Profiler

__all__ = ["Allocated"]


class Allocated(Profiler):
    """Who takes pages from the page allocator: page tables, page cache, anonymous memory, buffers.

    Hooks: kmem:mm_page_alloc (mm/page_alloc.c).
    Cost: 0.1 us per allocation, a tenth of a page fault, and 10 us per sample: on demand only.
    """

    profile = "allocated"
    on_tracepoint = True
    automatic = False
