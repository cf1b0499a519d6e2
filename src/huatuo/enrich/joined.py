"""Label columns that hold kernel identities → columns of names, for one table of a probe.

All families of a BPF map share their label columns, so a table is joined once per collection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.containers.units import HOST, UNATTRIBUTED
from huatuo.enrich.names import DeviceNames
from huatuo.model.event import Container
from huatuo.model.metric import Column

__all__ = ["CGROUPS", "DEVICES", "Joined", "join"]

CGROUPS = ("cgroup_id_t", "blkcg_id_t")
DEVICES = ("disk_t", "ifindex_t")
_LEFT_OUT = Container(name=UNATTRIBUTED.name, kind="rest", cgroup="")  # by the configuration
_MIX = np.uint64(0x9E3779B97F4A7C15)
Codes = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Joined:
    """Rows of one table, grouped by their labels as they are after the join.

    `order` (n,) sorts rows into groups, `starts` (g,) are the groups' first positions in it, and
    `labels` has g values per label; `groups` (g,) are hashes of them. `dropped` (n,) marks rows
    of owners forgotten long ago; `living` (g,) groups with other rows. Of those others, `rows`
    (m,) are hashes of the kernel identities, ascending, `at` (m,) where they are in the table,
    and `rows_groups` (m,) their groups. `watched` (g,): groups with rows of containers that are
    not left out.
    """

    order: Codes
    starts: Codes
    labels: dict[str, Column]
    groups: Hashes
    dropped: npt.NDArray[np.bool_]
    living: npt.NDArray[np.bool_]
    watched: npt.NDArray[np.bool_]
    rows: Hashes
    at: Codes
    rows_groups: Hashes


@dataclass(frozen=True, slots=True)
class _Factor:
    """One label column: row i has names[codes[i]]; `raw` (n,) tells rows apart before the join."""

    codes: Codes
    names: Sequence[tuple[str, ...]]
    raw: Hashes
    labels: tuple[str, ...]


def join(
    columns: Mapping[str, Column],
    rows: int,
    inventory: Inventory,
    devices: DeviceNames,
    allows: Callable[[Container], bool] | None = None,
) -> Joined:
    """`columns` of `rows` values each, resolved and grouped; owners not allowed are "other"."""
    dropped = np.zeros(rows, np.bool_)
    left_out = np.zeros(rows, np.bool_)
    netns = _netns_column(columns)
    factors = []
    for label, column in columns.items():
        if column.meaning.name in CGROUPS:
            codes, owners = _cgroups(label, column, inventory, netns, dropped)
            if allows is not None:
                owners = [_folded(owner, allows) for owner in owners]
                left_out |= np.array([owner is _LEFT_OUT for owner in owners], bool)[codes]
            factors.append(_named(label, column, codes, owners))
        elif column.meaning.name != "netns_t" or not _has_container(columns):
            factors.append(_plain(label, column, devices))
    if netns is not None:
        factors.append(_Factor(np.zeros(rows, np.int64), [()], netns.astype(np.uint64), ()))
    return _grouped(factors, rows, dropped, left_out)


def _folded(owner: Container, allows: Callable[[Container], bool]) -> Container:
    return owner if allows(owner) else _LEFT_OUT


def _has_container(columns: Mapping[str, Column]) -> bool:
    column = columns.get("container")
    return column is not None and column.meaning.name in CGROUPS


def _netns_column(columns: Mapping[str, Column]) -> npt.NDArray[np.generic] | None:
    """Namespaces that stand in for a container where a row has none."""
    for column in columns.values():
        if column.meaning.name == "netns_t" and _has_container(columns):
            return np.asarray(column.values)
    return None


def _cgroups(
    label: str,
    column: Column,
    inventory: Inventory,
    netns: npt.NDArray[np.generic] | None,
    dropped: npt.NDArray[np.bool_],
) -> tuple[Codes, list[Container]]:
    """Row i is about owners[codes[i]]. What lived too briefly to be seen counts for "other", as
    id 0 does."""
    raw = np.asarray(column.values).astype(np.uint64)
    unique, codes = np.unique(raw, return_inverse=True)
    block = column.meaning.name == "blkcg_id_t"
    ids: list[int] = unique.tolist()
    owners = inventory.owners(ids, block=block, fresh=True)
    for at, (cgroup_id, owner) in enumerate(zip(ids, owners, strict=True)):
        if not owner.cgroup:
            owners[at] = UNATTRIBUTED
            if inventory.has_forgotten(cgroup_id, block=block):
                dropped |= codes == at
    if label == "container" and netns is not None:
        return _by_netns(codes, owners, netns, raw, inventory)
    return codes, owners


def _named(label: str, column: Column, codes: Codes, owners: Sequence[Container]) -> _Factor:
    raw = np.asarray(column.values).astype(np.uint64)
    if label == "container" and any(owner.pod for owner in owners):
        names = [(owner.full_name, owner.pod, owner.namespace) for owner in owners]
        return _factor(codes, names, raw, (label, "pod", "namespace"))
    return _factor(codes, [(owner.full_name,) for owner in owners], raw, (label,))


def _by_netns(
    codes: Codes,
    owners: list[Container],
    netns: npt.NDArray[np.generic],
    raw: Hashes,
    inventory: Inventory,
) -> tuple[Codes, list[Container]]:
    """Rows without a cgroup go to the owner of their network namespace."""
    codes, owners = codes.copy(), list(owners)
    for inode in np.unique(netns[raw == 0]).tolist():
        if inode == 0:
            continue
        owner = inventory.owner_of_netns(inode)
        if owner is None and inventory.is_host_netns(inode):
            owner = HOST
        if owner is not None:
            codes[(raw == 0) & (netns == inode)] = len(owners)
            owners.append(owner)
    return codes, owners


def _plain(label: str, column: Column, devices: DeviceNames) -> _Factor:
    values = column.values
    if not isinstance(values, np.ndarray):
        names: dict[str, int] = {}
        found = np.fromiter(
            (names.setdefault(value, len(names)) for value in values), np.int64, len(values)
        )
        hashes = np.fromiter((hash(name) for name in names), np.int64, len(names))
        raw = hashes.view(np.uint64)[found] if len(names) else np.zeros(0, np.uint64)
        return _Factor(found, [(name,) for name in names], raw, (label,))
    unique, codes = np.unique(values, return_inverse=True)
    shown = [(_shown(column.meaning.name, value, devices),) for value in unique.tolist()]
    return _factor(codes, shown, values.astype(np.uint64), (label,))


def _shown(meaning: str, value: int, devices: DeviceNames) -> str:
    if meaning == "disk_t":
        return devices.disk(value)
    if meaning == "ifindex_t":
        return devices.interface(value)
    return str(value)


def _factor(
    codes: Codes, names: Iterable[tuple[str, ...]], raw: Hashes, labels: tuple[str, ...]
) -> _Factor:
    """Equal names get equal codes."""
    distinct: dict[tuple[str, ...], int] = {}
    renumbered = np.array([distinct.setdefault(name, len(distinct)) for name in names], np.int64)
    codes = renumbered[codes] if len(renumbered) else codes.astype(np.int64)
    return _Factor(codes, list(distinct), raw, labels)


def _grouped(
    factors: list[_Factor],
    rows: int,
    dropped: npt.NDArray[np.bool_],
    left_out: npt.NDArray[np.bool_],
) -> Joined:
    key = np.zeros(rows, np.int64)
    raw = np.zeros(rows, np.uint64)
    for factor in factors:
        key = key * max(len(factor.names), 1) + factor.codes
        raw = _mixed(raw, factor.raw)
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.diff(key[order], prepend=-1) != 0)
    labels, groups = _names_of(factors, order[starts])
    sizes = np.diff(starts, append=rows)
    group_of = np.empty(rows, np.uint64)
    group_of[order] = np.repeat(groups, sizes)
    kept = np.flatnonzero(~dropped)
    unique, first = np.unique(raw[kept], return_index=True)
    at = kept[first]
    living = _any(~dropped[order], starts)
    watched = _any(~left_out[order], starts)
    return Joined(order, starts, labels, groups, dropped, living, watched, unique, at, group_of[at])


def _any(rows: npt.NDArray[np.bool_], starts: Codes) -> npt.NDArray[np.bool_]:
    """By group, whether any of its rows is true."""
    return np.logical_or.reduceat(rows, starts) if len(rows) else np.zeros(0, np.bool_)


def _names_of(factors: list[_Factor], rows: Codes) -> tuple[dict[str, Column], Hashes]:
    """Labels of these rows, and a hash of each row's labels."""
    groups = np.zeros(len(rows), np.uint64)
    labels: dict[str, Column] = {}
    for factor in factors:
        codes = factor.codes[rows]
        hashes = np.array([hash(name) for name in factor.names], np.int64).view(np.uint64)
        groups = _mixed(groups, hashes[codes] if len(codes) else groups)
        for at, label in enumerate(factor.labels):
            names = [name[at] for name in factor.names]
            labels[label] = Column([names[code] for code in codes.tolist()])
    return labels, groups


def _mixed(hashes: Hashes, values: Hashes) -> Hashes:
    """Combine column after column into 64 bits; two rows collide once in 10^11 tables."""
    mixed = (hashes ^ values) * _MIX
    mixed = (mixed ^ (mixed >> np.uint64(32))) * _MIX
    return mixed ^ (mixed >> np.uint64(29))
