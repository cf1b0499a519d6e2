"""Errors that file systems find, data that is lost, and file systems that became read-only."""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from huatuo.kernel.host import Host
from huatuo.kernel.kmsg import Kmsg
from huatuo.kernel.mounts import mounts
from huatuo.model.record import RecordBatch, Schema
from huatuo.probes.base import Account
from huatuo.probes.bpf import BpfProbe, Rows

__all__ = ["Errors"]

_RING = "fs_errors"
_LOOK_SECONDS = 5.0  # how often the state of file systems is read
_AGAIN_SECONDS = 60.0  # after which a line of the log that differs in numbers only is an event
_MOST_LINES = 256  # of the log that are remembered for that
_WORST = 3  # priority of the log up to which lines are errors
# what kind of file system says it, and about which device
_LOG = re.compile(
    r"(?P<kind>EXT[234]-fs|JBD2|Aborting journal|BTRFS|XFS|F2FS-fs|FAT-fs|exFAT-fs|ntfs3|NILFS|"
    r"GFS2|OCFS2|JFS|UBIFS)(?P<rest>.*)"
)
# From 6.12 (and stable kernels) to 6.14 nothing else says so; kernel/mounts.py
_TURNED = re.compile(r"EXT4-fs \((?P<device>[^)]+)\): Remounting filesystem read-only")
_NUMBERS = re.compile(r"[0-9]+|0x[0-9a-f]+")
_DEVICE = re.compile(r"\((?:device )?([\w!.-]+)|(?:on|for)(?: device)? ([\w!.-]*[\w!])")
_KINDS = {"FAT-fs": "vfat", "exFAT-fs": "exfat", "JBD2": "ext4", "Aborting journal": "ext4"}
# role → how the log says what that hook has said already
_SAID = {
    "ext4_error": re.compile(r"EXT4-fs error "),
    "xfs_shutdown": re.compile(r"XFS .*([Ss]hut(ting)? ?down|Please un?mount)"),
    "btrfs_error": re.compile(r"BTRFS: error \(device"),
}


class Errors(BpfProbe):
    """File systems that find errors or stop writing, data that could not be written, who was told.

    Written data that the disk then refuses is lost without a word to the process, unless it calls
    fsync: both are events, with the file. What file systems find wrong in themselves is an event
    with the place in the kernel's source; so is a file system that turns read-only, whoever asked
    for it.
    Hooks: filemap:filemap_set_wb_err and file_check_and_advance_wb_err (mm/filemap.c) for every
    file system; ext4:ext4_error, xfs:xfs_force_shutdown; __btrfs_handle_fs_error() by kprobe;
    /proc/1/mountinfo; what is only there: error lines of the kernel's log (/dev/kmsg).
    Kernels: xfs_force_shutdown since 5.15; hooks of modules are attached when the module is there.
    Cost: nothing until there is an error; one read of the log per half second, and of mountinfo
    per 5 s.
    """

    priority = 90
    late: ClassVar[Mapping[str, str]] = {
        "ext4_error": "ext4",
        "xfs_shutdown": "xfs",
        "btrfs_error": "btrfs",
    }
    titles: ClassVar[Mapping[str, str]] = {_RING: "{source}: error of {filesystem} on {disk}"}
    subjects: ClassVar[Mapping[str, str]] = {_RING: "cgroup"}

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self._log: Kmsg | None = None
        self._no_log = ""
        self._writable: dict[int, str] = {}  # device → where it is mounted
        self._declared: set[int] = set()  # what the log says is read-only
        self._told: set[int] = set()  # what an event said became read-only
        self._look_at = 0.0
        self._lines: dict[str, float] = {}  # what the log said lately, without its numbers
        self._own = self._repeated = 0  # records made here, and lines that would have been some

    def start(self) -> None:
        super().start()
        try:
            self._log, self._no_log = Kmsg(self.host), ""
        except OSError as error:
            self._no_log = f"without the kernel's log: {error.strerror}"
        self._writable, self._look_at = self._find_writable(), 0.0

    def stop(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None
        super().stop()

    @property
    def notes(self) -> list[str]:
        return [*super().notes, *([self._no_log] if self._no_log else [])]

    def account(self) -> Account:
        account = super().account()
        suppressed = {**account.suppressed, "repeated": self._repeated}
        produced = account.produced + self._own + self._repeated
        return replace(account, produced=produced, suppressed=suppressed)

    def drain(self) -> Iterator[RecordBatch]:
        for batch in super().drain():
            for disk in batch.rows["disk"].tolist():
                self._suspect(disk)
            yield batch
        rows = [*self._from_log(), *self._turned_read_only()]
        if rows:
            self._own += len(rows)
            self._delivered += len(rows)
            yield RecordBatch(self.name, _RING, _schema(), np.concatenate(rows))

    def _suspect(self, disk: int, read_only: bool = False) -> None:
        """Look at once whether it turned read-only, even if it was mounted a moment ago."""
        self._look_at = 0.0
        if disk not in self._told:
            self._writable.setdefault(disk, "")
        if read_only:
            self._declared.add(disk)

    def _find_writable(self) -> dict[int, str]:
        """All file systems that can be written to: device number → its first mount point."""
        found: dict[int, str] = {}
        mounted = list(mounts(self.host))
        self._declared &= {mount.number for mount in mounted}
        for mount in mounted:
            if not mount.filesystem_read_only and mount.number not in self._declared:
                found.setdefault(mount.number, mount.target)
        self._told &= {mount.number for mount in mounted} - found.keys()
        return found

    def _turned_read_only(self) -> Iterator[Rows]:
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_SECONDS
        before, self._writable = self._writable, self._find_writable()
        gone = before.keys() - self._writable.keys()
        for mount in mounts(self.host) if gone else ():
            if mount.number in gone:
                gone.remove(mount.number)  # once, however often it is mounted
                self._told.add(mount.number)
                target = before[mount.number] or mount.target
                yield self._record("read_only", mount.filesystem, mount.number, target)

    def _from_log(self) -> Iterator[Rows]:
        for line in self._log.lines() if self._log else ():
            if turned := _TURNED.match(line.text):
                self._suspect(self._device_in(f"({turned['device']})"), read_only=True)
                continue
            found = _LOG.match(line.text)
            if not found or line.priority > _WORST or self._is_said(line.text):
                continue
            if self._is_repeated(line.text):
                self._repeated += 1
                continue
            kind = found["kind"]
            name = _KINDS.get(kind, kind.removesuffix("-fs").lower())
            yield self._record("log", name, self._device_in(found["rest"]), line.text)

    def _is_repeated(self, text: str) -> bool:
        """Whether the same was an event lately; what is remembered is bounded."""
        words, now = _NUMBERS.sub("#", text), time.monotonic()
        if now < self._lines.get(words, 0.0):
            return True
        if len(self._lines) >= _MOST_LINES:
            self._lines = {text: until for text, until in self._lines.items() if now < until}
        if len(self._lines) >= _MOST_LINES:
            return True
        self._lines[words] = now + _AGAIN_SECONDS
        return False

    def _is_said(self, text: str) -> bool:
        return any(
            pattern.match(text) and self._running().is_attached(role)
            for role, pattern in _SAID.items()
        )

    def _device_in(self, text: str) -> int:
        """The number of the device that a line is about, 0 if it names none that is there."""
        for name in (word for pair in _DEVICE.findall(text) for word in pair if word):
            for candidate in (name, name.rpartition("-")[0]):  # jbd2 appends its inode: sda1-8
                path = self.host.sys / "class/block" / candidate / "dev"
                with suppress(OSError, ValueError):
                    major, minor = map(int, self.host.read(path).split(":"))
                    return major << 20 | minor
        return 0

    def _record(self, source: str, filesystem: str, disk: int, message: str) -> Rows:
        """One row as the kernel side would have made it; counted like its own."""
        schema = _schema()
        row = np.zeros(1, schema.dtype)
        row["time"], row["disk"], row["message"] = self.host.now_ns(), disk, message.encode()
        row["source"] = _code(schema, "source", source)
        row["filesystem"] = _code(schema, "filesystem", filesystem)
        counts = self._running().maps["errors"]
        assert counts.key
        key = np.zeros(1, counts.key.dtype)
        for name in ("disk", "source", "filesystem"):
            key[name] = row[name]
        keys, values = counts.read()
        before = values["found"][keys == key[0]]
        total = int(before[0]) if len(before) else 0
        counts.update(key.tobytes(), (total + 1).to_bytes(8, "little"))
        return row

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        """One sentence by who said it."""
        source, message = fields["source"], fields["message"]
        code = -int(fields["error"])
        fields["error"] = errno.errorcode.get(code, str(code)) if code else ""
        where = f"{fields['filesystem']} on {fields['disk'] or 'an unknown device'}"
        unnamed = "the device itself" if fields["filesystem"] == "block" else "a nameless file"
        file = f"{fields['path'] or unnamed} ({where})"
        because = f": {fields['error']}" if fields["error"] else ""
        who = f"{fields['comm']}[{fields['tid']}]"
        if source == "writeback":
            return f"data of {file} could not be written and is lost{because}"
        if source == "reported":
            return f"{who} was told that written data of {file} is lost{because}"
        if source == "read_only":
            return f"{message} ({where}) is read-only now"
        if source == "log":
            return str(message)
        place = f"{message}:{fields['line']}" if fields["line"] else message
        what = "shut itself down" if source == "xfs" else "found an error"
        return f"{where} {what} in {place}, for {who}{because}"


def _schema() -> Schema:
    return Errors.event_schemas()[_RING]


def _code(schema: Schema, field: str, label: str) -> int:
    """The number of an enum's label; 0, which is "other", for one it does not have."""
    labels = schema.field(field).labels
    return next((value for value, name in labels.items() if name == label), 0)
