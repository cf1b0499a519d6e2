"""memory.slab on a tree of files with known numbers."""

from __future__ import annotations

from hypothesis import given, settings

from huatuo.probes.memory.slab import Slab
from tests.probes.tree import mangled, reader, samples, survives


def test_the_largest_by_name_and_the_rest_together() -> None:
    found = samples(reader(Slab, "memory_slab"))
    memory = found["cache_bytes"]
    assert len(memory) == 20 + 1
    assert memory["dentry",] == 2000 * 4096
    assert memory["ext4_inode_cache",] == 10 * 8 * 4096
    assert memory["other",] == 7 * 4096, "27 caches, 20 by name"
    assert sum(memory.values()) == (2000 + 80 + 25) * 4096
    assert found["cache_used_bytes"]["dentry",] == 21000 * 192
    assert found["cache_objects"]["ext4_inode_cache",] == 270
    assert sum(found["cache_objects"].values()) == 21000 + 270 + sum(range(1, 26))


@settings(deadline=None)
@given(mangled())
def test_garbage_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(Slab, "memory_slab", how)
    assert survives(Slab, "memory_slab", (0, 1, "garbage !", True)) > 0
