"""Unwind rows on demand: opening a file, a page of its code, memory that an open file holds.

    python -m bench rows
    python bench/rows.py FILE …

CPU time, medians of rounds over pages at even distances; the files are in the page cache.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

from huatuo.kernel.elf import Elf
from huatuo.profilers.native.rows import PAGE_SHIFT, UnwindFile

_PAGES = 400
_LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
_FILES = [
    _LIBRARIES / "libc.so.6",
    _LIBRARIES / "libcrypto.so.3",
    *sorted(_LIBRARIES.glob("libLLVM-*.so.1"))[:1],
    Path("/usr/bin/node"),
    Path("/usr/bin/busybox"),  # without .eh_frame_hdr
]


def _torch() -> list[Path]:
    found = importlib.util.find_spec("torch")
    return [Path(found.origin).parent / "lib/libtorch_cpu.so"] if found and found.origin else []


def _pages(elf: Elf) -> list[int]:
    """Of code, evenly spread."""
    pages = [
        page
        for segment in elf.segments
        if segment.is_executable
        for page in range(
            segment.offset >> PAGE_SHIFT, (segment.offset + segment.size - 1 >> PAGE_SHIFT) + 1
        )
    ]
    return pages[:: -(-len(pages) // _PAGES)]


def _functions(file: UnwindFile, page: int) -> int:
    elf, size = file._elf, 1 << PAGE_SHIFT
    address = elf.address_of(page * size)
    if not file._tables or address is None:
        return 0
    return len(file._tables[0].between(address, address + size))


def _cpu_us(began: float) -> float:
    return (time.process_time() - began) * 1e6


def measure(path: Path, rounds: int) -> str:
    """One line of the table."""
    opening, first, costs = [], [], []
    for _ in range(rounds):
        began = time.process_time()
        with Elf(path) as elf:
            file = UnwindFile(elf)
            opening.append(_cpu_us(began))
            pages = _pages(elf)
            began = time.process_time()
            file.rows(pages[len(pages) // 2])
            first.append(_cpu_us(began))
            for page in pages:
                began = time.process_time()
                file.rows(page)
                costs.append(_cpu_us(began))
    tracemalloc.start()
    with Elf(path) as elf:
        file = UnwindFile(elf)
        rows = [len(file.rows(page)) for page in pages]
        functions = sum(_functions(file, page) for page in pages)
        held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    costs.sort()
    per_function = sum(costs) / rounds / functions if functions else 0
    return (
        f"| {path.name} | {path.stat().st_size / 1e6:.0f} MB | {file.source} "
        f"| {statistics.median(opening) / 1e3:.2f} ms | {statistics.median(first):.0f} us "
        f"| {statistics.median(costs):.0f} / {costs[len(costs) * 99 // 100]:.0f} us "
        f"| {per_function:.1f} us | {statistics.fmean(rows):.0f} / {max(rows)} "
        f"| {held >> 10} KiB |"
    )


def run(rounds: int, files: Sequence[Path] = ()) -> str:
    """One table."""
    head = (
        "| file | size | source | open | first page | page: median / 99 % | per function "
        "| rows in a page: mean / most | memory held |"
    )
    lines = ["### Unwind rows on demand", "", head, "|---|---:|---|---:|---:|---:|---:|---:|---:|"]
    for path in files or (path for path in (*_FILES, *_torch()) if path.exists()):
        lines.append(measure(path.resolve(), rounds))
    return "\n".join(lines)


if __name__ == "__main__":
    print(run(7, [Path(each) for each in sys.argv[1:]]))
