"""Incidents in the embedded store: the contract, and files of older versions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from huatuo.store.embedded import EmbeddedStore
from huatuo.store.incidents import EmbeddedIncidents
from tests.contracts.incidents import TestIncidents, incident
from tests.contracts.store import START, counter

__all__ = ["TestIncidents"]


def opened(directory: Path) -> EmbeddedStore:
    return EmbeddedStore(directory, max_bytes=1 << 26, max_age_seconds=86400)


@pytest.fixture
def incidents(tmp_path: Path) -> Iterator[EmbeddedIncidents]:
    store = opened(tmp_path)
    yield store.incidents
    store.close()


def test_a_file_of_the_version_before_is_brought_up(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.append_metrics(START, [counter([1.0])])
    store.close()
    with sqlite3.connect(tmp_path / "huatuo.db") as db:
        db.executescript("DROP TABLE incidents; DROP TABLE incident_files; PRAGMA user_version = 2")
    db.close()
    store = opened(tmp_path)
    stored = store.incidents.put(incident(1))
    assert store.incidents.list() == [stored]
    assert store.usage().series == 1
    store.close()


def test_they_outlive_what_they_are_made_of(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.append_metrics(START, [counter([1.0])])
    stored = store.incidents.put(incident(1))
    store.expire(START + 40 * 86400 * 1_000_000_000)
    assert store.usage().series == 0
    assert store.incidents.list() == [stored]
    store.close()
