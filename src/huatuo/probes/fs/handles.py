"""Open files of the host, from /proc/sys/fs/file-nr."""

from __future__ import annotations

from collections.abc import Iterator

from huatuo.probes.reader import Reader, Reading, gauge

__all__ = ["Handles"]

_OPEN = gauge("open", "open files of all processes")
_LIMIT = gauge("limit", "open files that the kernel allows")


class Handles(Reader):
    """How many files are open, and how many may be.

    At the limit every open() and accept() on the host fails.
    Reads: /proc/sys/fs/file-nr (fs/file_table.c).
    Cost: one read.
    """

    priority = 60
    files = ("proc/sys/fs/file-nr",)

    def parts(self) -> Iterator[Iterator[Reading]]:
        yield self._file_nr()

    def _file_nr(self) -> Iterator[Reading]:
        allocated, free, limit = map(int, self.text(self.paths["proc/sys/fs/file-nr"]).split())
        yield _OPEN, (), allocated - free
        yield _LIMIT, (), limit
