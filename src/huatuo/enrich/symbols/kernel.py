"""Kernel addresses → functions of the kernel, its modules and BPF programs, from /proc/kallsyms.

Held as a sorted array of addresses, an array of positions and one blob of names: 3 MB for 60,000
functions. Read when first needed, and again when modules have changed, or when BPF programs were
loaded and an address may be one of theirs.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from huatuo.errors import KernelLacks
from huatuo.kernel.host import Host
from huatuo.kernel.programs import program_after
from huatuo.model.profile import FrameKind, Line, Location

_OURS = ("bpf_prog_", "bpf_trace_", "__bpf_", "__traceiter_", "bpf_get_stack")
__all__ = ["KernelFrame", "KernelSymbols"]

log = logging.getLogger(__name__)

_CHUNK = 1 << 20
_FARTHEST = 1 << 20  # from the symbol before: no function is longer
_RECHECK_NS = 10 * 1_000_000_000
_REREAD_NS = 60 * 1_000_000_000
_KERNEL, _BPF = "[vmlinux]", "[bpf]"
_CACHED = 16384
_BPF_PROGRAM = re.compile(r"bpf_prog_[0-9a-f]{16}_(.+)")
_NIBBLE = np.zeros(256, np.uint8)
_NIBBLE[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)
_TEXT = np.frombuffer(b"tTwW", np.uint8)


@dataclass(frozen=True, slots=True)
class _Table:
    """`addresses` uint64 (n,) ascending; name i is blob[starts[i]:ends[i]], "name\\t[module]"."""

    addresses: npt.NDArray[np.uint64]
    starts: npt.NDArray[np.uint32]
    ends: npt.NDArray[np.uint32]
    blob: bytes


class KernelFrame(NamedTuple):
    """`mapping` is [vmlinux], [bpf] or a module's name in brackets; `offset` into `function`."""

    function: str
    mapping: str
    offset: int


class KernelSymbols:
    """`problem` says why symbols are only numbers, or is ""."""

    def __init__(self, host: Host, program_after: Callable[[int], int] = program_after) -> None:
        self._host = host
        self._table: _Table | None = None
        self._modules = ""
        self._checked_ns = 0
        self._loaded_ns = 0
        self._frames: dict[int, KernelFrame] = {}  # but of BPF programs, which come and go
        self._program_after = program_after
        self._newest_program = 0
        self.problem = ""

    def name(self, address: int) -> str:
        """symbol+0x12, symbol+0x12 [module], or the number in hexadecimal."""
        frame = self.frame(address)
        if frame is None:
            return f"{address:#x}"
        name = f"{frame.function}+{frame.offset:#x}"
        return name if frame.mapping == _KERNEL else f"{name} {frame.mapping}"

    def stack(self, addresses: Iterable[int]) -> list[str]:
        """The frames before the first zero, without those of BPF itself on top."""
        found: list[str] = []
        for address in addresses:
            if address == 0:
                break
            frame = self.name(address)
            if found or not frame.startswith(_OURS):
                found.append(frame)
        return found

    def location(self, address: int) -> Location:
        """For profiles: the address in its mapping, without lines if it is no function's."""
        frame = self.frame(address)
        if frame is None:
            return Location(FrameKind.KERNEL, _KERNEL, address)
        lines = (Line(_readable(frame)),)
        return Location(FrameKind.KERNEL, frame.mapping, address, lines=lines)

    def frame(self, address: int) -> KernelFrame | None:
        """None if the address is no function's, or not yet known to be one's."""
        self._keep_current()
        frame = self._frames.get(address)
        if frame is None:
            frame = self._certain_frame(address)
            if frame is not None and frame.mapping != _BPF:
                if len(self._frames) >= _CACHED:
                    self._frames.clear()
                self._frames[address] = frame
        return frame

    def _certain_frame(self, address: int) -> KernelFrame | None:
        """Sizes of functions are not known: what looks like the end of one BPF program may be a
        program loaded since. Then the table is read again, once a minute, and meanwhile nothing
        is said.
        """
        frame = self._frame(address)
        if (frame is not None and frame.mapping != _BPF) or not self._has_new_programs():
            return frame
        if self._host.now_ns() - self._loaded_ns < _REREAD_NS:
            return None
        self._reload()
        return self._frame(address)

    def _has_new_programs(self) -> bool:
        """Whether BPF programs were loaded since the table was read. False if we may not know."""
        try:
            return self._program_after(self._newest_program) != 0
        except (OSError, KernelLacks):
            return False

    def _count_programs(self) -> None:
        with contextlib.suppress(OSError, KernelLacks):
            while following := self._program_after(self._newest_program):
                self._newest_program = following

    def _frame(self, address: int) -> KernelFrame | None:
        table = self._table
        if table is None or not len(table.addresses):
            return None
        at = int(np.searchsorted(table.addresses, np.uint64(address), side="right")) - 1
        offset = address - int(table.addresses[at]) if at >= 0 else _FARTHEST
        if offset >= _FARTHEST:
            return None
        symbol = table.blob[int(table.starts[at]) : int(table.ends[at])].decode(errors="replace")
        name, _, module = symbol.partition("\t")
        return KernelFrame(name, module or _KERNEL, offset)

    def _keep_current(self) -> None:
        """Load, or load again if the list of modules has changed; looked at every 10 s."""
        now = self._host.now_ns()
        if self._table is not None and now - self._checked_ns < _RECHECK_NS:
            return
        self._checked_ns = now
        modules = self._loaded_modules()
        if self._table is None or modules != self._modules:
            self._modules = modules
            self._reload()

    def _reload(self) -> None:
        self._frames.clear()
        self._loaded_ns = self._host.now_ns()
        self._count_programs()  # before reading: one loaded meanwhile makes us read again
        self._table = self._load()

    def _loaded_modules(self) -> str:
        """Names and addresses, without the reference counts that change all the time."""
        try:
            lines = self._host.read(self._host.proc / "modules").splitlines()
        except OSError:
            return ""  # a kernel without modules
        return "\n".join(f"{line.split()[0]} {line.split()[-1]}" for line in lines if line)

    def _load(self) -> _Table:
        path = self._host.proc / "kallsyms"
        try:
            parts = [_parse(chunk) for chunk in self._chunks()]
        except OSError as error:
            self._complain(f"kernel symbols are unknown: {path}: {error.strerror}")
            parts = []
        table = _join(parts)
        if parts and not table.addresses.any():
            self._complain(
                "kernel symbols are hidden, stacks show addresses: "
                "set kernel.kptr_restrict=1 and give the agent CAP_SYSLOG"
            )
            return _join([])
        return table

    def _complain(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("%s", problem)
        self.problem = problem

    def _chunks(self) -> Iterator[bytes]:
        """The file in pieces of whole lines."""
        rest = b""
        with (self._host.proc / "kallsyms").open("rb", buffering=0) as stream:
            while chunk := stream.read(_CHUNK):
                lines = rest + chunk
                end = lines.rfind(b"\n") + 1
                rest = lines[end:]
                if end:
                    yield lines[:end]


def _readable(frame: KernelFrame) -> str:
    """The function's name; of a BPF program the one its author gave it, without its checksum."""
    program = _BPF_PROGRAM.fullmatch(frame.function) if frame.mapping == _BPF else None
    return program[1] if program else frame.function


def _parse(chunk: bytes) -> _Table:
    """The functions among whole lines `address type name[<tab>[module]]`, in file order."""
    raw = np.frombuffer(chunk, np.uint8)
    ends = np.flatnonzero(raw == ord("\n"))
    starts = np.concatenate(([0], ends[:-1] + 1))
    width = chunk.index(b" ")
    is_text = np.isin(raw[starts + width + 1], _TEXT)
    starts, ends = starts[is_text], ends[is_text]
    digits = _NIBBLE[raw[starts[:, None] + np.arange(width)]]
    octets = np.ascontiguousarray(digits[:, ::2] << 4 | digits[:, 1::2])
    addresses = octets.view(f">u{width // 2}").reshape(-1).astype(np.uint64)
    names = [chunk[s:e] for s, e in zip((starts + width + 3).tolist(), ends.tolist(), strict=True)]
    lengths = np.fromiter(map(len, names), np.uint32, len(names))
    until = np.cumsum(lengths, dtype=np.uint32)
    return _Table(addresses, until - lengths, until, b"".join(names))


def _join(parts: list[_Table]) -> _Table:
    """One table in order of address; of names for the same address the first, as the kernel."""
    if not parts:
        nothing = np.zeros(0, np.uint32)
        return _Table(np.zeros(0, np.uint64), nothing, nothing, b"")
    shift = np.cumsum([0, *(len(part.blob) for part in parts)]).astype(np.uint32)
    addresses = np.concatenate([part.addresses for part in parts])
    unique, first = np.unique(addresses, return_index=True)
    starts = np.concatenate([p.starts + s for p, s in zip(parts, shift, strict=False)])
    ends = np.concatenate([p.ends + s for p, s in zip(parts, shift, strict=False)])
    blob = b"".join(part.blob for part in parts)
    return _Table(unique, starts[first], ends[first], blob)
