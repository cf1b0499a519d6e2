"""Probes with a .bpf.c sibling: everything is read from the object's BTF.

- Rings (RING in bpf/record.bpf.h) are the probe's events.
- Maps whose value has a counter_t, gauge_t or …_histogram_t are its metrics: member `wait` of a
  probe cpu.sched becomes huatuo_cpu_sched_wait_seconds, and the members of the key its labels.
- `const volatile` globals are its settings; the compiled values are the defaults.
- The map `account` (bpf/event.bpf.h) says what was produced, suppressed and lost.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from huatuo.errors import KernelLacks
from huatuo.kernel.btf import Btf, is_exported
from huatuo.kernel.cbpf import translated
from huatuo.kernel.cgroupfs import identities, identity_is_v1
from huatuo.kernel.features import bpf_unavailable
from huatuo.kernel.host import Host
from huatuo.kernel.maps import Map
from huatuo.kernel.object import BpfObject, Statistics
from huatuo.kernel.pcap import compiled
from huatuo.kernel.vmlinux import kernel_enum
from huatuo.model.meaning import Role
from huatuo.model.metric import Column, Metric
from huatuo.model.record import Field, RecordBatch, Schema
from huatuo.probes.base import Account, Probe, Setting

__all__ = ["SCALAR", "BpfProbe", "label_name"]

SCALAR = "value"  # a key that is no struct only counts rows; it is no label
# set by us, not by the user
_INTERNAL: Mapping[str, Callable[[Host], int]] = {
    "cgroup_v1": lambda host: int(identity_is_v1(host)),
    "jiffy_ns": lambda host: host.jiffy_ns,
    "page_size": lambda host: host.page_size,
    "wanted_cgroups": lambda _: 0,
    "has_packet_filter": lambda _: 0,
}
_NOT_LISTED = 2  # WANTED_NOT_LISTED of bpf/wanted.bpf.h
_MOST_LISTED = 16384  # cgroups that the kernel is told to leave out
_shared: dict[str, _Shared] = {}  # maps that started probes of this process have in common
_FULL = 0.75  # share of a map's entries from which those of containers that are gone are dropped
_SUPPRESSED = ("rate_limited", "excluded")
Rows = npt.NDArray[np.void]


@dataclass(slots=True)
class _Shared:
    fd: int
    users: int = 0


class BpfProbe(Probe):
    """Override `prepare` to fill maps before programs attach, `tables` to join maps for export."""

    map_sizes: ClassVar[Mapping[str, int]] = {}
    held: ClassVar[Collection[str]] = ()  # roles attached only when the probe asks for it
    late: ClassVar[Mapping[str, str]] = {}  # roles → module that brings their hook; "": the kernel
    optional: ClassVar[Collection[str]] = ()  # roles without which the others still are of use

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self.object: BpfObject | None = None
        self._delivered = 0
        self._unwanted: set[int] | None = None  # None: nobody asks
        self._listed: set[int] = set()
        self._tried: set[str] = set()  # modules whose hooks were looked for, since they are there
        self._packet_filter = b""

    @classmethod
    def object_path(cls) -> Path:
        module = sys.modules[cls.__module__]
        assert module.__file__
        return Path(module.__file__).with_suffix(".bpf.o")

    @classmethod
    def btf(cls) -> Btf:
        return Btf.of(cls.object_path())

    @classmethod
    def settings_schema(cls) -> list[Setting]:
        found = []
        for variable in cls.btf().variables.values():
            if variable.name in _INTERNAL:
                continue
            typedef = variable.typedefs[0] if variable.typedefs else str(variable.dtype)
            default = bool(variable.default) if typedef == "bool" else variable.default
            found.append(Setting(variable.name, typedef, default, variable.help))
        return found

    @classmethod
    def event_schemas(cls) -> dict[str, Schema]:
        return dict(cls.btf().records)

    @classmethod
    def unavailable(cls, host: Host) -> str:
        if not cls.object_path().exists():
            return "its BPF object is not built; run `make build`"
        return bpf_unavailable(host)

    @property
    def hooks(self) -> list[str]:
        if self.object is None:
            return []
        return [p.hook for p in self.object.programs if p.links]

    def start(self) -> None:
        values = self.settings | {name: value(self.host) for name, value in _INTERNAL.items()}
        values["has_packet_filter"] = bool(self._packet_filter)
        variables = self.btf().variables
        if self._unwanted is not None:
            values["wanted_cgroups"] = _NOT_LISTED
        tunables = {name: values[name] for name in variables}  # some settings are Python's only
        opened = self._open(tunables)
        try:
            opened.load()
            opened.attach(self._prepare)
        except BaseException:
            opened.close()
            raise
        self.object = opened
        self._share(opened)
        self._tried = set()
        self._attach_late(first=True)

    def _open(self, tunables: Mapping[str, int]) -> BpfObject:
        held = {*self.held, *self.late}
        shared = {name: _shared[name].fd for name in self.shares if name in _shared}
        optional = {*self.optional, *self.late}
        bodies = {"packet_filter": self._packet_filter} if self._packet_filter else {}
        path = self.object_path()
        return BpfObject(path, tunables, self._sizes(), held, shared, optional, bodies)

    def _sizes(self) -> dict[str, int]:
        """Of maps, where they differ from those in the object."""
        sizes = dict(self.map_sizes)
        if self._unwanted is not None and "wanted_cgroups" in self.btf().variables:
            sizes["listed_cgroups"] = _MOST_LISTED
        return sizes

    @classmethod
    def sees_packets(cls) -> bool:
        return "has_packet_filter" in cls.btf().variables

    def want_packets(self, expression: str) -> None:
        """Only events about packets that tcpdump would show for this; before it is started.

        Raises ConfigError for an expression that is none, KernelLacks without libpcap.
        """
        self._packet_filter = translated(compiled(expression))

    def _share(self, opened: BpfObject) -> None:
        """The first that starts brings the map, the last that stops takes it away."""
        for name in self.shares:
            if name not in _shared and name in opened.maps:
                _shared[name] = _Shared(os.dup(opened.maps[name].fd))
            if name in _shared:
                _shared[name].users += 1

    def _unshare(self) -> None:
        for name in _shared.keys() & set(self.shares):
            _shared[name].users -= 1
            if not _shared[name].users:
                os.close(_shared.pop(name).fd)

    def _attach_late(self, first: bool = False) -> None:
        """Hooks of modules, or of the kernel where that code is built in: once each is there."""
        loaded = {module for module in self.late.values() if self._is_loaded(module)}
        for role, module in self.late.items():
            if self.is_wanted(role) and (first or module in loaded - self._tried):
                with suppress(KernelLacks):  # not there, or changed: said by `notes`
                    self._running().attach_held(role)
        self._tried = loaded

    def is_wanted(self, role: str) -> bool:  # noqa: ARG002
        """Whether a role of `late` is of use, seeing what is attached."""
        return True

    def _is_loaded(self, module: str) -> bool:
        return (self.host.sys / "module" / module).exists()

    @property
    def notes(self) -> list[str]:
        """What is not watched for want of a hook."""
        if self.object is None:
            return []
        found = [
            f"without {role}: {why}" for role in self.optional if (why := self.object.why_not(role))
        ]
        for role, module in self.late.items():
            if self.is_wanted(role) and not self.object.is_attached(role):
                waits = module and module not in self._tried
                why = f"attached once {module} is loaded" if waits else "not in this kernel"
                found.append(self.object.why_not(role) or f"{self.object.hook_of(role)}: {why}")
        return found

    def exclude(self, cgroups: Collection[int]) -> None:
        self._unwanted = set(cgroups)
        if self.object is not None:
            self._list_unwanted(self.object)

    def _list_unwanted(self, opened: BpfObject) -> None:
        listed = opened.maps.get("listed_cgroups")
        if listed is None or self._unwanted is None:
            return
        for cgroup in self._listed - self._unwanted:
            listed.delete(cgroup.to_bytes(8, sys.byteorder))
        self._listed &= self._unwanted
        with suppress(OSError):  # it is full: whoever drains leaves out the others
            for cgroup in self._unwanted - self._listed:
                listed.update(cgroup.to_bytes(8, sys.byteorder), bytes(4))
                self._listed.add(cgroup)

    def _prepare(self, opened: BpfObject) -> None:
        self._listed = set()
        self._list_unwanted(opened)
        self.prepare(opened)

    def prepare(self, opened: BpfObject) -> None:
        """Fill maps, after loading and before attaching."""

    def stop(self) -> None:
        if self.object is not None:
            self.object.close()
            self.object = None
            self._unshare()

    def _running(self) -> BpfObject:
        if self.object is None:
            raise KernelLacks(f"{self.name} is not started")
        return self.object

    def tables(self) -> Iterator[tuple[Schema, Rows, Schema, Rows]]:
        """(key schema, keys, value schema, values) of every exported map."""
        for found in self._running().maps.values():
            if found.name != "account" and found.key and found.value and is_exported(found.value):
                keys, values = found.read()
                if len(keys) > _FULL * found.max_entries:
                    keys, values = self._without_gone(found, keys, values)
                yield found.key, keys, found.value, values

    def _without_gone(self, table: Map, keys: Rows, values: Rows) -> tuple[Rows, Rows]:
        """Drop a container's last numbers only when their place is needed."""
        assert table.key
        names = [field.name for field in table.key if field.meaning.name == "cgroup_id_t"]
        if not names:
            return keys, values
        alive = np.array([0, *(cgroup.id for cgroup in identities(self.host))], np.uint64)
        gone = np.any([~np.isin(keys[name], alive) for name in names], axis=0)
        for key in keys[gone]:
            table.delete(key.tobytes())
        return keys[~gone], values[~gone]

    def collect(self) -> Iterator[Metric]:
        self._attach_late()
        for key, keys, value, values in self.tables():
            labels = {
                label_name(f): Column(label_values(f, keys[f.name]), f.meaning)
                for f in key
                if f.name != SCALAR
            }
            for field in value:
                if field.meaning.role is not Role.NONE:
                    yield self._metric(field, values[field.name], labels)

    @classmethod
    def metric_name(cls, field: Field) -> str:
        """huatuo_<probe>_<member>_<unit>, counters with _total."""
        parts = ["huatuo", *cls.name.split("."), field.name, field.meaning.unit]
        if field.meaning.role is Role.COUNTER:
            parts.append("total")
        return "_".join(part for part in parts if part)

    def _metric(
        self, field: Field, column: npt.NDArray[Any], labels: Mapping[str, Column]
    ) -> Metric:
        name, meaning = self.metric_name(field), field.meaning
        if meaning.role is Role.HISTOGRAM:
            sums = column["sum"] * meaning.scale
            return Metric(name, meaning.role, field.help, column["slots"], labels, sums)
        return Metric(name, meaning.role, field.help, column * meaning.scale, labels)

    def drain(self) -> Iterator[RecordBatch]:
        for ring in self._running().rings.values():
            rows = ring.drain()
            if len(rows):
                self._delivered += len(rows)
                yield self.decode(RecordBatch(self.name, ring.name, ring.schema, rows))

    def decode(self, batch: RecordBatch) -> RecordBatch:
        """Hook for a probe that must complete its records in user space."""
        return batch

    def ring_fds(self) -> list[int]:
        return [ring.fd for ring in self._running().rings.values()]

    def cost(self) -> dict[str, Statistics]:
        return self._running().statistics()

    def account(self) -> Account:
        account = self._running().maps.get("account")
        if account is None:
            return Account(suppressed={}, lost={})
        _, values = account.read()
        counts = {name: int(values[name][0]) for name in values.dtype.names or ()}
        produced = counts.pop("produced")
        suppressed = {reason: counts.pop(reason) for reason in _SUPPRESSED}
        return Account(produced, self._delivered, suppressed, counts)


def label_name(field: Field) -> str:
    """The label of a key's member: the container is always `container`, a disk `device`."""
    return {"cgroup": "container", "disk": "device"}.get(field.name, field.name)


def label_values(
    field: Field, column: npt.NDArray[np.generic]
) -> list[str] | npt.NDArray[np.generic]:
    """Enum members become their labels, texts text; identities stay numbers until enrichment."""
    labels = (kernel_enum(field.kernel_enum) if field.kernel_enum else {}) or field.labels
    if labels:
        return [labels.get(int(value), str(value)) for value in column]
    if column.dtype.kind == "S":
        return [text.split(b"\0", 1)[0].decode(errors="replace") for text in column.tolist()]
    return column
