"""The files that unwinding met: opened once, while a process still has them mapped.

A file is opened through /proc/PID/map_files, which leads to it whatever its name is by now and
whichever mount namespace it is in.
"""

from __future__ import annotations

import logging
import os
import resource
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from huatuo.errors import HuatuoError, Malformed
from huatuo.kernel.elf import Elf
from huatuo.kernel.host import Host
from huatuo.kernel.procfs import code_mappings
from huatuo.profilers.native.rows import UnwindFile
from huatuo.profilers.native.rules import NOTHING, Rule

__all__ = ["VDSO", "Binaries", "Binary", "Mapped", "map_file"]

log = logging.getLogger(__name__)

VDSO = 1  # VDSO_FILE in bpf/unwind/tables.bpf.h
_OPEN_FILES = 8192
_MOST_FILES = 4096
_SMALLEST = 40 << 10  # bytes that the tables of a file hold, at least
_MOST_HELD = 16 << 20


class Mapped(NamedTuple):
    """A file and where a process has it mapped; `device` is a kernel dev_t."""

    pid: int
    start: int
    end: int
    device: int
    inode: int
    size: int


@dataclass(slots=True)
class Binary:
    """`path` is as the process saw it, `name` its last part; `problem`: why it cannot be read."""

    id: int
    path: str
    pid: int = 0  # a process that had it mapped
    device: int = 0  # kernel dev_t
    inode: int = 0
    size: int = 0
    elf: Elf | None = None
    problem: str = ""
    is_gone: bool = False  # could not be opened: the process ended before

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def build_id(self) -> str:
        return self.elf.build_id if self.elf else ""

    def address_of(self, offset: int) -> int:
        """The address, as linked, of a byte of the file; its offset where nothing is loaded."""
        address = self.elf.address_of(offset) if self.elf else None
        return offset if address is None else address


class Binaries:
    """Numbers of files → what is known of them, and their unwind tables.

    Some tables are large, or made to be: those not used for longest are given up for others. So are
    files, by whoever added them (`evict`): over months, a host of containers maps any number.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._known: OrderedDict[int, Binary] = OrderedDict()  # last used last
        self._tables: OrderedDict[int, UnwindFile] = OrderedDict()  # last used last
        self._sizes: dict[int, int] = {}
        self._held = 0
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < _OPEN_FILES:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(_OPEN_FILES, hard), hard))
        self._known[VDSO] = self._vdso()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, number: int) -> Binary:
        """What is known of a file; one that was never reported has a problem and no contents."""
        return self._known.get(number) or Binary(number, f"[file {number}]", problem="not reported")

    def add(self, number: int, mapped: Mapped) -> Binary:
        """Open a file, which has that number in frames from now on."""
        link = map_file(self._host, mapped.pid, mapped.start, mapped.end)
        binary = Binary(
            number, f"[file {number}]", mapped.pid, mapped.device, mapped.inode, mapped.size
        )
        self._known[number] = binary
        try:
            binary.path = str(link.readlink()).removesuffix(" (deleted)")
            binary.elf = elf = Elf(link)
            if elf.size != binary.size:
                raise Malformed(binary.path, "is not the file that was mapped any more")
            self._keep(number, UnwindFile(elf))
        except (OSError, HuatuoError) as error:
            binary.problem = str(error)
            binary.is_gone = isinstance(error, FileNotFoundError | ProcessLookupError)
            log.debug("no unwind information of %s: %s", binary.path, error)
        return binary

    def rows(self, number: int, page: int) -> list[tuple[int, Rule]]:
        """Those of a page of a file, as UnwindFile has them; NOTHING if the file has none."""
        tables, binary = self._tables.get(number), self.get(number)
        if binary.elf is None or binary.problem:
            return [(0, NOTHING)]
        try:
            tables = tables or UnwindFile(binary.elf)
        except (OSError, HuatuoError) as error:  # it has changed since
            binary.problem = str(error)
            return [(0, NOTHING)]
        rows = tables.rows(page)
        self._keep(number, tables)
        self._known.move_to_end(number)
        return rows

    def evict(self) -> Binary | None:
        """The file that was not used for longest, closed and forgotten, if there are too many."""
        if len(self._known) <= _MOST_FILES:
            return None
        oldest = next(number for number in self._known if number != VDSO)
        return self.remove(oldest)

    def remove(self, number: int) -> Binary:
        binary = self._known.pop(number)
        if self._tables.pop(number, None):
            self._held -= self._sizes.pop(number)
        if binary.elf:
            binary.elf.close()
        return binary

    def _keep(self, number: int, tables: UnwindFile) -> None:
        elf = self._known[number].elf
        if elf is not None:
            elf.forget()
        self._tables[number] = tables
        self._tables.move_to_end(number)
        self._held += _SMALLEST + tables.held - self._sizes.get(number, 0)
        self._sizes[number] = _SMALLEST + tables.held
        while self._held > _MOST_HELD and len(self._tables) > 1:
            oldest, _ = self._tables.popitem(last=False)
            self._held -= self._sizes.pop(oldest)

    def close(self) -> None:
        for binary in self._known.values():
            if binary.elf:
                binary.elf.close()
        self._known.clear()

    def _vdso(self) -> Binary:
        """The code that the kernel maps into every process, read from our own."""
        binary = Binary(VDSO, "[vdso]")
        try:
            binary.elf = Elf(_vdso_image(self._host.proc / "self"))
        except (OSError, HuatuoError, ValueError, StopIteration) as error:
            binary.problem = f"the vdso cannot be read: {error}"
        return binary


def map_file(host: Host, pid: int, start: int, end: int) -> Path:
    """The way to what is mapped there, whatever its name is by now and in whichever namespace."""
    return host.proc / f"{pid}/map_files/{start:x}-{end:x}"


def _vdso_image(process: Path) -> bytes:
    code = next(each for each in code_mappings(process) if each.name == "[vdso]")
    with (process / "mem").open("rb", buffering=0) as memory:
        return os.pread(memory.fileno(), code.end - code.start, code.start)
