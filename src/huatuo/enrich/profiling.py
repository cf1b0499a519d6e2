"""From what profilers drained to samples with names, for the agent and the command line alike.

profiling.take(profiler, batch)    as often as rings are drained
profiling.take_stacks(unwinder)    right after
profiling.samples()                every interval: what came since, with names
profiling.repairs()                names that became known for what was handed out before
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.profiles import ProfileEnricher
from huatuo.enrich.stacks import Stacks
from huatuo.enrich.symbols.kernel import KernelSymbols
from huatuo.enrich.symbols.native import Symbols, SymbolSettings
from huatuo.kernel.host import Host
from huatuo.model.profile import Line, Location, Samples
from huatuo.model.record import RecordBatch
from huatuo.probes.profiler import Profiler
from huatuo.profilers.native.unwinder import Unwinder

__all__ = ["Profiling"]


class Profiling:
    """`directory` is where tables of symbols are kept; `only` as for ProfileEnricher.

    Raises OSError if the directory cannot be made.
    """

    def __init__(
        self,
        host: Host,
        inventory: Inventory,
        kernel: KernelSymbols,
        directory: Path,
        settings: SymbolSettings | None = None,
        only: Mapping[str, str] | None = None,
    ) -> None:
        self.symbols = Symbols(host, directory, settings)
        self._stacks = Stacks(kernel, self.symbols, host.proc)
        self._enricher = ProfileEnricher(host, inventory, self._stacks, only)

    @property
    def unknown(self) -> Mapping[str, int]:
        """Profiler → its samples so far whose stack never came."""
        return self._enricher.unknown

    def take(self, profiler: type[Profiler], batch: RecordBatch) -> None:
        self._enricher.take(profiler, batch)

    def take_stacks(self, unwinder: Unwinder) -> None:
        """After all profilers were drained: each sample follows its stack."""
        self._stacks.add(unwinder.stacks(), unwinder.binaries)
        if self._stacks.overflowed:
            unwinder.forget_stacks()
            self._stacks.forget()

    def samples(self) -> list[Samples]:
        """A batch for each type that has any."""
        return [batch for batch in self._enricher.samples() if len(batch)]

    def repairs(self) -> dict[Location, tuple[Line, ...]]:
        """For ProfileStore.set_lines."""
        return self._stacks.named_since()

    def close(self) -> None:
        self.symbols.close()
