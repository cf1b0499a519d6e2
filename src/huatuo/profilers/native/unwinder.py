"""User space's half of unwinding: what the kernel side (bpf/unwind.bpf.h) asks for is given to it.

    new_files     a file nobody has seen before     → opened, its unwind information found
    wanted_pages  code that runs, without rows yet  → compiled (rows.py), written (rowcache.py)
    new_stacks    a stack met for the first time    → handed on

One unwinder serves all profilers of a process; they share its maps.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from huatuo.kernel.host import Host
from huatuo.kernel.object import BpfObject
from huatuo.profilers.native.binaries import Binaries, Binary, Mapped
from huatuo.profilers.native.mappings import Mappings
from huatuo.profilers.native.requests import Budget, Requests
from huatuo.profilers.native.rowcache import RowCache

__all__ = ["Unwinder", "UnwinderCounts"]

_SLICE_SECONDS = 0.01  # of work, before others get their turn
_BURST_SECONDS, _SHARE = 3.0, 0.02  # of one CPU
_AHEAD_SECONDS, _AHEAD_SHARE = 1.0, 0.002  # of that, for what nobody has asked for
_POOR_SECONDS = 0.25  # until there may be something to spend again


@dataclass(slots=True)
class UnwinderCounts:
    """Since the start."""

    pages: int = 0  # compiled
    refused: int = 0  # requests for pages while too many waited; they are asked for again
    seconds: float = 0.0  # CPU time of serving


class Unwinder:
    """Use as a context manager, or `close`. Raises KernelLacks where BPF cannot run.

    `budget` is what `serve` may cost; whoever is waited for sets a larger one.
    """

    def __init__(self, host: Host) -> None:
        self.object = BpfObject(Path(__file__).with_name("tables.bpf.o"))
        self.object.load()
        self.binaries = Binaries(host)
        self.counts = UnwinderCounts()
        self._mappings = Mappings(host, self.binaries)
        self._cache = RowCache(self.object.maps)
        self._requests = Requests()
        self.budget = Budget(_BURST_SECONDS, _SHARE)
        self._ahead = Budget(_AHEAD_SECONDS, _AHEAD_SHARE)

    def __enter__(self) -> Unwinder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def shared(self) -> dict[str, int]:
        """Map → descriptor, for the objects of profilers."""
        maps = {name: each.fd for name, each in self.object.maps.items()}
        return maps | {name: ring.fd for name, ring in self.object.rings.items()}

    @property
    def urgent_fds(self) -> list[int]:
        """Readable when the kernel side waits for `serve`."""
        return [self.object.rings[name].fd for name in ("new_files", "wanted_pages")]

    def serve(self) -> float | None:
        """Open files and compile pages that were asked for: a slice of that work.

        Returns in how many seconds it wants to go on, None if nothing is left.
        """
        began = time.thread_time()
        self._receive()
        end = min(began + _SLICE_SECONDS, began + self.budget.left())
        work = True
        while work and time.thread_time() < end:
            work = self._compile_next()
        spent = time.thread_time() - began
        self.budget.spend(spent)
        self.counts.seconds += spent
        if not work:
            return None
        return _SLICE_SECONDS if self.budget.left() > 0 else _POOR_SECONDS

    def _receive(self) -> None:
        """The pages are taken first: each follows its file."""
        wanted = self.object.rings["wanted_pages"].drain()
        for row in self.object.rings["new_files"].drain():
            names = ("tgid", "start", "end", "device", "inode", "size")
            binary = self.binaries.add(int(row["id"]), Mapped(*(int(row[n]) for n in names)))
            if binary.is_gone:  # the next process that has it reports it again
                self._forget_file(self.binaries.remove(binary.id))
        while (unused := self.binaries.evict()) is not None:
            self._forget_file(unused)
        for file, page in wanted[["file", "page"]].tolist():
            if not self._requests.add(file, page):
                self.counts.refused += 1
                self._cache.forget(file, page)

    def _forget_file(self, binary: Binary) -> None:
        """Whoever runs it reports it again, and then it has another number."""
        files = self.object.maps["files"]
        assert files.key is not None
        key = np.zeros(1, files.key.dtype)
        for name in ("inode", "size", "device"):
            key[name] = getattr(binary, name)
        files.delete(key.tobytes())

    def _compile_next(self) -> bool:
        """A page that was asked for; a block of pages if nobody waits; false if there is none."""
        if (asked := self._requests.next_page()) is not None:
            self._compile(*asked)
            return True
        if self._ahead.left() <= 0 or (block := self._requests.next_block()) is None:
            return False
        began = time.thread_time()
        file, pages = block
        for page in pages:
            if not self._cache.has(file, page):
                self._compile(file, page)
        self._ahead.spend(time.thread_time() - began)
        return True

    def _compile(self, file: int, page: int) -> None:
        self._cache.put(file, page, self.binaries.rows(file, page))
        self.counts.pages += 1

    @property
    def files(self) -> int:
        return len(self.binaries)

    def lost(self) -> dict[str, int]:
        """What there was no room for so far; rows that made room are asked for again."""
        _, values = self.object.maps["unwind_counters"].read()
        counted = {name: int(values[name][0]) for name in ("files_lost", "pages_lost")}
        found = {name.removesuffix("_lost"): count for name, count in counted.items()}
        return found | {"rows": self._cache.evicted}

    def stacks(self) -> npt.NDArray[np.void]:
        """Stacks (struct stack) met for the first time. Drain samples before: each follows its
        stack."""
        stacks = self.object.rings["new_stacks"].drain()
        self._mappings.resolve(stacks)
        return stacks

    def forget_stacks(self) -> None:
        """Let the kernel side send every stack again."""
        known = self.object.maps["known_stacks"]
        keys, _ = known.read()
        for key in keys:
            known.delete(key.tobytes())

    def close(self) -> None:
        self._cache.close()
        self.binaries.close()
        self.object.close()
