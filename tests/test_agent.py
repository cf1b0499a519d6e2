"""The agent without probes: what its store does to its loop, and what is kept when it stops."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from huatuo.agent import Agent
from huatuo.config import Config
from huatuo.model.event import Event
from huatuo.settings import AgentSettings, StoreSettings
from huatuo.store.base import EventQuery
from huatuo.store.embedded import EmbeddedStore
from tests.contracts.store import event

SLOW = 0.4  # seconds that the store takes to write


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    settings = AgentSettings(interval=100_000_000)
    return Agent(Config((), settings, StoreSettings(directory=str(tmp_path))))


async def latest(seconds: float) -> float:
    """How late the loop was at worst."""
    worst = 0.0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        due = time.monotonic() + 0.01
        await asyncio.sleep(0.01)
        worst = max(worst, time.monotonic() - due)
    return worst


def test_a_slow_store_does_not_stop_the_loop(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent.store, "append_metrics", lambda *_: time.sleep(SLOW))

    async def scenario() -> float:
        running = asyncio.create_task(agent.run_forever())
        worst = await latest(3 * SLOW)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return worst

    assert asyncio.run(scenario()) < SLOW / 2


def test_everything_is_stored_when_it_stops(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is being written, what waits for it, and what is in the rings only."""
    rings = [[event(2)], [event(1)], [event(0)]]
    write = agent.store.append_events

    def slowly(events: list[Event]) -> list[Event]:
        time.sleep(SLOW)
        return write(events)

    monkeypatch.setattr(agent.store, "append_events", slowly)
    monkeypatch.setattr(agent, "_new_events", lambda: rings.pop() if rings else [])

    async def scenario() -> None:
        running = asyncio.create_task(agent.run_forever())
        other = asyncio.create_task(agent.drain())
        await asyncio.sleep(SLOW / 2)
        running.cancel()
        other.cancel()
        await asyncio.gather(running, other, return_exceptions=True)

    asyncio.run(scenario())
    assert not rings
    reader = EmbeddedStore.open_readonly(tmp_path)
    found = [each.fields["serial"] for each in reader.events(EventQuery())]
    reader.close()
    assert sorted(found) == [0, 1, 2]
