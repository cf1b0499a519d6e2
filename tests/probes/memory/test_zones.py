"""memory.zones on a tree of files with known numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from huatuo.probes.memory.zones import Zones
from tests.probes.tree import mangled, reader, samples, survives


def test_blocks_and_the_share_that_is_too_small() -> None:
    found = samples(reader(Zones, "memory_zones"))
    assert found["free_blocks"]["0", "Normal", "0"] == 10
    assert found["free_blocks"]["0", "DMA", "10"] == 3
    assert len(found["free_blocks"]) == 3 * 11
    unusable = found["unusable_ratio"]  # of 10 + 5 * 2 + 8 pages
    assert unusable["0", "Normal", "1"] == pytest.approx(10 / 28)
    assert unusable["0", "Normal", "3"] == pytest.approx(20 / 28)
    assert unusable["0", "Normal", "4"] == 1
    assert unusable["0", "DMA", "8"] == 0
    assert unusable["0", "DMA", "9"] == pytest.approx(256 / (256 + 512 + 3 * 1024))
    assert ("1", "Normal", "9") not in unusable, "nothing is free there"


def test_free_memory_and_the_marks_of_reclaim() -> None:
    found = samples(reader(Zones, "memory_zones"))
    zones = {("0", "DMA"): (3840, 3840), ("0", "Normal"): (28, 4000), ("1", "Normal"): (0, 4000)}
    assert found["free_bytes"] == {zone: free * 4096 for zone, (free, _) in zones.items()}
    assert found["managed_bytes"] == {zone: pages * 4096 for zone, (_, pages) in zones.items()}
    assert found["mark_bytes"]["0", "Normal", "low"] == 125 * 4096
    assert found["mark_bytes"]["0", "DMA", "high"] == 21 * 4096
    assert len(found["mark_bytes"]) == 3 * 3, "an empty zone has none"


@settings(deadline=None)
@given(mangled())
def test_garbage_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(Zones, "memory_zones", how)
    assert survives(Zones, "memory_zones", (0, 1, "garbage !", True)) > 0
