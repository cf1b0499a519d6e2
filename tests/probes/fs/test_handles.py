"""fs.handles on a tree of files with known numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from huatuo.probes.fs.handles import Handles
from tests.probes.tree import mangled, reader, samples, survives


def test_open_and_limit() -> None:
    found = samples(reader(Handles, "fs_handles"))
    assert found["open"][()] == 550
    assert found["limit"][()] == pytest.approx(2466170)


@settings(deadline=None)
@given(mangled())
def test_garbage_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(Handles, "fs_handles", how)
    assert survives(Handles, "fs_handles", (0, 1, "garbage !", True)) > 0
