"""Whom records are about: the owner of their cgroup, else of their network namespace."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.joined import CGROUPS
from huatuo.model.event import Container
from huatuo.model.record import RecordBatch, Schema
from huatuo.probes.base import Probe

__all__ = ["owners_of", "resolved", "subject_of"]


def subject_of(schema: Schema, probe: type[Probe], ring: str) -> str:
    """The field that says whom a record is about, "" if it has none."""
    cgroups = [field.name for field in schema if field.meaning.name in CGROUPS]
    preferred = probe.subjects.get(ring, "cgroup")
    if preferred in cgroups:
        return preferred
    return cgroups[0] if len(cgroups) == 1 else ""


def owners_of(batch: RecordBatch, subject: str, inventory: Inventory) -> list[Container | None]:
    """Of each record; None if it is about the host."""
    found: list[Container | None] = [None] * len(batch)
    if subject:
        block = batch.schema.field(subject).meaning.name == "blkcg_id_t"
        found = resolved(batch.rows[subject], inventory, block)
    netns = next((f.name for f in batch.schema if f.meaning.name == "netns_t"), "")
    if netns and None in found:
        spaces = batch.rows[netns].tolist()
        for at, owner in enumerate(found):
            if owner is None and spaces[at]:
                found[at] = inventory.owner_of_netns(spaces[at])
    return found


def resolved(column: npt.NDArray[Any], inventory: Inventory, block: bool) -> list[Container | None]:
    """Owners; None for id 0, which means that the kernel side knows none."""
    unique, codes = np.unique(column, return_inverse=True)
    found: list[Container | None] = list(inventory.owners(unique.tolist(), block=block))
    if len(unique) and unique[0] == 0:
        found[0] = None
    return [found[code] for code in codes.tolist()]
