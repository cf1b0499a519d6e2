"""Pages of code whose rows are wanted: which is next, and how much CPU time all may cost.

Files take turns, so that one that asks for everything delays only itself. The blocks around pages
that were asked for come when nobody waits: code that runs lies together.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["Budget", "Requests"]

_MOST_WAITING = 8192  # a quarter of the map `pages`, where they have a place without rows
_MOST_OF_A_FILE = 1024
_BLOCK = 16  # pages


class Budget:
    """CPU time: `burst` seconds at once, `share` of a CPU in the long run."""

    def __init__(
        self, burst: float, share: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst, self._share, self._clock = burst, share, clock
        self._left, self._at = burst, clock()

    def left(self) -> float:
        """Seconds; below 0 after work that took longer than there was."""
        now = self._clock()
        self._left = min(self._left + (now - self._at) * self._share, self._burst)
        self._at = now
        return self._left

    def spend(self, seconds: float) -> None:
        self._left -= seconds


class Requests:
    """`len` is how many pages wait; their blocks do not count."""

    def __init__(self) -> None:
        self._pages: OrderedDict[int, OrderedDict[int, None]] = OrderedDict()  # file → pages
        self._blocks: OrderedDict[tuple[int, int], None] = OrderedDict()
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def add(self, file: int, page: int) -> bool:
        """False if too many wait already."""
        pages = self._pages.setdefault(file, OrderedDict())
        if page in pages:
            return True
        if self._waiting >= _MOST_WAITING or len(pages) >= _MOST_OF_A_FILE:
            if not pages:
                del self._pages[file]
            return False
        pages[page] = None
        self._waiting += 1
        return True

    def next_page(self) -> tuple[int, int] | None:
        """(file, page) of the file whose turn it is."""
        if not self._waiting:
            return None
        file, pages = self._pages.popitem(last=False)
        page, _ = pages.popitem(last=False)
        if pages:
            self._pages[file] = pages
        self._waiting -= 1
        self._blocks[file, page // _BLOCK] = None
        if len(self._blocks) > _MOST_WAITING:
            self._blocks.popitem(last=False)
        return file, page

    def next_block(self) -> tuple[int, range] | None:
        """(file, pages) around pages that were next before."""
        if not self._blocks:
            return None
        (file, block), _ = self._blocks.popitem(last=False)
        return file, range(block * _BLOCK, (block + 1) * _BLOCK)
