"""memory.info on a tree of files with known numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from huatuo.probes.memory.info import Info
from tests.probes.tree import mangled, reader, samples, survives


def test_fields_are_bytes() -> None:
    found = samples(reader(Info, "memory_info"))
    assert found["total_bytes"][()] == 16000 * 1024
    assert found["available_bytes"][()] == 9000 * 1024
    assert found["swap_free_bytes"][()] == 1024 * 1024
    assert found["committed_bytes"][()] == 20000 * 1024
    assert found["slab_bytes"] == {("reclaimable",): 300 * 1024, ("unreclaimable",): 200 * 1024}
    assert sum(found["lru_bytes"].values()) == 7010 * 1024
    assert found["transparent_huge_bytes"] == {("anon",): 2048 * 1024}
    assert found["hugetlb_free_bytes"][()] == 3 * 2048 * 1024
    assert found["hugetlb_bytes"][()] == pytest.approx(8 * 2048 * 1024)


@settings(deadline=None)
@given(mangled())
def test_garbage_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(Info, "memory_info", how)
    assert survives(Info, "memory_info", (0, 1, "garbage !", True)) > 0
