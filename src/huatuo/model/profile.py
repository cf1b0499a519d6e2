"""Profiles as plain data, after pprof's model: samples → stacks → locations → lines.

    Samples     what profilers measured: one row per sample, with its time, value, stack and labels
    Stack       locations, innermost first, and whether it is complete
    Location    an address in a mapping, with the source lines that are there (several if inlined)
    Profile     many samples merged into one calling-context tree

A location's address is what was measured and never changes; its lines are what symbols say of it,
and may come later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = [
    "PROFILE_TYPES",
    "FrameKind",
    "Line",
    "Location",
    "Profile",
    "ProfileType",
    "Samples",
    "Stack",
    "StackStatus",
    "levels",
]


class FrameKind(StrEnum):
    """Where code comes from: what flame graphs colour by."""

    KERNEL = "kernel"
    NATIVE = "native"
    JIT = "jit"  # code in anonymous memory
    RUNTIME = "runtime"  # a language's own frame: a Python function, not the interpreter's C


class Line(NamedTuple):
    """One function at a location. `function` is demangled; `file` and `line` where known."""

    function: str
    file: str = ""
    line: int = 0


class Location(NamedTuple):
    """`mapping` is a file's name (libc.so.6, [vmlinux], [nf_tables], [vdso], [anon]); `address` is
    relative to the file as linked (as addr2line takes it), or absolute for the kernel and [anon].

    `lines`: innermost first, each inlined into the next; empty while no symbol is known. Locations
    that differ in anything, lines included, are different ones: frames that have no address (from
    a folded file) or share one (code made at run time, anew at the same place) are told apart.
    """

    kind: FrameKind
    mapping: str
    address: int
    build_id: str = ""
    lines: tuple[Line, ...] = ()


class StackStatus(StrEnum):
    """Whether a stack reaches the start of its thread, or why not."""

    COMPLETE = "complete"
    NO_ROWS = "no_rows"  # unwind rows of this code were not there yet
    NO_INFO = "no_info"  # the file says nothing about this code
    UNREADABLE = "unreadable"  # stack memory could not be read
    BAD_ADDRESS = "bad_address"  # a return address that is no code
    TOO_DEEP = "too_deep"
    FRAME_POINTERS = "frame_pointers"  # kernel too old for anything else: true only where kept
    UNSUPPORTED = "unsupported"  # a rule or a mode (32 bit) that is not handled


class Stack(NamedTuple):
    """`locations`: innermost first, the kernel's before user space's."""

    locations: tuple[Location, ...]
    status: StackStatus = StackStatus.COMPLETE


class ProfileType(msgspec.Struct, frozen=True):
    """`id` is Pyroscope's: name:sample:unit:period:period_unit.

    A gauge is a state (memory resident now): merging averages over the moments it was looked at,
    where other types add up.
    """

    name: str  # as in the command line and the store: cpu
    title: str
    sample: str  # pprof's sample type
    unit: str  # nanoseconds · bytes · count
    family: str  # Pyroscope's name: process_cpu
    period: str
    period_unit: str
    is_gauge: bool = False

    @property
    def id(self) -> str:
        return f"{self.family}:{self.sample}:{self.unit}:{self.period}:{self.period_unit}"


def _types(*types: ProfileType) -> dict[str, ProfileType]:
    return {each.name: each for each in types}


PROFILE_TYPES: Mapping[str, ProfileType] = _types(
    ProfileType("cpu", "CPU time", "cpu", "nanoseconds", "process_cpu", "cpu", "nanoseconds"),
    ProfileType(
        "blocked", "time off the CPU", "off_cpu", "nanoseconds", "blocked", "wall", "nanoseconds"
    ),
    ProfileType(
        "offcpu", "time off the CPU, every switch", "off_cpu", "nanoseconds", "offcpu", "wall",
        "nanoseconds",
    ),
    ProfileType(
        "lock", "time waiting for locks", "delay", "nanoseconds", "mutex", "contentions", "count"
    ),
    ProfileType(
        "holder", "time others wait for a lock held", "held", "nanoseconds", "mutex", "contentions",
        "count",
    ),
    ProfileType(
        "allocated", "pages allocated", "alloc_space", "bytes", "memory", "space", "bytes"
    ),
    ProfileType(
        "resident", "memory resident", "inuse_space", "bytes", "memory", "space", "bytes", True
    ),
    ProfileType(
        "virtual", "address space taken", "virtual_space", "bytes", "memory", "space", "bytes"
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Samples:
    """A batch of one type, in columns.

    `times` int64 (n,) UTC ns and `values` int64 (n,) in the type's unit, already weighted;
    `stack_of` and `labels_of` (n,) index `stacks` and `labels`. Equal stacks are the same object
    where that is cheap to arrange, but need not be.
    """

    type: str
    times: npt.NDArray[np.int64]
    values: npt.NDArray[np.int64]
    stacks: Sequence[Stack]
    stack_of: npt.NDArray[np.int32]
    labels: Sequence[Mapping[str, str]]
    labels_of: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.times)


@dataclass(frozen=True, slots=True)
class Profile:
    """A calling-context tree, in columns. Node 0 is the root; parents stand before their children.

    `parent` int32 (n,), -1 at the root; `location` int32 (n,) indexes `locations`, -1 at the root;
    `self_values` int64 (n,) is the value that ends here. Below one parent a location stands once.
    """

    type: ProfileType
    start_ns: int
    end_ns: int
    locations: Sequence[Location]
    parent: npt.NDArray[np.int32]
    location: npt.NDArray[np.int32]
    self_values: npt.NDArray[np.int64]
    samples: int = 0  # rows that were merged
    statuses: Mapping[str, int] = field(default_factory=dict)  # StackStatus → value

    @property
    def total(self) -> int:
        return int(self.self_values.sum())

    def totals(self) -> npt.NDArray[np.int64]:
        """int64 (n,): each node's value with all below it."""
        found = self.self_values.copy()
        for nodes in levels(self.parent)[:0:-1]:
            np.add.at(found, self.parent[nodes], found[nodes])
        return found


def levels(parent: npt.NDArray[np.integer]) -> list[npt.NDArray[np.intp]]:
    """The nodes of each level of a tree, the roots (whose parent is negative) first."""
    above = np.maximum(parent, 0)  # 1, 2, 4, … steps up, or the root
    depth = (parent >= 0).astype(np.int32)
    while (depth[above] > 0).any():
        depth += depth[above]
        above = above[above]
    order = np.argsort(depth, kind="stable")
    return np.split(order, np.cumsum(np.bincount(depth))[:-1])
