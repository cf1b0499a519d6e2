"""The locations of a profile in columns, each made when it is asked for.

Tens of thousands of tuples at once would set off the collector of garbage several times, which
stops every thread of the agent for as long as it looks through all objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

from huatuo.model.profile import FrameKind, Line, Location

__all__ = ["LocationTable"]


@dataclass(slots=True)
class LocationTable(Sequence[Location]):
    """Location i has the lines from `ends[i]` to `ends[i + 1]`."""

    kinds: list[FrameKind] = field(default_factory=list)
    mappings: list[str] = field(default_factory=list)
    addresses: list[int] = field(default_factory=list)
    build_ids: list[str] = field(default_factory=list)
    ends: list[int] = field(default_factory=lambda: [0])
    functions: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    def extend(self, other: LocationTable) -> None:
        before = self.ends[-1]
        self.ends += [before + end for end in other.ends[1:]]
        self.kinds += other.kinds
        self.mappings += other.mappings
        self.addresses += other.addresses
        self.build_ids += other.build_ids
        self.functions += other.functions
        self.files += other.files
        self.numbers += other.numbers

    def __len__(self) -> int:
        return len(self.kinds)

    @overload
    def __getitem__(self, at: int) -> Location: ...

    @overload
    def __getitem__(self, at: slice) -> list[Location]: ...

    def __getitem__(self, at: int | slice) -> Location | list[Location]:
        if isinstance(at, slice):
            return [self[each] for each in range(*at.indices(len(self)))]
        at = range(len(self))[at]
        lines = map(
            Line,
            self.functions[self.ends[at] : self.ends[at + 1]],
            self.files[self.ends[at] : self.ends[at + 1]],
            self.numbers[self.ends[at] : self.ends[at + 1]],
        )
        return Location(
            self.kinds[at], self.mappings[at], self.addresses[at], self.build_ids[at], tuple(lines)
        )

    def __iter__(self) -> Iterator[Location]:
        return map(self.__getitem__, range(len(self)))
