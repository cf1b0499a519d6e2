"""What the web server asks of the agent it serves. The agent implements it; tests may, too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from huatuo.model.event import Container, Event
from huatuo.model.metric import Metric
from huatuo.model.state import Decision, Health, ProbeState
from huatuo.store.base import Store
from huatuo.store.profiles import ProfileStore

__all__ = ["Node"]


class Node(Protocol):
    @property
    def store(self) -> Store: ...

    @property
    def profiles(self) -> ProfileStore | None:
        """None where no profiles are kept."""

    def health(self) -> Health: ...

    def probes(self) -> list[ProbeState]: ...

    def decisions(self) -> list[Decision]:
        """The governor's, newest first."""

    def containers(self) -> list[Container]:
        """Living owners and those gone for less than 10 minutes."""

    def metrics(self) -> list[Metric]:
        """All families now, enriched, the agent's own included: a scrape."""

    def subscribe(self) -> AsyncIterator[Event]:
        """Events as they happen, until the iterator is closed."""
