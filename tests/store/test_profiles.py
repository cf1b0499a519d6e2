"""Profiles in the embedded store: the contract, and what is its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from huatuo.store.embedded import EmbeddedStore
from huatuo.store.profile import dictionary, log, recent
from huatuo.store.profiles import ProfileStore
from tests.contracts.profiles import TestHostileQueries, TestProfiles, TestProfilesAgainstModel

__all__ = ["TestHostileQueries", "TestProfiles", "TestProfilesAgainstModel"]


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[[], EmbeddedStore]]:
    """An empty one each time; the one before is closed, and gone."""
    opened: list[EmbeddedStore] = []

    def close() -> None:
        while opened:
            opened.pop().close()
            shutil.rmtree(tmp_path / "store")

    def new() -> EmbeddedStore:
        close()
        where = tmp_path / "store"
        opened.append(EmbeddedStore(where, max_bytes=64 << 20, max_age_seconds=30 * 86400))
        return opened[-1]

    yield new
    close()


@pytest.fixture(params=["as it is", "small"])
def new_profiles(
    request: pytest.FixtureRequest,
    open_store: Callable[[], EmbeddedStore],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[], ProfileStore]:
    """Small: everything that happens after hours happens at once: blocks are joined, chunks of
    nodes too, epochs end, what was used last is forgotten."""
    if request.param == "small":
        monkeypatch.setattr(log, "_JOINED", 2)
        monkeypatch.setattr(log, "_FULL_SAMPLES", 20)
        monkeypatch.setattr(dictionary, "_CHUNKS", 2)
        monkeypatch.setattr(dictionary, "_CHUNK_NODES", 4)
        monkeypatch.setattr(dictionary, "_EPOCH_NODES", 12)
        monkeypatch.setattr(recent, "_SETS", 1)
        monkeypatch.setattr(recent, "_WAYS", 2)
        monkeypatch.setattr(recent, "_PATHS", 2)
    return lambda: open_store().profiles
