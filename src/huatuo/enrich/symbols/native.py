"""Addresses in native files → functions, source files and lines. One `Symbols` per agent.

    symbols.lines(file, addresses)   a table is mapped: the answer; else None, and it is built
    await symbols.run()              builds, in worker processes (or `settle`, without a loop)
    symbols.ready()                  files that can be asked again

All in one thread. Of strangers' files the agent itself only ever reads the first bytes, and those
only of a file without a build id.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from huatuo.enrich.symbols.binary import BinaryFile, Identity, key_by_content
from huatuo.enrich.symbols.builder import Builder, BuilderCounts, SymbolSettings
from huatuo.enrich.symbols.cache import Cache
from huatuo.enrich.symbols.jit import JitSymbols
from huatuo.enrich.symbols.layer import NONE
from huatuo.enrich.symbols.table import Source, Table
from huatuo.kernel.host import Host
from huatuo.model.profile import Line

__all__ = ["BinaryFile", "Identity", "SymbolSettings", "Symbols"]

_MOST_OPEN = 128  # tables
_MOST_KEYS = 8192
_MOST_PLACES = 8192  # that are kept as objects
_AGAIN_SECONDS = 30  # until a file that could not be opened is tried again


class Symbols:
    """`directory` is where tables are kept. Raises OSError if it cannot be made."""

    def __init__(self, host: Host, directory: Path, settings: SymbolSettings | None = None) -> None:
        settings = settings or SymbolSettings()
        self._cache = Cache(directory, settings.max_bytes)
        self._builder = Builder(self._cache, host.root, settings)
        self._jit = JitSymbols(host)
        self._tables: OrderedDict[str, Table] = OrderedDict()
        self._content_keys: OrderedDict[Identity, str] = OrderedDict()
        self._refused: dict[str, float] = {}  # key → when its file could not be opened
        self._waiting: dict[str, dict[Identity, BinaryFile]] = {}
        self._ready: list[BinaryFile] = []
        self._places: dict[tuple[str, str, int], tuple[Line, ...]] = {}

    def lines(self, file: BinaryFile, addresses: Sequence[int]) -> list[tuple[Line, ...] | None]:
        """For each address, as linked, the functions there, innermost first, each inlined into the
        next; () where nothing is known, None while the table is being built.

        A return address is behind the call: subtract 1 before.
        """
        key = self._key(file)
        table = self._table(key, file)
        if table is None:
            return [None] * len(addresses)
        name, known = file.name, self._places
        if len(known) > _MOST_PLACES:
            known.clear()
        found: list[tuple[Line, ...] | None] = []
        for place in table.places_of(addresses):
            if place == NONE:
                found.append(())
                continue
            lines = known.get((key, name, place))
            if lines is None:
                lines = known[key, name, place] = table.lines(place, name)
            found.append(lines)
        return found

    def lines_jit(self, pid: int, addresses: Sequence[int]) -> list[tuple[Line, ...]]:
        """For code in anonymous memory: what the process itself wrote into its perf map."""
        return self._jit.lines(pid, addresses)

    def sources(self, file: BinaryFile) -> Source | None:
        """Where the symbols of a file come from, None while that is not known."""
        table = self._table(self._key(file), file)
        return None if table is None else table.sources

    def ready(self) -> list[BinaryFile]:
        """Files whose table was built since the last call: `lines` of them answers now.

        To be called every few seconds: it also gives memory back.
        """
        if not self._builder.is_running:
            self._done(self._builder.poll())
        for key, table in list(self._tables.items()):
            table.rest()
            if self._cache.is_due(table) and key not in self._builder:
                self._close(key)  # the next to ask has it built again
        found, self._ready = self._ready, []
        return found

    async def run(self) -> None:
        """Builds what is asked for, until cancelled."""
        await self._builder.run(self._done)

    def settle(self, seconds: float) -> bool:
        """Builds all that is asked for, at most so long, at full speed: whether all is there."""
        deadline = time.monotonic() + seconds
        while True:
            self._done(self._builder.poll(in_haste=True))
            left = deadline - time.monotonic()
            if not self._builder or left <= 0:
                return not self._builder
            self._builder.wait(min(left, 0.5))

    @property
    def counts(self) -> BuilderCounts:
        return self._builder.counts

    @property
    def pending(self) -> int:
        """Files whose tables are wanted and not there yet."""
        return len(self._builder)

    def close(self) -> None:
        self._builder.close()
        for table in self._tables.values():
            table.close()
        self._tables.clear()

    def _key(self, file: BinaryFile) -> str:
        """The name of a file's table; empty if it has no build id and cannot be opened now."""
        key = file.key or self._content_keys.get(file.identity, "")
        if not key:
            try:
                key = self._content_keys[file.identity] = key_by_content(file)
            except OSError:
                return ""
            if len(self._content_keys) > _MOST_KEYS:
                self._content_keys.popitem(last=False)
        return key

    def _table(self, key: str, file: BinaryFile) -> Table | None:
        table = self._tables.get(key)
        if table is not None:
            self._tables.move_to_end(key)
            return table
        if key in self._builder:
            self._waiting.setdefault(key, {})[file.identity] = file
            return None
        if not key:
            return None
        table, build = self._cache.open(key)
        if table is not None:
            self._keep_open(key, table)
        if build:
            self._want(key, file)
        return table

    def _want(self, key: str, file: BinaryFile) -> None:
        now = time.monotonic()
        if now - self._refused.get(key, -_AGAIN_SECONDS) < _AGAIN_SECONDS:
            return
        if self._builder.want(key, file):
            self._waiting.setdefault(key, {})[file.identity] = file
            return
        if len(self._refused) >= _MOST_KEYS:
            self._refused.clear()
        self._refused[key] = now

    def _keep_open(self, key: str, table: Table) -> None:
        self._tables[key] = table
        if len(self._tables) > _MOST_OPEN:
            self._close(next(iter(self._tables)))

    def _done(self, keys: list[str]) -> None:
        for key in keys:
            self._close(key)  # there is a better one now
            self._ready.extend(self._waiting.pop(key, {}).values())

    def _close(self, key: str) -> None:
        if (table := self._tables.pop(key, None)) is not None:
            table.close()
        for place in [place for place in self._places if place[0] == key]:
            del self._places[place]
