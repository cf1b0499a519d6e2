"""Which containers are watched: the rules of the configuration, applied wherever owners are known.

kernel      cgroups whose records need not be produced (Probe.exclude)
records     those that were produced all the same, because their cgroup was new, are left out
metrics     what the others use is summed under the name "other", so that totals stay right

A container's rules are asked again when something more becomes known of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import numpy as np

from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.subjects import owners_of, subject_of
from huatuo.model.event import Container
from huatuo.model.record import RecordBatch
from huatuo.model.selection import Choice, Selection, parse_choice, parse_selection
from huatuo.probes.base import Probe

__all__ = ["Watched", "counts_blocks"]

_MOST_JUDGED = 32768


class _Allows:
    """What rules say of an owner, asked once for each: an owner of whom more becomes known is
    another object."""

    def __init__(self, everywhere: Choice, own: Selection | None = None) -> None:
        self._everywhere, self._own = everywhere, own
        self._judged: dict[int, tuple[Container, bool]] = {}  # by id(), which stays taken

    def __call__(self, owner: Container) -> bool:
        found = self._judged.get(id(owner))
        if found is None:
            allowed = self._everywhere.allows(owner) and (
                self._own is None or self._own.allows(owner)
            )
            if len(self._judged) >= _MOST_JUDGED:
                self._judged.clear()
            found = self._judged[id(owner)] = owner, allowed
        return found[1]


class Watched:
    """`include` and `exclude` hold for all probes, `by_probe` in addition; `texts` are these three,
    for another process. Raises ConfigError."""

    def __init__(
        self, include: str = "", exclude: str = "", by_probe: Mapping[str, str] | None = None
    ) -> None:
        self.texts = {"include": include, "exclude": exclude, "by_probe": dict(by_probe or {})}
        self.everywhere: Choice = parse_choice(include, exclude, "[containers]")
        self._for_all = _Allows(self.everywhere) if self.everywhere else None
        self._by_probe: dict[str, _Allows] = {}
        self.labels = self.everywhere.labels  # that the rules ask for: they must be kept
        for probe, text in (by_probe or {}).items():
            selection = parse_selection(text, f"[{probe}] containers")
            if selection is not None:
                self._by_probe[probe] = _Allows(self.everywhere, selection)
                self.labels |= selection.labels
        self._prefixes = {
            f"huatuo_{probe.replace('.', '_')}_": probe
            for probe in sorted(self._by_probe, key=len, reverse=True)
        }
        self._inventory: Inventory | None = None
        self._known: dict[tuple[str, bool], tuple[object, frozenset[int]]] = {}

    def follow(self, inventory: Inventory) -> None:
        """Whom to ask for the owners of cgroups; needed for `excluded` and `kept`."""
        self._inventory = inventory

    def rules_of(self, probe: str) -> Callable[[Container], bool] | None:
        """Whether a probe watches an owner; None if it watches all."""
        return self._by_probe.get(probe, self._for_all)

    def rules_of_family(self, metric: str) -> Callable[[Container], bool] | None:
        """The same by the name of one of its metrics, which begins with the probe's."""
        names = (name for prefix, name in self._prefixes.items() if metric.startswith(prefix))
        return self.rules_of(next(names, ""))

    # as ProbeSet asks

    def excluded(self, probe: type[Probe]) -> Collection[int] | None:
        allows = self.rules_of(probe.name)
        if allows is None or self._inventory is None:
            return None
        block = counts_blocks(probe)
        if block is None:
            return frozenset()  # `kept` leaves them out
        key = (probe.name if probe.name in self._by_probe else "", block)
        epoch, known = self._known.get(key, (None, frozenset()))
        if epoch != self._inventory.epoch:
            living = self._inventory.living(block=key[1])
            known = frozenset(cgroup for cgroup, owner in living if not allows(owner))
            self._known[key] = (self._inventory.epoch, known)
        return known

    def kept(self, batch: RecordBatch, probe: type[Probe]) -> RecordBatch:
        allows = self.rules_of(probe.name)
        if allows is None or self._inventory is None or not len(batch):
            return batch
        subject = subject_of(batch.schema, probe, batch.ring)
        owners = owners_of(batch, subject, self._inventory)
        wanted = np.array([owner is None or allows(owner) for owner in owners])
        return batch if wanted.all() else replace(batch, rows=batch.rows[wanted])


def counts_blocks(probe: type[Probe]) -> bool | None:
    """Whether the records of a probe are about cgroups of the io controller's hierarchy; None if
    some are and others are not: numbers of one hierarchy mean others in the other."""
    found = set()
    for ring, schema in probe.event_schemas().items():
        if subject := subject_of(schema, probe, ring):
            found.add(schema.field(subject).meaning.name == "blkcg_id_t")
    return None if len(found) > 1 else True in found
