"""Profiles of the present for somebody who waits: probes, unwinder and store of their own.

`huatuo profile` records what its user asks for, a capture what its plan says.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from huatuo.enrich.containers.base import Kept
from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.profiling import Profiling
from huatuo.enrich.symbols.kernel import KernelSymbols
from huatuo.enrich.symbols.native import SymbolSettings
from huatuo.enrich.watched import Watched
from huatuo.kernel.host import Host
from huatuo.kernel.worker import Limits
from huatuo.probes.base import discover
from huatuo.probes.profiler import Profiler
from huatuo.probes.running import ProbeSet
from huatuo.profilers.native.unwinder import Unwinder
from huatuo.store.embedded import EmbeddedStore

__all__ = ["Recording"]

_POLL_SECONDS = 0.2
_TOLD_AFTER = {"report_after": 0.05, "look_every": 0.8}  # setting → share of the duration


class Recording:
    """Use as a context manager. `work` is an empty directory; the samples are in `store` there.

    `symbols`: the agent's tables of symbols, shared if they may be written. `only`: labels that
    samples must have; `watched`: whose samples are wanted.
    """

    def __init__(
        self,
        host: Host,
        work: Path,
        symbols: Path,
        only: Mapping[str, str] | None = None,
        store_bytes: int = 1 << 30,
        watched: Watched | None = None,
    ) -> None:
        self._host = host
        self._watched = watched or Watched()
        self._inventory = Inventory(host, kept=Kept(" ".join(self._watched.labels)))
        self._inventory.refresh()
        self._watched.follow(self._inventory)
        shared = symbols if os.access(symbols, os.W_OK) else work / "symbols"
        quick = SymbolSettings(limits=Limits(nice=0))
        kernel = KernelSymbols(host)
        with ExitStack() as stack:
            self.profiling = Profiling(host, self._inventory, kernel, shared, quick, only)
            stack.callback(self.profiling.close)
            self.store = EmbeddedStore(work / "store", max_bytes=store_bytes, max_age_seconds=86400)
            stack.callback(self.store.close)
            self._stack = stack.pop_all()

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def start(self, names: Sequence[str], seconds: float, values: Mapping[str, int]) -> None:
        """Start profilers; `values` are settings of those that know them. Raises KernelLacks."""
        self._probes = ProbeSet(self._host, names, _settings(names, seconds, values), self._watched)
        self._stack.callback(self._probes.stop)
        self._probes.start()

    @property
    def unwinder(self) -> Unwinder:
        assert self._probes.unwinder is not None
        return self._probes.unwinder

    def watch(self, seconds: float) -> None:
        """Take samples for so long; what came until then is kept if it is interrupted."""
        end, pause = time.monotonic() + seconds, _POLL_SECONDS
        try:
            while (left := end - time.monotonic()) > 0:
                select.select(self.unwinder.urgent_fds, [], [], min(left, pause))
                pause = min(self.unwinder.serve() or _POLL_SECONDS, _POLL_SECONDS)
                self._take()
                self._inventory.look_again()
        finally:
            self._take()

    def forget(self) -> None:
        """The samples until now: of code whose unwind rows were not there yet."""
        self.profiling.samples()

    def keep(self) -> None:
        """Store all samples since the start, or what was forgotten."""
        for batch in self.profiling.samples():
            self.store.profiles.append(batch)

    def name(self, seconds: float) -> None:
        """Name what was kept, as far as names are found in that time."""
        self.profiling.symbols.settle(seconds)
        self.store.profiles.set_lines(self.profiling.repairs())

    def _take(self) -> None:
        for cls, batch in self._probes.drain():
            if issubclass(cls, Profiler):
                self.profiling.take(cls, batch)
        self.profiling.take_stacks(self.unwinder)


def _settings(
    names: Sequence[str], seconds: float, values: Mapping[str, int]
) -> dict[str, dict[str, int]]:
    """What each profiler knows of `values`, and nothing of importance untold when it ends."""
    found: dict[str, dict[str, int]] = {}
    for name in names:
        found[name] = {}
        for setting in discover()[name].settings_schema():
            if setting.name in values:
                found[name][setting.name] = values[setting.name]
            elif share := _TOLD_AFTER.get(setting.name):
                found[name][setting.name] = int(min(setting.default, seconds * share * 1e9))
    return found
