"""The store of incidents that tests use keeps the contract, too."""

from __future__ import annotations

import pytest

from tests.contracts.incidents import TestIncidents
from tests.serve.memory_incidents import MemoryIncidents

__all__ = ["TestIncidents"]


@pytest.fixture
def incidents() -> MemoryIncidents:
    return MemoryIncidents()
