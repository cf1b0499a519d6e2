"""Probes whose events user space notices itself: from netlink, or in files that it reads anyway.

What they notice goes through the same as a record of the kernel's: a schema, a limit per second
(GCRA, as bpf/event.bpf.h), an account in which produced = delivered + suppressed + lost, and a
descriptor that becomes readable.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from huatuo.kernel.host import Host
from huatuo.model.meaning import MEANINGS
from huatuo.model.record import Field, RecordBatch, Schema
from huatuo.probes.base import Account, Setting
from huatuo.probes.reader import Reader

__all__ = ["Notices", "Watcher", "named", "notice"]

_DTYPES = {
    "ktime_ns_t": "u8",
    "duration_ns_t": "u8",
    "cgroup_id_t": "u8",
    "count_t": "u8",
    "ip_address_t": "(16,)u1",
    "netns_t": "u4",
    "ifindex_t": "u4",
    "tgid_t": "u4",
    "comm_t": "S16",
    "text_t": "S64",
    "long_text": "S4096",
    "port": "u2",
}
_WAITING = 4096  # notices that are kept until they are drained
_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    typedef: str
    help: str
    labels: tuple[str, ...] = ()


def named(name: str, labels: Sequence[str], help: str) -> _Member:
    """A field with one of these names; records hold its number."""
    return _Member(name, "count_t", help, tuple(labels))


def notice(name: str, *members: _Member | tuple[str, str, str]) -> Schema:
    """The schema of a record that user space fills: (name, typedef, help) of each field, and when.

    Typedefs are those of bpf/record.bpf.h; "port" is a plain number, "text_t" up to 64 bytes and
    "long_text" up to 4096.
    """
    wanted = [_Member("time", "ktime_ns_t", "when it was noticed")]
    wanted += [each if isinstance(each, _Member) else _Member(*each) for each in members]
    fields = tuple(
        Field(
            each.name,
            MEANINGS.get(each.typedef, MEANINGS["plain"]),
            each.help,
            dict(enumerate(each.labels)),
        )
        for each in wanted
    )
    return Schema(name, np.dtype([(each.name, _DTYPES[each.typedef]) for each in wanted]), fields)


class Notices:
    """One ring's worth of notices; `fd` is readable while some wait."""

    def __init__(self, host: Host, schema: Schema, per_second: int) -> None:
        self.schema = schema
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.produced = self.delivered = self.limited = self.lost = 0
        self._host = host
        self._interval = _SECOND // max(per_second, 1)
        self._clock = 0  # GCRA: runs one interval ahead per notice
        self._rows: list[tuple[Any, ...]] = []
        self._labels = {
            field.name: {label: value for value, label in field.labels.items()}
            for field in schema
            if field.labels
        }

    def add(self, **values: Any) -> None:
        """Fields by name, those with labels by label; what is left out is 0."""
        now = self._host.now_ns()
        self.produced += 1
        if self._clock > now + _SECOND:
            self.limited += 1
            return
        if len(self._rows) >= _WAITING:
            self.lost += 1
            return
        self._clock = max(self._clock, now) + self._interval
        self._rows.append(self._row({"time": now, **values}))
        if len(self._rows) == 1:
            os.eventfd_write(self.fd, 1)

    def _row(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        row = []
        for name in self.schema.dtype.names or ():
            value = values.get(name, 0 if self.schema.dtype[name].kind == "u" else b"")
            if name in self._labels:
                value = self._labels[name][value]
            elif isinstance(value, str):
                value = value.encode()
            elif isinstance(value, bytes) and self.schema.dtype[name].shape:
                value = tuple(value)
            row.append(value)
        return tuple(row)

    def drain(self) -> np.ndarray[Any, np.dtype[np.void]]:
        rows = np.array(self._rows, self.schema.dtype)
        self._rows.clear()
        self.delivered += len(rows)
        with suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        return rows

    def close(self) -> None:
        os.close(self.fd)


class Watcher(Reader):
    """A reader with one ring of notices: `schema` says what is in it, `watch` looks for them."""

    ring: ClassVar[str] = ""
    schema: ClassVar[Schema]

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self._notices: Notices | None = None

    @classmethod
    def settings_schema(cls) -> list[Setting]:
        return [Setting("max_per_second", "per_second_t", 20, "records per second of this probe")]

    @classmethod
    def event_schemas(cls) -> dict[str, Schema]:
        return {cls.ring: cls.schema}

    @property
    def is_started(self) -> bool:
        return self._notices is not None

    @property
    def notices(self) -> Notices:
        assert self._notices is not None, f"{self.name} is not started"
        return self._notices

    def start(self) -> None:
        super().start()
        self._notices = Notices(self.host, self.schema, self.settings["max_per_second"])

    def stop(self) -> None:
        super().stop()
        if self._notices is not None:
            self._notices.close()
            self._notices = None

    def watch(self) -> None:
        """Called before notices are drained, every fraction of a second."""

    def drain(self) -> Iterator[RecordBatch]:
        with self._counting_errors():
            self.watch()
        rows = self.notices.drain()
        if len(rows):
            yield RecordBatch(self.name, self.ring, self.schema, rows)

    def ring_fds(self) -> list[int]:
        return [self.notices.fd]

    def account(self) -> Account:
        notices = self._notices
        if notices is None:
            return Account(suppressed={}, lost={})
        return Account(
            notices.produced,
            notices.delivered,
            {"rate_limited": notices.limited},
            {"ring_full": notices.lost},
        )
