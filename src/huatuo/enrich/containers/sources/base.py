"""What a daemon that knows containers is to us: it is asked for all of them at once.

asking.py asks when a container has come, and once a minute all the same. What the answers hold is
joined to what runtimes keep on disk, which names a container at once but knows few labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from huatuo.enrich.containers.base import Details

__all__ = ["Source", "SourceAbsent", "SourceError"]


class SourceError(Exception):
    """It does not answer, or not in a form that we know; says why."""


class SourceAbsent(SourceError):  # noqa: N818
    """There is no such daemon here, and nobody said that there is."""


class Source(Protocol):
    """One daemon."""

    name: str

    async def containers(self) -> Mapping[str, Details]:
        """All it knows, also those that have ended lately, by Mark.key. Raises SourceError."""

    def close(self) -> None: ...
