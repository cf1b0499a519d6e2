"""What pprof and OTLP have in common: locations, functions, files and texts, each once, by number.

Number 0 is the empty one in each table, as both formats want it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from huatuo.model.profile import FrameKind, Location, Profile

__all__ = ["Mapped", "Tables", "kind_of", "period_of", "stacks"]

_NOT_KERNEL = ("[vdso]", "[vsyscall]", "[vvar]", "[anon", "[heap", "[stack")
_ANONYMOUS = ("[anon", "[heap", "[stack", "//anon")


class Mapped(NamedTuple):
    """A file, as far as frames of one kind are in it."""

    kind: FrameKind
    name: str
    build_id: str


def kind_of(mapping: str) -> FrameKind:
    """The kind of code that a mapping of this name has, if nothing else is said."""
    if mapping.startswith(_ANONYMOUS):
        return FrameKind.JIT
    if mapping.startswith("[") and not mapping.startswith(_NOT_KERNEL):
        return FrameKind.KERNEL
    return FrameKind.NATIVE


@dataclass(slots=True)
class Tables:
    """Each maps an entry to its number: texts, (name, file) of functions, files; `locations` are
    the profile's, numbered from 1, with (function, line) of each of their lines."""

    texts: dict[str, int] = field(default_factory=lambda: {"": 0})
    functions: dict[tuple[int, int], int] = field(default_factory=dict)
    mappings: dict[Mapped, int] = field(default_factory=dict)
    locations: list[tuple[int, int, list[tuple[int, int]]]] = field(default_factory=list)

    def text(self, value: str) -> int:
        return self.texts.setdefault(value, len(self.texts))

    def add(self, locations: Sequence[Location]) -> None:
        """Append locations: (mapping, address, lines)."""
        texts, functions, mappings = self.texts, self.functions, self.mappings
        for kind, name, address, build_id, lines in locations:
            mapped = mappings.setdefault(Mapped(kind, name, build_id), len(mappings) + 1)
            numbered = []
            for function, file, line in lines:
                key = (
                    texts.setdefault(function, len(texts)),
                    texts.setdefault(file, len(texts)),
                )
                numbered.append((functions.setdefault(key, len(functions) + 1), line))
            self.locations.append((mapped, address, numbered))


def stacks(profile: Profile) -> Iterator[tuple[list[int], int]]:
    """(indexes of locations, innermost first; value) of each node with a value of its own."""
    parent, location = profile.parent.tolist(), profile.location.tolist()
    values = profile.self_values.tolist()
    for node, value in enumerate(values):
        if value:
            stack = []
            while node > 0:
                stack.append(location[node])
                node = parent[node]
            yield stack, value


def period_of(profile: Profile) -> int:
    """What one sample stood for on average, where samples stand for time; else 1."""
    kind = profile.type
    if kind.unit != kind.period_unit or not profile.samples:
        return 1
    return max(profile.total // profile.samples, 1)
