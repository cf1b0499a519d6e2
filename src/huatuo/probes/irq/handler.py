"""Handlers of hardware interrupts, from their entry and exit tracepoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np

from huatuo.model.meaning import MEANINGS
from huatuo.model.record import Field, Schema
from huatuo.probes.bpf import BpfProbe, Rows

__all__ = ["Handler"]

_KEY = Schema(
    "handler",
    np.dtype([("irq", "u4"), ("interrupt", "S32")]),
    (Field("irq", MEANINGS["plain"]), Field("interrupt", MEANINGS["plain"])),
)


class Handler(BpfProbe):
    """How long the handlers of each hardware interrupt run; those that take too long.

    Nothing else happens on a CPU while a handler runs, no other interrupt either. One that is slow
    is the driver's fault (irq.interrupts tells how often it is called), or the hypervisor's, which
    took the CPU away meanwhile. The part of a handler that runs in a thread is not in it: it waits
    and runs as any task. Interrupts without a device, as the local timer's and those between CPUs,
    have no handler of this kind.
    Hooks: irq:irq_handler_entry, irq:irq_handler_exit (kernel/irq/handle.c).
    Cost: about 90 + 130 ns per handler, of which two readings of the clock take half, and entering
    the two programs.
    """

    priority = 45
    titles: ClassVar[Mapping[str, str]] = {
        "slow_handlers": "the handler of interrupt {irq} ({interrupt}) ran for {run_ns} on CPU "
        "{cpu}, in front of {comm}",
    }
    subjects: ClassVar[Mapping[str, str]] = {"slow_handlers": "cgroup"}

    def tables(self) -> Iterator[tuple[Schema, Rows, Schema, Rows]]:
        """Handlers by number and name of the interrupt instead of the kernel's address."""
        maps = self._running().maps
        table = maps["handlers"]
        assert table.value
        found, values = table.read()
        named, texts = maps["names"].read()
        names = dict(zip(named.tolist(), texts["name"].tolist(), strict=True))
        keys = np.zeros(len(found), _KEY.dtype)
        keys["irq"] = found["irq"]
        keys["interrupt"] = [names.get(key, b"") for key in found.tolist()]
        yield _KEY, keys, table.value, values
