"""What the web server asks of the agent it serves. The agent implements it; tests may, too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from huatuo.model.application import ContainerApplication
from huatuo.model.event import Container, Event
from huatuo.model.incident import Capture
from huatuo.model.metric import Metric
from huatuo.model.state import Decision, Health, ProbeState
from huatuo.store.base import Store

__all__ = ["Capturing", "Node"]


class Capturing(Protocol):
    """Captures by hand; from any thread."""

    def states(self) -> list[Capture]:
        """All that are known, newest first."""

    def ask(self, plan: str, container: str) -> Capture:
        """Queued or refused; it becomes an incident."""

    def stop(self, capture_id: int) -> bool:
        """Whether there was anything to stop."""


class Node(Protocol):
    @property
    def store(self) -> Store: ...

    @property
    def tracing(self) -> Capturing: ...

    def health(self) -> Health: ...

    def probes(self) -> list[ProbeState]: ...

    def decisions(self) -> list[Decision]:
        """The governor's, newest first."""

    def containers(self) -> list[Container]:
        """Living owners and those gone for less than 10 minutes."""

    def application(self, container: Container) -> ContainerApplication:
        """What runs in it now; from any thread."""

    def metrics(self) -> list[Metric]:
        """All families now, enriched, the agent's own included: a scrape."""

    def subscribe(self) -> AsyncIterator[Event]:
        """Events as they happen, until the iterator is closed."""
