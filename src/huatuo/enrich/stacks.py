"""Stacks as the kernel sent them → stacks with names, each named once.

A stack is known by the kernel's id. Its frames are kept as numbers; names are looked up when a
sample first needs them, and again once the symbols of a file have become known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from huatuo.enrich.symbols.binary import BinaryFile, Identity
from huatuo.enrich.symbols.kernel import KernelSymbols
from huatuo.enrich.symbols.native import Symbols
from huatuo.enrich.waits import subsystem_of
from huatuo.model.profile import FrameKind, Line, Location, Stack, StackStatus
from huatuo.profilers.native.binaries import Binaries, Binary

__all__ = ["KnownStack", "Stacks", "functions_of"]

_STATUS = tuple(StackStatus)
_NOWHERE, _FILE_SHIFT = 1 << 63, 40  # bpf/unwind/tables.bpf.h
_OFFSET = (1 << _FILE_SHIFT) - 1
_MOST_STACKS = 24_000
_MOST_LOCATIONS = 100_000
_TRACING = re.compile(
    r"bpf_trace_run\d+|__bpf_trace_\w+|__traceiter_\w+|trace_call_bpf\w*|perf_trace_\w+"
    r"|perf_call_bpf_\w+|perf_syscall_enter|syscall_trace_enter\w*"
)
_LONGEST_TRACING = 6  # frames between a tracepoint's place and a program on it, and the program


@dataclass(slots=True)
class KnownStack:
    """`stack`: with names; `kernel`: the names of its kernel functions, innermost first."""

    stack: Stack
    kernel: tuple[str, ...]
    subsystem: str

    def as_it_was(self) -> KnownStack:
        """Of a sample that a program on a tracepoint took: without that program and its call."""
        locations = self.stack.locations
        own = 0
        for at, place in enumerate(locations[:_LONGEST_TRACING]):
            if place.kind is FrameKind.KERNEL and any(
                _TRACING.fullmatch(line.function) for line in place.lines
            ):
                own = at + 1
        return _known(self.stack._replace(locations=locations[own:])) if own else self


@dataclass(frozen=True, slots=True)
class _Raw:
    tgid: int
    status: int
    kernel: bytes
    user: bytes


class Stacks:
    """`overflowed` is true when so many were met that the kernel should send all of them again."""

    def __init__(self, kernel: KernelSymbols, symbols: Symbols, proc: Path) -> None:
        self._kernel, self._symbols, self._proc = kernel, symbols, proc
        self._raw: dict[int, _Raw] = {}
        self._built: dict[int, KnownStack] = {}
        self._locations: dict[int, Location] = {}  # by the kernel's number of a frame
        self._waiting: dict[Identity, set[int]] = {}  # frames whose file has no symbols yet
        self._binaries: Binaries | None = None

    @property
    def overflowed(self) -> bool:
        return len(self._raw) > _MOST_STACKS

    def forget(self) -> None:
        self._raw.clear()
        self._built.clear()

    def add(self, rows: npt.NDArray[np.void], binaries: Binaries) -> None:
        """New stacks (struct stack); `binaries` tells what their files' numbers mean."""
        self._binaries = binaries
        for row in rows:
            self._raw[int(row["id"])] = _Raw(
                int(row["tgid"]),
                int(row["status"]),
                row["kernel"][: int(row["kernel_count"])].tobytes(),
                row["user"][: int(row["user_count"])].tobytes(),
            )

    def find(self, number: int) -> KnownStack | None:
        """None if the kernel never sent that stack, or it is forgotten."""
        known = self._built.get(number)
        if known is None and (raw := self._raw.get(number)) is not None:
            known = self._build(raw)
            if not any(place.kind is FrameKind.JIT and not place.lines for place in known.stack[0]):
                self._built[number] = known  # a perf map may still name what was compiled lately
        return known

    def named_since(self) -> dict[Location, tuple[Line, ...]]:
        """Locations without lines that were handed out, whose symbols have become known since."""
        found: dict[Location, tuple[Line, ...]] = {}
        for file in self._symbols.ready():
            frames = sorted(self._waiting.pop(file.identity, ()))
            before = [self._locations.pop(frame, None) for frame in frames]
            self._locate(frames)
            for frame, old in zip(frames, before, strict=True):
                new = self._locations.get(frame)
                if old is not None and new is not None and new.lines:
                    found[old] = new.lines
        if found:
            self._built.clear()
        return found

    def _build(self, raw: _Raw) -> KnownStack:
        addresses = np.frombuffer(raw.kernel, np.uint64).tolist()
        kernel = [self._kernel.location(address) for address in addresses]
        frames: list[int] = np.frombuffer(raw.user, np.uint64).tolist()
        missing = {frame for frame in frames if frame not in self._locations}
        self._locate([frame for frame in missing if not frame & _NOWHERE])
        user = [
            self._nowhere(raw.tgid, frame & ~_NOWHERE)
            if frame & _NOWHERE
            else self._locations[frame]
            for frame in frames
        ]
        return _known(Stack((*kernel, *user), _STATUS[raw.status]))

    def _nowhere(self, pid: int, address: int) -> Location:
        """Code in memory without a file: a just-in-time compiler's, if it says so."""
        (lines,) = self._symbols.lines_jit(pid, [address])
        return Location(FrameKind.JIT, "[anon]", address, lines=lines)

    def _locate(self, frames: Iterable[int]) -> None:
        """Fill `_locations` for frames of files."""
        assert self._binaries is not None
        if len(self._locations) > _MOST_LOCATIONS:
            self._locations.clear()
            self._waiting.clear()
        by_file: dict[int, list[int]] = {}
        for frame in frames:
            by_file.setdefault(frame >> _FILE_SHIFT, []).append(frame)
        for number, members in by_file.items():
            binary = self._binaries.get(number)
            addresses = [binary.address_of(frame & _OFFSET) for frame in members]
            lines = self._lines(binary, members, addresses)
            for frame, address, known in zip(members, addresses, lines, strict=True):
                self._locations[frame] = Location(
                    FrameKind.NATIVE, binary.name, address, binary.build_id, known or ()
                )

    def _lines(
        self, binary: Binary, frames: Sequence[int], addresses: Sequence[int]
    ) -> Sequence[tuple[Line, ...] | None]:
        file = self._file(binary)
        if file is None:
            return [()] * len(frames)
        found = self._symbols.lines(file, addresses)
        waiting = {f for f, lines in zip(frames, found, strict=True) if lines is None}
        if waiting:
            self._waiting.setdefault(file.identity, set()).update(waiting)
        return found

    def _file(self, binary: Binary) -> BinaryFile | None:
        if binary.elf is None or binary.elf.descriptor < 0:
            return None
        return BinaryFile(
            Identity(binary.device, binary.inode, binary.size),
            binary.path,
            self._proc / f"self/fd/{binary.elf.descriptor}",
            self._proc / f"{binary.pid}/root",
            binary.build_id,
        )


def _known(stack: Stack) -> KnownStack:
    kernel = (place for place in stack.locations if place.kind is FrameKind.KERNEL)
    functions = tuple(place.lines[0].function for place in kernel if place.lines)
    return KnownStack(stack, functions, subsystem_of(functions))


def functions_of(places: Iterable[Any]) -> list[str]:
    """Names of the functions at some locations, inlined ones too."""
    return [line.function for place in places for line in place.lines]
