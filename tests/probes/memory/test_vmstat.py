"""memory.vmstat on a tree of files with known numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from huatuo.probes.memory.vmstat import Vmstat
from tests.probes.tree import mangled, reader, samples, survives


def test_important_counters_have_families() -> None:
    found = samples(reader(Vmstat, "memory_vmstat"))
    assert found["faults_total"] == {("minor",): 900, ("major",): 100}
    assert found["paged_bytes_total"] == {("in",): 4528589 * 1024, ("out",): 4148496 * 1024}
    assert found["swapped_pages_total"] == {("in",): 3, ("out",): 4}
    assert found["allocation_stalls_total"] == {("dma",): 0, ("normal",): 12, ("movable",): 1}
    assert found["scanned_pages_total"] == {("kswapd",): 50, ("direct",): 60}
    assert found["reclaimed_pages_total"] == {("kswapd",): 40, ("direct",): 30}
    assert found["compaction_stalls_total"] == {("success",): 6, ("fail",): 3}
    assert found["huge_page_faults_total"] == {("success",): 8, ("fallback",): 2}
    assert found["refaulted_pages_total"] == {("anon",): 5, ("file",): 773376}
    assert found["oom_kills_total"][()] == 2
    assert found["dirty_limit_bytes"][()] == pytest.approx(1000 * 4096)


def test_all_other_events_that_happened() -> None:
    found = samples(reader(Vmstat, "memory_vmstat"))
    assert found["events_total"] == {
        ("nr_vmscan_write",): 17,
        ("kswapd_low_wmark_hit_quickly",): 21,
        ("drop_pagecache",): 1,
    }


@settings(deadline=None)
@given(mangled())
def test_garbage_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(Vmstat, "memory_vmstat", how)
    assert survives(Vmstat, "memory_vmstat", (0, 1, "garbage !", True)) > 0
