"""Processes killed because memory ran out, with the memory accounts of those concerned."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from huatuo.kernel.cgroupfs import hierarchies, identities
from huatuo.kernel.host import Host
from huatuo.model.meaning import MEANINGS
from huatuo.model.record import Field, RecordBatch, Schema
from huatuo.model.units import show_bytes
from huatuo.probes.bpf import BpfProbe

__all__ = ["Oom"]

_RING = "oom_kills"
_WALK_SECONDS = 5.0  # at most one walk over the cgroup tree in this time
_TEXT_BYTES = 4096
_FILES = {"stat": ("memory.stat",), "events": ("memory.events", "memory.oom_control")}  # v2, v1
_TEXTS = [(who, what) for who in ("victim", "domain") for what in _FILES]
_SCOPES = {
    "host": "the host ran out of memory",
    "cpuset": "the memory nodes of its cpuset ran out of memory",
    "memory_policy": "the memory nodes of its policy ran out of memory",
}


class Oom(BpfProbe):
    """Processes killed because memory ran out: which, whose limit, and who allocated.

    The event holds victim, trigger and the cgroup that reached its limit, each with its container;
    and memory.stat and memory.events (v1: memory.oom_control) of the victim's cgroup and of the
    limited one, read within a fraction of a second AFTER the kill.

    Hooks: oom:mark_victim and, where the kernel allows it, oom_kill_process() (mm/oom_kill.c).
    Kernels: task as argument of mark_victim since 6.9 and in stable kernels since. Without fentry
    and kprobes, whose memory ran out is inferred from the kernel stack and the cgroups' usage.
    Cost: nothing until a process is killed; then about 10 µs, and reading four files.
    """

    priority = 95
    titles = {_RING: "{victim_comm}[{victim_pid}] was killed: out of memory ({scope})"}  # noqa: RUF012
    subjects = {_RING: "victim_cgroup"}  # noqa: RUF012

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self._paths: dict[int, str] = {}
        self._walked = -_WALK_SECONDS

    @classmethod
    def event_schemas(cls) -> dict[str, Schema]:
        return {_RING: _with_texts(super().event_schemas()[_RING])}

    @property
    def notes(self) -> list[str]:
        if any("(inferred)" in hook for hook in self.hooks):
            return ["whose memory ran out is inferred; a cpuset's or policy's nodes count as host"]
        return []

    def decode(self, batch: RecordBatch) -> RecordBatch:
        """Add what the cgroups' files say now."""
        schema = _with_texts(batch.schema)
        rows = np.zeros(len(batch), schema.dtype)
        for name in batch.schema.dtype.names or ():
            rows[name] = batch.rows[name]
        self._find_paths(np.concatenate([rows["victim_cgroup"], rows["domain_cgroup"]]).tolist())
        for row in rows:
            for who, what in _TEXTS:
                path = self._paths.get(int(row[f"{who}_cgroup"]), "")
                row[_text_name(who, what)] = self._read_first(path, _FILES[what])
        return replace(batch, schema=schema, rows=rows)

    def _find_paths(self, ids: Iterable[int]) -> None:
        """Walk the cgroup tree if one of the ids is new, but not at every record of a storm."""
        now = time.monotonic()
        if now - self._walked < _WALK_SECONDS or all(i in self._paths for i in ids if i):
            return
        self._paths = {cgroup.id: cgroup.path for cgroup in identities(self.host)}
        self._walked = now

    def _read_first(self, path: str, names: Iterable[str]) -> bytes:
        root = hierarchies(self.host).identity
        if root is None or not path:
            return b""
        for name in names:
            try:
                return self.host.read(Path(root, path.lstrip("/"), name)).encode()[:_TEXT_BYTES]
            except OSError:
                continue  # the other cgroup version, or gone meanwhile
        return b""

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        """Parse the files that `decode` read; returns the event's title."""
        for who in ("victim", "domain"):
            found = {what: _pairs(str(fields.pop(_text_name(who, what), ""))) for what in _FILES}
            if any(found.values()):
                fields[f"{who}_memory_after_kill"] = found
        used = sum(fields.get(f"victim_{kind}_bytes", 0) for kind in ("anon", "file", "shmem"))
        victim = f"{fields.get('victim_comm', '')}[{fields.get('victim_pid', 0)}]"
        scope = str(fields.get("scope", ""))
        limit = fields.get("domain_limit_bytes", 0)
        trigger = f"{fields.get('trigger_comm', '')}[{fields.get('trigger_pid', 0)}]"
        cause = _SCOPES.get(scope, f"its memory limit of {show_bytes(limit)} was reached")
        by = "" if trigger == victim else f", by an allocation of {trigger}"
        return f"{victim} was killed with {show_bytes(used)} in memory: {cause}{by}"


def _text_name(who: str, what: str) -> str:
    return f"{who}_memory_{what}"


def _with_texts(schema: Schema) -> Schema:
    """The record's schema with room for the files' texts at its end."""
    fields = [*schema.fields]
    layout = [(name, schema.dtype[name]) for name in schema.dtype.names or ()]
    for who, what in _TEXTS:
        help_text = f"{' or '.join(_FILES[what])} of the {who}'s cgroup, read after the kill"
        fields.append(Field(_text_name(who, what), MEANINGS["text_t"], help_text))
        layout.append((_text_name(who, what), np.dtype(f"S{_TEXT_BYTES}")))
    return replace(schema, dtype=np.dtype(layout), fields=tuple(fields))


def _pairs(text: str) -> dict[str, int]:
    """Lines of `name number`; a line that is cut off or something else is left out."""
    pairs = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if value.isdigit():
            pairs[name] = int(value)
    return pairs
