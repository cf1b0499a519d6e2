"""Kernel addresses → symbol+0x12, from /proc/kallsyms.

Held as a sorted array of addresses, an array of positions and one blob of names: 3 MB for 60,000
functions. Read when first needed, and again when modules have changed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from huatuo.kernel.host import Host

_OURS = ("bpf_prog_", "bpf_trace_", "__bpf_", "__traceiter_", "bpf_get_stack")
__all__ = ["KernelSymbols"]

log = logging.getLogger(__name__)

_CHUNK = 1 << 20
_FARTHEST = 1 << 20  # from the symbol before: no function is longer
_RECHECK_NS = 10 * 1_000_000_000
_CACHED = 16384
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


class KernelSymbols:
    """`problem` says why symbols are only numbers, or is ""."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._table: _Table | None = None
        self._modules = ""
        self._checked_ns = 0
        self._known: dict[int, str] = {}
        self.problem = ""

    def name(self, address: int) -> str:
        """symbol+0x12, symbol+0x12 [module], or the number in hexadecimal."""
        self._keep_current()
        return self._name(address)

    def stack(self, addresses: Iterable[int]) -> list[str]:
        """The frames before the first zero, without those of BPF itself on top."""
        self._keep_current()
        found: list[str] = []
        for address in addresses:
            if address == 0:
                break
            frame = self._name(address)
            if found or not frame.startswith(_OURS):
                found.append(frame)
        return found

    def _name(self, address: int) -> str:
        name = self._known.get(address)
        if name is None:
            if len(self._known) >= _CACHED:
                self._known.clear()
            name = self._known[address] = self._look_up(address)
        return name

    def _look_up(self, address: int) -> str:
        table = self._table
        if table is None or not len(table.addresses):
            return f"{address:#x}"
        at = int(np.searchsorted(table.addresses, np.uint64(address), side="right")) - 1
        offset = address - int(table.addresses[at]) if at >= 0 else _FARTHEST
        if offset >= _FARTHEST:
            return f"{address:#x}"
        symbol = table.blob[int(table.starts[at]) : int(table.ends[at])].decode(errors="replace")
        name, _, module = symbol.partition("\t")
        return f"{name}+{offset:#x} {module}" if module else f"{name}+{offset:#x}"

    def _keep_current(self) -> None:
        """Load, or load again if the list of modules has changed; looked at every 10 s."""
        now = self._host.now_ns()
        if self._table is not None and now - self._checked_ns < _RECHECK_NS:
            return
        self._checked_ns = now
        modules = self._loaded_modules()
        if self._table is None or modules != self._modules:
            self._modules = modules
            self._known.clear()
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
