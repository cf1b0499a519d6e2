"""Code that a process generated itself, by the map it writes for profilers.

/tmp/perf-PID.map, in the process's own mount and PID namespace: lines `START SIZE name`, numbers in
hexadecimal, appended as code is generated. Whoever may write there may write anything: only a file
of the process's own user (or root) counts, nothing is followed out of the process's root, and what
is read is bounded.

Source: the kernel's tools/perf/Documentation/jit-interface.txt.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from huatuo.kernel.host import Host
from huatuo.kernel.rooted import open_below, open_root
from huatuo.model.profile import Line

__all__ = ["JitSymbols"]

_LARGEST = 32 << 20  # of a map; what is appended behind is not read
_AT_ONCE = 1 << 20  # read in one call: 10 ms
_MOST_BYTES = 48 << 20  # of all maps
_MOST_NAMES = 250_000  # of a map
_BYTES_EACH = 100  # of a name, in memory, beside its text
_LONGEST_NAME = 1024
_LOOK_AGAIN_NS = 1_000_000_000
_PASSES = 8


class JitSymbols:
    """Maps of the processes asked for last."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._maps: OrderedDict[int, _Map] = OrderedDict()

    def lines(self, pid: int, addresses: Sequence[int]) -> list[tuple[Line, ...]]:
        """The function at each address, () where the process did not say.

        A map is looked at again at most once a second, and then only if it has grown.
        """
        known = self._maps.get(pid)
        now = self._host.now_ns()
        if known is None or now - known.checked_ns >= _LOOK_AGAIN_NS:
            known = self._look(pid, known)
            known.checked_ns = now
            self._maps[pid] = known
            self._make_room()
        self._maps.move_to_end(pid)
        return known.lines(addresses)

    def _look(self, pid: int, known: _Map | None) -> _Map:
        """The map as it is now; an empty one if there is none that may be trusted."""
        try:
            fd = self._open(pid)
        except (OSError, ValueError):
            return known if known is not None and known.read_to else _Map((0, 0, 0))
        try:
            status = os.fstat(fd)
            # The start of the process tells a new one with an old number apart.
            identity = (status.st_dev, status.st_ino, self._started(pid))
            if known is None or known.identity != identity or status.st_size < known.read_to:
                known = _Map(identity)
            known.read_on(fd, min(status.st_size, _LARGEST))
        finally:
            os.close(fd)
        return known

    def _open(self, pid: int) -> int:
        """OSError or ValueError if there is no such file, or if it is somebody else's."""
        proc = self._host.proc / str(pid)
        fields = dict(
            line.split(":\t", 1) for line in self._host.read(proc / "status").splitlines()
            if ":\t" in line
        )  # fmt: skip
        inner = fields.get("NSpid", str(pid)).split()[-1]
        owners = {0, int(fields["Uid"].split()[1])}
        root = open_root(proc / "root")
        try:
            fd = open_below(root, f"/tmp/perf-{int(inner)}.map")
        finally:
            os.close(root)
        if os.fstat(fd).st_uid not in owners:
            os.close(fd)
            raise PermissionError(f"/tmp/perf-{inner}.map belongs to another user")
        return fd

    def _started(self, pid: int) -> int:
        with suppress(OSError, IndexError, ValueError):
            stat = self._host.read(self._host.proc / str(pid) / "stat")
            return int(stat.rpartition(")")[2].split()[19])
        return 0

    def _make_room(self) -> None:
        while len(self._maps) > 1 and sum(map(len, self._maps.values())) > _MOST_BYTES:
            self._maps.popitem(last=False)


class _Map:
    """What was read of one file, `read_to` bytes of it. `len` is about what it takes in memory."""

    def __init__(self, identity: tuple[int, int, int]) -> None:
        self.identity = identity
        self.read_to = 0
        self.checked_ns = 0
        self._rest = b""
        self._starts = np.zeros(0, np.uint64)
        self._ends = np.zeros(0, np.uint64)
        self._ages = np.zeros(0, np.int64)
        self._names: list[bytes] = []

    def __len__(self) -> int:
        return self.read_to + len(self._names) * _BYTES_EACH + 1024

    def lines(self, addresses: Sequence[int]) -> list[tuple[Line, ...]]:
        wanted = np.array([min(max(a, 0), 2**64 - 1) for a in addresses], np.uint64)
        index = np.searchsorted(self._starts, wanted, side="right") - 1
        inside = index >= 0
        inside[inside] = wanted[inside] < self._ends[index[inside]]
        ages = np.where(inside, self._ages[index] if len(self._ages) else -1, -1)
        return [
            (Line(self._names[age].decode(errors="replace")),) if age >= 0 else ()
            for age in ages.tolist()
        ]

    def read_on(self, fd: int, size: int) -> None:
        """What was appended since, at most _AT_ONCE bytes."""
        if len(self._names) > _MOST_NAMES:
            return
        data = os.pread(fd, min(size - self.read_to, _AT_ONCE), self.read_to)
        if not data:
            return
        self.read_to += len(data)
        whole, newline, self._rest = (self._rest + data).rpartition(b"\n")
        if len(self._rest) > _LONGEST_NAME * 4:
            self._rest = b""  # no line is that long
        if newline:
            self._add(whole)

    def _add(self, lines: bytes) -> None:
        starts, ends = [], []
        for line in lines.split(b"\n"):
            with suppress(ValueError):
                start, size, name = line.split(b" ", 2)
                begin, length = int(start, 16), int(size, 16)
                if begin >= 0 and length > 0 and begin + length < 2**64:
                    starts.append(begin)
                    ends.append(begin + length)
                    self._names.append(name[:_LONGEST_NAME])
        first = len(self._names) - len(starts)
        ages = np.arange(first, len(self._names))
        self._keep(
            np.concatenate([self._starts, np.array(starts, np.uint64)]),
            np.concatenate([self._ends, np.array(ends, np.uint64)]),
            np.concatenate([self._ages, ages]),
        )

    def _keep(
        self, starts: npt.NDArray[np.uint64], ends: npt.NDArray[np.uint64],
        ages: npt.NDArray[np.int64],
    ) -> None:  # fmt: skip
        """In order of address, without code that newer code has been put over."""
        order = np.lexsort((ages, starts))
        starts, ends, ages = starts[order], ends[order], ages[order]
        last = np.append(starts[1:] != starts[:-1], True)[: len(starts)]
        starts, ends, ages = starts[last], ends[last], ages[last]
        for _ in range(_PASSES):
            stale = np.zeros(len(starts), bool)
            stale[1:] = (ages[1:] < ages[:-1]) & (starts[1:] < ends[:-1])
            if not stale.any():
                break
            starts, ends, ages = starts[~stale], ends[~stale], ages[~stale]
        self._starts, self._ends, self._ages = starts, ends, ages
