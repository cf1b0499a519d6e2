"""Probes that read files: tables of metric families, and what happens to files that are not right.

A reader is cut into parts, one per file or per cgroup. A part that cannot be parsed is skipped as
a whole and counted in `collect_errors`; one that is not there (a cgroup that went away, a file
this kernel lacks) is left out without a word.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from huatuo.errors import HuatuoError
from huatuo.kernel import procfs
from huatuo.kernel.cgroupfs import Cgroup, hierarchies
from huatuo.kernel.host import Host
from huatuo.model.meaning import MEANINGS, Role
from huatuo.model.metric import Column, Metric
from huatuo.probes.base import Probe

__all__ = ["CgroupReader", "Family", "Key", "Reader", "Reading", "counter", "gauge"]

Key = tuple[str | int, ...]  # label values: names, or identities that enrichment resolves

_IDENTITIES: Mapping[str, tuple[str, type[np.unsignedinteger]]] = {
    "container": ("cgroup_id_t", np.uint64),
    "device": ("disk_t", np.uint32),
}
_GONE = {errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.ENOTDIR, errno.EOPNOTSUPP}
_LARGEST = 1e24  # above 2^64 sectors; anything larger is not a number of the kernel


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """A family to be filled: its full name is huatuo_<group>_<module>_<name>."""

    name: str
    kind: Role
    help: str
    labels: tuple[str, ...]


Reading = tuple[Family, Key, float]


def counter(name: str, help: str, *labels: str) -> Family:
    """`name` with its unit and without _total, which is appended."""
    return Family(f"{name}_total", Role.COUNTER, help, labels)


def gauge(name: str, help: str, *labels: str) -> Family:
    return Family(name, Role.GAUGE, help, labels)


class Reader(Probe):
    """Subclasses give `files` (the first must exist, below proc/ or sys/) and `parts`."""

    files: ClassVar[tuple[str, ...]] = ()
    without: ClassVar[str] = ""  # why the first file may be missing

    @classmethod
    def unavailable(cls, host: Host) -> str:
        try:
            procfs.read(cls.locate(host, cls.files[0]))
        except OSError as error:
            why = f"{cls.locate(host, cls.files[0])}: {error.strerror}"
            return f"{why}: {cls.without}" if cls.without else why
        return ""

    @staticmethod
    def locate(host: Host, file: str) -> str:
        """Where proc/… or sys/… is on this host; proc/net is that of the host's namespace."""
        tree, _, below = file.partition("/")
        if below.startswith("net/") and tree == "proc":
            return str(procfs.net(host) / below.removeprefix("net/"))
        return str((host.proc if tree == "proc" else host.sys) / below)

    @property
    def hooks(self) -> list[str]:
        return [self.locate(self.host, file) for file in self.files]

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        module = type(self).__module__.removeprefix("huatuo.probes.")
        self._prefix = f"huatuo_{module.replace('.', '_')}_"
        self._files = procfs.Files()
        self.paths = {file: self.locate(host, file) for file in self.files}

    def text(self, path: str) -> str:
        """The content of a file that must be there; it stays open for the next time."""
        return self._files.read(path)

    def optional(self, path: str) -> str:
        """The content of a file, "" if this kernel or this cgroup does not have it."""
        try:
            return self.text(path)
        except OSError as error:
            if error.errno in _GONE:
                return ""
            raise

    def parts(self) -> Iterable[Iterator[Reading]]:
        """What is read now, in pieces that are skipped one by one if they are malformed."""
        return ()

    def collect(self) -> Iterator[Metric]:
        table: dict[Family, dict[Key, float]] = {}
        parts: list[Iterator[Reading]] = []
        with self._counting_errors():
            parts = list(self.parts())
        for part in parts:
            with self._counting_errors():
                readings = list(part)
                if not all(0 <= value < _LARGEST for _, _, value in readings):
                    raise ValueError("a number that is none of the kernel's")
                for family, key, value in readings:
                    table.setdefault(family, {})[key] = value
        self._files.close_unused()
        for family, rows in table.items():
            yield self._metric(family, rows)

    def stop(self) -> None:
        self._files.close()

    @contextmanager
    def _counting_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.collect_errors += error.errno not in _GONE
        except (ValueError, LookupError, ArithmeticError, HuatuoError):
            self.collect_errors += 1

    def _metric(self, family: Family, rows: Mapping[Key, float]) -> Metric:
        columns = zip(*rows, strict=True)
        labels = {
            label: _column(label, column)
            for label, column in zip(family.labels, columns, strict=True)
        }
        values = np.fromiter(rows.values(), np.float64, len(rows))
        return Metric(self._prefix + family.name, family.kind, family.help, values, labels)


def _column(label: str, values: tuple[str | int, ...]) -> Column:
    if isinstance(values[0], int):
        meaning, dtype = _IDENTITIES[label]
        numbers: npt.NDArray[np.generic] = np.array(values, dtype)
        return Column(numbers, MEANINGS[meaning])
    return Column([str(value) for value in values])


class CgroupReader(Reader):
    """Reads the files of one controller in every cgroup of `targets()` but the root.

    The root's numbers are the host's, which other probes report. Subclasses give the controller's
    names and, per hierarchy version, what is read in one directory.
    """

    controller: ClassVar[str] = ""  # as in cgroup.controllers
    controller_v1: ClassVar[str] = ""  # its hierarchy's name on v1, if another

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        name = self.controller_v1 or self.controller
        trees = hierarchies(host)
        self.is_v1 = name in trees.v1
        self.root = str(trees.controller(name) or "")

    @classmethod
    def unavailable(cls, host: Host) -> str:
        try:
            trees = hierarchies(host)
            if (cls.controller_v1 or cls.controller) in trees.v1:
                return ""
            if trees.v2 is None:
                return f"no cgroup hierarchy with the {cls.controller} controller is mounted"
            enabled = procfs.read(str(trees.v2 / "cgroup.controllers")).split()
        except OSError as error:
            return f"cgroups cannot be read: {error.filename}: {error.strerror}"
        if cls.controller in enabled:
            return ""
        return f"the {cls.controller} controller is not enabled on this host"

    @property
    def hooks(self) -> list[str]:
        return [self.root]

    def parts(self) -> Iterator[Iterator[Reading]]:
        read_one = self.read_v1 if self.is_v1 else self.read_v2
        for cgroup in self.targets():
            if cgroup.path != "/":
                yield read_one(cgroup, f"{self.root}{cgroup.path}/")

    def read_v1(self, cgroup: Cgroup, directory: str) -> Iterator[Reading]:
        """`directory` ends with a slash."""
        raise NotImplementedError

    def read_v2(self, cgroup: Cgroup, directory: str) -> Iterator[Reading]:
        raise NotImplementedError
