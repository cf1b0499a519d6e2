"""What a store can do with profiles. Every implementation passes tests/contracts/profiles.py.

Samples are kept as they were measured, to the millisecond, beside dictionaries in which each
stack, location, line and text stands once. Merging over any range and any labels is the reader's
business, so nothing is summed away when it is written.

As everywhere in the store: appending never raises for what the disk does, reading raises
StoreError, and BadQuery for what no store could answer. Times are kept to the millisecond; texts
that are not valid Unicode are replaced in part, very long ones (4096 characters) cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from huatuo.model.profile import Line, Location, Profile, Samples

__all__ = ["Matcher", "ProfileQuery", "ProfileSeries", "ProfileStore"]


class Matcher(NamedTuple):
    """As in a Prometheus selector: `op` is =, !=, =~ or !~, the expression anchored at both ends.

    A label that a sample does not have is the empty text. Expressions are RE2's, of at most 1000
    characters; a dot matches any character.
    """

    name: str
    op: str
    value: str


@dataclass(frozen=True, slots=True)
class ProfileQuery:
    """Samples of one type, all matchers satisfied. Times are UTC ns, `end_ns` inclusive."""

    type: str  # a key of PROFILE_TYPES
    start_ns: int = 0
    end_ns: int = 2**63 - 1
    matchers: tuple[Matcher, ...] = ()


@dataclass(frozen=True, slots=True)
class ProfileSeries:
    """Values summed per step: `values` int64 (steps,), step i begins at start_ns + i * step_ns.
    `labels`: those asked for that are not empty."""

    labels: Mapping[str, str]
    values: npt.NDArray[np.int64]


class ProfileStore(Protocol):
    def append(self, samples: Samples) -> None:
        """All of a batch or, after a crash, nothing of it."""

    def set_lines(self, lines: Mapping[Location, tuple[Line, ...]]) -> int:
        """Symbols that became known later: every location stored so far that differs from a key in
        its lines at most gets the new ones. What is appended afterwards stands as it is, also
        where it has no lines. Returns how many of the keys were stored with other lines."""

    def types(self, start_ns: int, end_ns: int) -> list[str]:
        """Names of the types with samples in the range."""

    def labels(self, query: ProfileQuery) -> dict[str, list[str]]:
        """Label names and their values among the samples of a query, both sorted."""

    def merge(self, query: ProfileQuery) -> Profile:
        """All samples of a query as one tree; for a gauge, the average over their distinct times,
        rounded down. Its range is the query's; an open end is that of the type's samples."""

    def series(
        self, query: ProfileQuery, step_ns: int, by: Sequence[str] = (), spread: bool = False
    ) -> list[ProfileSeries]:
        """Values over time, a series for each distinct set of the labels in `by` that samples of
        the query have, ordered by them.

        The query's range must have an end; a gauge's step has the average over the series' times
        in it, rounded down. An answer of more than some million values is refused.

        `spread`: a value of nanoseconds is not counted where its sample is but over that time
        before it; what lies before the range is left out.
        """
