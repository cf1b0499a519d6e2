"""Samples that others measured: which of our types they are, and how they become ours.

A format's reader hands stacks one by one to an Intake; `samples()` gives them in columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from huatuo.model.profile import Line, Location, Samples, Stack, StackStatus

__all__ = [
    "MOST_FRAMES",
    "Imported",
    "Intake",
    "Measure",
    "clean_labels",
    "measure",
    "named",
    "unique",
]

MOST_FRAMES = 1024  # of one stack; more are cut at the outer end
_MOST_LABELS = 32
_LONGEST_LABEL = 256

_TYPES = {
    "cpu": "cpu",
    "off_cpu": "blocked",
    "delay": "lock",
    "alloc_space": "allocated",
    "inuse_space": "resident",
    "space": "resident",  # V8's heap profiles
    "virtual_space": "virtual",
}
_UNITS = {
    "nanoseconds": 1,
    "ns": 1,
    "microseconds": 1_000,
    "us": 1_000,
    "milliseconds": 1_000_000,
    "ms": 1_000_000,
    "seconds": 1_000_000_000,
    "s": 1_000_000_000,
    "bytes": 1,
    "By": 1,
    "kilobytes": 1 << 10,
    "megabytes": 1 << 20,
}


class Measure(NamedTuple):
    """`type` is a key of PROFILE_TYPES; a value times `factor` is in its unit."""

    type: str
    factor: int


class Imported(NamedTuple):
    """`ignored`: sample types that are none of ours, as type/unit."""

    samples: list[Samples]
    ignored: list[str]


def measure(
    sample: str, unit: str, family: str = "", period: tuple[str, str, int] = ("", "", 0)
) -> Measure | None:
    """Which of our types a foreign sample type is; None if it is none.

    `family` is Pyroscope's name (process_cpu, block, mutex); counts of samples whose `period`
    (type, unit, value) is CPU time become CPU time.
    """
    name = sample.replace("-", "_")
    if name == "samples" and unit == "count" and period[0] == "cpu":
        factor = period[2] * _UNITS.get(period[1], 0)
        return Measure("cpu", factor) if factor > 0 else None
    if name == "delay" and family.startswith("block"):
        return Measure("blocked", _UNITS[unit]) if unit in _UNITS else None
    if name not in _TYPES or unit not in _UNITS:
        return None
    return Measure(_TYPES[name], _UNITS[unit])


def unique(location: Location) -> Location:
    """A location is known by kind, mapping, address and build id. Where a foreign profile gives no
    build id the address says nothing, so it becomes one that stands for the lines."""
    if location.build_id or not location.lines:
        return location
    words = "\0".join(f"{function}\0{file}\0{line}" for function, file, line in location.lines)
    digest = hashlib.blake2b(words.encode("utf-8", "replace"), digest_size=8).digest()
    return location._replace(address=int.from_bytes(digest, "big") >> 1)


def clean_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Bounded in number and length; those without a value and private ones (__name__) go."""
    kept = {
        name[:_LONGEST_LABEL]: value[:_LONGEST_LABEL]
        for name, value in labels.items()
        if name and value and not name.startswith("__")
    }
    return dict(sorted(kept.items())[:_MOST_LABELS])


@dataclass(slots=True)
class Intake:
    """Rows of one type as they are read; equal stacks and labels are kept once."""

    type: str
    times: list[int] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    stack_of: list[int] = field(default_factory=list)
    labels_of: list[int] = field(default_factory=list)
    stacks: dict[Stack, int] = field(default_factory=dict)
    labels: dict[tuple[tuple[str, str], ...], int] = field(default_factory=dict)

    def stack(self, locations: Sequence[Location]) -> int:
        """The number of a stack, innermost first."""
        if len(locations) > MOST_FRAMES:
            stack = Stack(tuple(locations[:MOST_FRAMES]), StackStatus.TOO_DEEP)
        else:
            stack = Stack(tuple(locations))
        return self.stacks.setdefault(stack, len(self.stacks))

    def label_set(self, labels: Mapping[str, str]) -> int:
        key = tuple(clean_labels(labels).items())
        return self.labels.setdefault(key, len(self.labels))

    def add(self, time_ns: int, value: int, stack: int, labels: int) -> None:
        if value:
            self.times.append(time_ns)
            self.values.append(max(min(value, 2**62), -(2**62)))
            self.stack_of.append(stack)
            self.labels_of.append(labels)

    def samples(self) -> Samples:
        return Samples(
            type=self.type,
            times=np.array(self.times, np.int64),
            values=np.array(self.values, np.int64),
            stacks=list(self.stacks),
            stack_of=np.array(self.stack_of, np.int32),
            labels=[dict(pairs) for pairs in self.labels],
            labels_of=np.array(self.labels_of, np.int32),
        )


def named(function: str, file: str = "", line: int = 0) -> Line:
    """A line of a stranger: never without a name, never with an absurd number."""
    return Line(function or "(unknown)", file, line if 0 <= line < 2**31 else 0)
