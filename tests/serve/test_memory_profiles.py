"""The double of the web server's tests keeps the contract, too."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from huatuo.store.profiles import ProfileStore
from tests.contracts.profiles import TestProfiles, TestProfilesAgainstModel
from tests.serve.memory_profiles import MemoryProfiles

__all__ = ["TestProfiles", "TestProfilesAgainstModel"]


@pytest.fixture
def new_profiles() -> Callable[[], ProfileStore]:
    return MemoryProfiles
