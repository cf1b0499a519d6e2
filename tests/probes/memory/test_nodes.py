"""memory.nodes on a tree of files with known numbers."""

from __future__ import annotations

from hypothesis import given, settings

from huatuo.probes.memory.nodes import Nodes
from tests.probes.tree import mangled, reader, samples, survives


def test_where_pages_were_allocated() -> None:
    found = samples(reader(Nodes, "memory_nodes"))
    assert found["allocated_pages_total"]["0", "hit"] == 1000
    assert found["allocated_pages_total"]["1", "miss"] == 20
    assert found["foreign_pages_total"] == {("0",): 20, ("1",): 0}
    assert found["placed_pages_total"]["1", "local"] == 901
    assert found["placed_pages_total"]["1", "remote"] == 120


def test_what_nodes_are_used_for() -> None:
    found = samples(reader(Nodes, "memory_nodes"))
    assert found["total_bytes"] == {("0",): 16000 * 1024, ("1",): 16001 * 1024}
    assert found["free_bytes"]["1",] == 8999 * 1024
    assert found["used_bytes"]["0", "file"] == 3000 * 1024
    assert sum(found["used_bytes"].values()) == 2 * 5810 * 1024


@settings(deadline=None)
@given(mangled())
def test_garbage_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(Nodes, "memory_nodes", how)
    assert survives(Nodes, "memory_nodes", (0, 1, "garbage !", True)) > 0
