"""memory.huge on a tree of files with known numbers."""

from __future__ import annotations

from hypothesis import given, settings

from huatuo.probes.memory.huge import Huge
from tests.probes.tree import mangled, reader, samples, survives


def test_transparent_ones() -> None:
    found = samples(reader(Huge, "memory_huge"))
    assert found["policy_info"] == {("madvise", "madvise"): 1}
    assert found["collapsed_pages_total"] == {(): 336}
    assert found["scans_total"] == {(): 12}
    assert found["events_total"] == {
        ("2048kB", "anon_fault_alloc"): 8,
        ("2048kB", "anon_fault_fallback"): 3,
    }, "a size that is switched off is not looked at"
    assert found["transparent_pages"] == {
        ("2048kB", "all"): 5,
        ("2048kB", "partially_mapped"): 0,
    }


def test_pools() -> None:
    found = samples(reader(Huge, "memory_huge"))
    each = 2 << 20
    assert found["pool_bytes"] == {("2048kB", "used"): 6 * each, ("2048kB", "free"): 4 * each}
    assert found["promised_bytes"] == {("2048kB",): each}
    assert found["surplus_bytes"] == {("2048kB",): 2 * each}


@settings(deadline=None)
@given(mangled())
def test_garbage_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(Huge, "memory_huge", how)
    assert survives(Huge, "memory_huge", (0, 1, "garbage !", True)) > 0
