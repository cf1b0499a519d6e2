"""From what the kernel wrote to what people read: names instead of numbers, UTC, symbols, owners.

`Enricher.metrics` works on columns; `Enricher.events` is where rows become objects, each column
converted once by the meaning of its field, each distinct identity resolved once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv6Address
from typing import Any

import numpy as np
import numpy.typing as npt

from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.families import Families
from huatuo.enrich.joined import CGROUPS
from huatuo.enrich.names import DeviceNames
from huatuo.enrich.subjects import owners_of, resolved, subject_of
from huatuo.enrich.symbols.kernel import KernelSymbols
from huatuo.enrich.watched import Watched
from huatuo.kernel.gfp import gfp_names
from huatuo.kernel.host import Host
from huatuo.kernel.vmlinux import kernel_enum
from huatuo.model.event import Container, Event, Process
from huatuo.model.metric import Metric
from huatuo.model.record import Field, RecordBatch, Schema
from huatuo.model.units import show_bytes, show_duration
from huatuo.probes.base import Probe

__all__ = ["Enricher", "path_of"]

log = logging.getLogger(__name__)

_MALFORMED = (ValueError, LookupError, TypeError)  # what decoding of captured bytes may raise
_SHOWN: dict[str, Callable[[Any], str]] = {
    "duration_ns_t": lambda ns: show_duration(ns / 1e9),
    "bytes_t": show_bytes,
}


class Enricher:
    """One per agent: it remembers counters, so that they never go backwards."""

    def __init__(
        self, host: Host, inventory: Inventory | None = None, watched: Watched | None = None
    ) -> None:
        self._host = host
        self._inventory = inventory or Inventory(host)
        self._devices = DeviceNames(
            host, self._inventory.process_in_netns, self._inventory.is_host_netns
        )
        self._families = Families(self._inventory, self._devices, watched)
        self.symbols = KernelSymbols(host)

    def metrics(self, metrics: Iterable[Metric]) -> list[Metric]:
        """The same families with names for labels, one row per distinct set of labels."""
        return self._families.joined(metrics, self._host.now_ns())

    def events(self, batch: RecordBatch, probe: type[Probe]) -> list[Event]:
        """One event per record, in ring order."""
        if not len(batch):
            return []
        subject = subject_of(batch.schema, probe, batch.ring)
        columns = self._columns(batch, subject)
        owners = owners_of(batch, subject, self._inventory)
        times = _times(batch, self._host)
        stacks = self._stacks(batch)
        processes = _processes(batch, subject)
        title = _Titles(batch.schema, probe, batch.ring)
        names = list(columns)
        found = []
        for at, row in enumerate(zip(*columns.values(), strict=True)):
            fields = dict(zip(names, row, strict=True))
            owner = owners[at]
            sentence = title.of(fields, owner)
            found.append(
                Event(
                    time=times[at],
                    probe=batch.probe,
                    kind=batch.ring,
                    title=sentence,
                    container=owner,
                    process=processes[at],
                    fields=fields,
                    stack=stacks[at],
                )
            )
        return found

    def _columns(self, batch: RecordBatch, subject: str) -> dict[str, list[Any]]:
        """JSON name → one value per record, of all fields that have no place of their own."""
        columns: dict[str, list[Any]] = {}
        netns = next((f.name for f in batch.schema if f.meaning.name == "netns_t"), "")
        for field in batch.schema:
            meaning = field.meaning.name
            column = batch.rows[field.name]
            if field.name in (subject, _time_field(batch.schema)) or meaning == "kstack_t":
                continue
            if meaning == "ifindex_t":
                numbers, names = _interface_names(field.name)
                columns[numbers] = column.tolist()
                spaces = batch.rows[netns] if netns else np.zeros(len(batch), np.uint32)
                pairs = zip(column.tolist(), spaces.tolist(), strict=True)
                columns[names] = [self._devices.interface(*pair) for pair in pairs]
            else:
                columns[field.json_name] = self._column(field, column)
        return columns or {"": [None] * len(batch)}

    def _column(self, field: Field, column: npt.NDArray[Any]) -> list[Any]:
        if field.members:
            return self._nested(field, column)
        meaning = field.meaning.name
        if field.labels or field.kernel_enum:
            labels = (kernel_enum(field.kernel_enum) if field.kernel_enum else {}) or field.labels
            return _mapped(column, lambda value: labels.get(value, str(value)))
        if meaning in CGROUPS:
            owners = resolved(column, self._inventory, meaning == "blkcg_id_t")
            return [owner.full_name if owner else "" for owner in owners]
        if meaning == "disk_t":
            return _mapped(column, self._devices.disk)
        if meaning == "kaddr_t":
            return _mapped(column, self.symbols.name)
        if meaning == "gfp_flags_t":
            return _mapped(column, gfp_names)
        if meaning == "ktime_ns_t":
            return _rfc3339(column, self._host)
        if meaning == "ip_address_t":
            return [_ip_address(row.tobytes()) for row in column]
        if meaning == "path_t":
            return [path_of(names) for names in column.tolist()]
        return _plain(column)

    def _nested(self, field: Field, column: npt.NDArray[Any]) -> list[Any]:
        """Structs as dictionaries; arrays of them as lists, without the elements that are empty."""
        flat = column.reshape(-1)
        names = [inner.json_name for inner in field.members]
        values = [self._column(inner, flat[inner.name]) for inner in field.members]
        found = [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
        if column.ndim == 1:
            return found
        length, empty = column.shape[1], bytes(column.dtype.itemsize)
        return [
            [found[at] for at in range(first, first + length) if flat[at].tobytes() != empty]
            for first in range(0, len(flat), length)
        ]

    def _stacks(self, batch: RecordBatch) -> list[list[str]]:
        for field in batch.schema:
            if field.meaning.name == "kstack_t":
                return [self.symbols.stack(frames) for frames in batch.rows[field.name].tolist()]
        return [[] for _ in range(len(batch))]


class _Titles:
    """Completes a record's fields and says it in one sentence."""

    def __init__(self, schema: Schema, probe: type[Probe], ring: str) -> None:
        self._template = probe.titles.get(ring, "")
        self._describe: Callable[[dict[str, Any]], object] | None = getattr(probe, "describe", None)
        self._fallback = f"{probe.name} {ring}"
        self._shown = [(f, _SHOWN[f.meaning.name]) for f in schema if f.meaning.name in _SHOWN]

    def of(self, fields: dict[str, Any], owner: Container | None) -> str:
        """Lets the probe decode `fields` in place; amounts are written with their unit."""
        sentence = self._described(fields)
        if not sentence and self._template:
            values = _Lenient(fields, container=owner.full_name if owner else "host")
            for field, shown in self._shown:
                amount = fields.get(field.json_name)
                if isinstance(amount, int):
                    values[field.name] = values[field.json_name] = shown(amount)
            try:
                sentence = self._template.format_map(values)
            except _MALFORMED:
                sentence = self._template
        for name, value in fields.items():
            if isinstance(value, bytes):
                fields[name] = value.hex()
        fields.pop("", None)
        return sentence or self._fallback

    def _described(self, fields: dict[str, Any]) -> str:
        """What the probe's own describe() gives: more fields, or the title itself."""
        if self._describe is None:
            return ""
        try:
            described = self._describe(fields)
        except _MALFORMED as error:
            log.debug("%s: a record cannot be decoded: %s", self._fallback, error)
            return ""
        if isinstance(described, Mapping):
            fields.update(described)
        return described if isinstance(described, str) else ""


class _Lenient(dict[str, Any]):
    """A missing name shows as itself."""

    def __missing__(self, key: str) -> str:
        return "{" + key + "}"


def path_of(names: bytes) -> str:
    """A path from its names, innermost first, each ended by a NUL; "…/" where its start is cut off.

    The root's own name is "/"; without any name there is no path.
    """
    parts = [name.decode(errors="replace") for name in names.split(b"\0") if name]
    if not parts:
        return ""
    start = "/" if parts[-1] == "/" else "…/"
    return start + "/".join(part for part in reversed(parts) if part != "/")


def _time_field(schema: Schema) -> str:
    return next((field.name for field in schema if field.meaning.name == "ktime_ns_t"), "")


def _times(batch: RecordBatch, host: Host) -> list[str]:
    """When each record happened; now, if its struct has no time."""
    name = _time_field(batch.schema)
    column = batch.rows[name] if name else np.full(len(batch), host.now_ns(), np.uint64)
    return _rfc3339(column, host)


def _rfc3339(column: npt.NDArray[Any], host: Host) -> list[str]:
    utc = column.astype(np.int64) + host.utc_offset_ns()
    return [f"{time}Z" for time in np.datetime_as_string(utc.view("M8[ns]")).tolist()]


def _processes(batch: RecordBatch, subject: str) -> list[Process | None]:
    """From tgid, tid and comm, with the subject's prefix: victim_cgroup has victim_tgid."""
    names = {field.name for field in batch.schema}
    prefix = subject.rpartition("_")[0] + "_" if "_" in subject else ""
    if f"{prefix}tgid" not in names:
        prefix = ""
    if f"{prefix}tgid" not in names:
        return [None] * len(batch)
    nothing = [0] * len(batch)

    def column(name: str) -> list[Any]:
        return _plain(batch.rows[prefix + name]) if prefix + name in names else nothing

    rows = zip(column("tgid"), column("comm"), column("tid"), strict=True)
    return [Process(pid, comm or "", tid) if pid or comm else None for pid, comm, tid in rows]


def _ip_address(raw: bytes) -> str:
    """16 bytes → "10.0.0.1" or "2001:db8::1"."""
    address = IPv6Address(raw)
    return str(address.ipv4_mapped or address)


def _interface_names(name: str) -> tuple[str, str]:
    """JSON names of an interface's number and name: ifindex and interface, dev_index and dev."""
    if name == "ifindex" or name.endswith("_ifindex"):
        return name, name.removesuffix("ifindex") + "interface"
    return f"{name}_index", name


def _mapped(column: npt.NDArray[Any], translate: Callable[[int], str]) -> list[str]:
    unique, codes = np.unique(column, return_inverse=True)
    names = [translate(value) for value in unique.tolist()]
    return [names[code] for code in codes.tolist()]


def _plain(column: npt.NDArray[Any]) -> list[Any]:
    """Python ints, lists of them, texts, or bytes of a byte array."""
    if column.dtype.kind == "S":
        return [text.split(b"\0", 1)[0].decode(errors="replace") for text in column.tolist()]
    if column.dtype.names:
        inner = {name: _plain(column[name]) for name in column.dtype.names}
        return [dict(zip(inner, row, strict=True)) for row in zip(*inner.values(), strict=True)]
    if column.dtype == np.uint8 and column.ndim == 2:
        return [row.tobytes() for row in column]
    return list(column.tolist())
