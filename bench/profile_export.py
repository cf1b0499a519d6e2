"""What a flame graph and each export cost, for trees as busy hosts have them.

    python bench/profile_export.py

A made-up tree of 100,000 locations in context (20,000 different ones, a third of them with an
inlined function, depth up to 60) and one of 5,000 stacks. CPU time, median of 9 after the first.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from huatuo.export import folded, otlp_profiles, pprof, speedscope
from huatuo.export.firefox import firefox
from huatuo.export.flamebearer import levels
from huatuo.export.flamegraph import flame_tree
from huatuo.model.profile import PROFILE_TYPES, FrameKind, Line, Location, Profile
from huatuo.serve.render import json_response
from huatuo.serve.routes.profiles import flame_answer

RUNS = 9


def tree(nodes: int, locations: int, stacks: int, depth: int = 60) -> Profile:
    """`stacks` of the nodes have a value of their own."""
    rng = np.random.default_rng(1)
    known = [
        Location(
            FrameKind.KERNEL if i % 5 == 0 else FrameKind.NATIVE,
            "[vmlinux]" if i % 5 == 0 else f"lib{i % 40}.so",
            0x1000 + 16 * i,
            f"{i % 40:040x}",
            tuple(
                Line(f"function_{i}_{j}", f"file{i % 100}.c", i) for j in range(1 + (i % 3 == 0))
            ),
        )
        for i in range(locations)
    ]
    parent, level = np.full(nodes, -1, np.int32), np.zeros(nodes, np.int32)
    for node in range(1, nodes):
        above = int(rng.integers(max(0, node - 300), node))
        parent[node] = above if level[above] < depth else 0
        level[node] = level[parent[node]] + 1
    location = rng.integers(0, locations, nodes).astype(np.int32)
    location[0] = -1
    values = np.zeros(nodes, np.int64)
    values[rng.choice(np.arange(1, nodes), stacks, replace=False)] = rng.integers(1, 10**9, stacks)
    return Profile(PROFILE_TYPES["cpu"], 0, 10**10, known, parent, location, values, stacks)


def timed(call: Callable[[], object]) -> float:
    """Milliseconds of CPU."""
    costs = []
    for _ in range(RUNS + 1):
        begin = time.process_time()
        call()
        costs.append(time.process_time() - begin)
    return statistics.median(costs[1:]) * 1e3


def main() -> None:
    large = tree(100_000, 20_000, 60_000)
    small = tree(20_000, 20_000, 5_000)
    merged = flame_tree([large])
    print(f"flame tree: {len(large.parent):,} locations in context → {len(merged):,} functions")
    for name, call in (
        ("flame tree, whole", lambda: flame_tree([large])),
        ("flame tree, 10,000 kept", lambda: flame_tree([large], 10_000)),
        ("difference of two, 10,000 kept", lambda: flame_tree([large, large], 10_000)),
        ("answer as JSON, 10,000 kept", lambda: json_response(flame_answer([large], 10_000))),
        ("answer as JSON, whole", lambda: json_response(flame_answer([large], 0))),
        ("Pyroscope's levels, whole", lambda: levels(flame_tree([large], by_name=True))),
    ):
        print(f"{name:<38}{timed(call):>8.0f} ms")
    print(f"\n{small.samples:,} stacks, {len(small.locations):,} locations")
    for title, write in (
        ("pprof", pprof.write),
        ("folded", folded.write),
        ("speedscope", speedscope.speedscope),
        ("firefox", firefox),
        ("otlp", otlp_profiles.write),
    ):
        data = write(small)
        print(f"{title:<38}{timed(lambda w=write: w(small)):>8.0f} ms{len(data) / 1024:>8.0f} KiB")  # type: ignore[misc]
    data = pprof.write(small)
    print(f"{'pprof, read':<38}{timed(lambda: pprof.read(data)):>8.0f} ms")


if __name__ == "__main__":
    main()
