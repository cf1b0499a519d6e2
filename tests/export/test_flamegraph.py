"""Flame trees beside a dictionary of paths that is filled sample by sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from huatuo.export.flamegraph import OTHER, FlameTree, Function, flame_tree, sums
from huatuo.model.profile import Stack
from tests.export.profiles import LIBC, MAIN, PYTHON, STACKS, TOTAL, profile, stack_lists

Path = tuple[Function, ...]
Stacks = Sequence[tuple[Stack, int]]


def path_of(stack: Stack) -> Path:
    found = []
    for location in reversed(stack.locations):
        names = [line.function for line in reversed(location.lines)]
        names = names or [f"{location.mapping}+0x{location.address:x}"]
        found += [Function(name, location.kind, location.mapping) for name in names]
    return tuple(found)


def expected(stacks: Stacks) -> tuple[Counter[Path], Counter[Path]]:
    own: Counter[Path] = Counter()
    total: Counter[Path] = Counter()
    for stack, value in stacks:
        path = path_of(stack)
        own[path] += value
        for size in range(len(path) + 1):
            total[path[:size]] += value
    return own, total


def found(tree: FlameTree, column: int = 0) -> tuple[dict[Path, int], dict[Path, int]]:
    own, total = {}, {}
    for node, path in enumerate(tree.paths(range(len(tree)))):
        key = tuple(tree.functions[i] for i in path)
        assert key not in own, "a function stands once below its caller"
        own[key] = int(tree.self_values[node, column])
        total[key] = int(tree.totals[node, column])
    return own, total


def check_shape(tree: FlameTree) -> None:
    """Parents first, siblings together and in order, levels, and totals that add up."""
    assert tree.parent[0] == -1
    assert (tree.parent[1:] < np.arange(1, len(tree))).all()
    assert (np.diff(tree.parent) >= 0).all()
    same = np.flatnonzero(np.diff(tree.parent) == 0)
    names = [tree.functions[i] for i in tree.function]
    assert all(names[i] < names[i + 1] for i in same)
    for depth in range(1, len(tree.levels) - 1):
        level = tree.parent[tree.levels[depth] : tree.levels[depth + 1]]
        assert ((level >= tree.levels[depth - 1]) & (level < tree.levels[depth])).all()
    below = tree.self_values.copy()
    np.add.at(below, tree.parent[1:], tree.totals[1:])
    assert (below == tree.totals).all()


def test_inlined_functions_are_nodes() -> None:
    tree = flame_tree([profile()])
    check_shape(tree)
    own, _ = found(tree)
    (path,) = [path for path in own if path and path[-1].name.startswith("std::min")]
    assert [function.name for function in path] == ["main", "work", "std::min<int>(int, int)"]
    assert own[path] == 5_000_000


@given(stack_lists())
def test_every_value_stands_at_its_path(stacks: Stacks) -> None:
    tree = flame_tree([profile(stacks)])
    check_shape(tree)
    own, total = found(tree)
    wanted_own, wanted_total = expected(stacks)
    assert {path: value for path, value in own.items() if value} == dict(wanted_own)
    assert {path: value for path, value in total.items() if value} == dict(wanted_total)


@given(stack_lists(), stack_lists())
def test_two_profiles_are_aligned_by_function(left: Stacks, right: Stacks) -> None:
    tree = flame_tree([profile(left), profile(right)])
    check_shape(tree)
    for column, stacks in enumerate((left, right)):
        own, _ = found(tree, column)
        assert {path: value for path, value in own.items() if value} == dict(expected(stacks)[0])


@given(stack_lists(), st.integers(1, 20))
def test_pruning_keeps_the_sum_and_the_largest(stacks: Stacks, max_nodes: int) -> None:
    whole, cut = flame_tree([profile(stacks)]), flame_tree([profile(stacks)], max_nodes)
    check_shape(cut)
    assert cut.totals[0, 0] == whole.totals[0, 0] == sum(value for _, value in stacks)
    named = [i for i in range(len(cut)) if cut.functions[cut.function[i]].name != OTHER]
    assert len(named) <= max_nodes
    _, total = found(whole)
    _, shown = found(cut)
    kept = {path: value for path, value in shown.items() if OTHER not in [f.name for f in path]}
    assert all(total[path] == value for path, value in kept.items())
    dropped = [value for path, value in total.items() if path not in kept]
    assert max(dropped, default=0) <= min(kept.values())


@pytest.mark.parametrize("max_nodes", [1, 3, 5, 8])
def test_what_is_pruned_stands_below_its_caller(max_nodes: int) -> None:
    tree = flame_tree([profile()], max_nodes)
    check_shape(tree)
    assert int(tree.self_values.sum()) == TOTAL
    assert OTHER in [tree.functions[i].name for i in tree.function]


def test_by_name_makes_one_of_equal_names() -> None:
    elsewhere = MAIN._replace(mapping="other", build_id="cc")
    stacks = [(Stack((MAIN,)), 1), (Stack((elsewhere,)), 2)]
    assert len(flame_tree([profile(stacks)])) == 3
    tree = flame_tree([profile(stacks)], by_name=True)
    assert tree.totals[:, 0].tolist() == [3, 3]


def test_recursion_counts_once() -> None:
    stacks = [(Stack((PYTHON, LIBC, PYTHON, PYTHON, MAIN)), 10), (Stack((PYTHON, MAIN)), 1)]
    tree = flame_tree([profile(stacks)])
    own, total = sums(tree)
    by_name = {f.name: (int(own[i, 0]), int(total[i, 0])) for i, f in enumerate(tree.functions)}
    assert by_name["handle"] == (11, 11)
    assert by_name["main"] == (0, 11)
    assert by_name["libc.so.6+0x8612b"] == (0, 10)


def test_an_empty_profile_is_its_root() -> None:
    tree = flame_tree([profile([])], 10)
    assert len(tree) == 1
    assert tree.totals.tolist() == [[0]]


def test_values_beyond_53_bits_stay_exact() -> None:
    stacks = [(STACKS[0][0], 2**62 + 1), (STACKS[1][0], 3)]
    assert int(flame_tree([profile(stacks)], 2).totals[0, 0]) == 2**62 + 4
