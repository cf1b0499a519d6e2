"""Pyroscope's forms, read back as Grafana and Pyroscope read them.

Levels are put together as Grafana's data source does it (pkg/tsdb/grafana-pyroscope-datasource/
query.go, levelsToTree): a bar belongs to the first bar above in whose bounds it lies.
"""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huatuo.export.flamebearer import Levels, dot, levels, tree_bytes
from huatuo.export.flamegraph import OTHER, flame_tree
from huatuo.model.profile import Stack
from tests.export.profiles import TOTAL, profile, stack_lists

Stacks = Sequence[tuple[Stack, int]]
Names = tuple[str, ...]
Bar = tuple[int, int, Names]  # start, end, path


def by_path(found: Levels, side: int, width: int) -> tuple[Counter[Names], Counter[Names]]:
    """(self, total) by path of names; checks that no bar is outside of all bars above."""
    own: Counter[Names] = Counter()
    total: Counter[Names] = Counter()
    above: list[Bar] = []
    for depth, row in enumerate(found.levels):
        bars: list[Bar] = []
        end, at = 0, 0
        for i in range(0, len(row), width):
            offset, value, self_value = row[i + 3 * side : i + 3 * side + 3].tolist()
            start, end = end + offset, end + offset + value
            assert offset >= 0
            path: Names = ()
            if depth:
                while not (above[at][0] <= start and end <= above[at][1]):
                    at += 1  # raises where the bar has no parent
                path = (*above[at][2], found.names[int(row[i + width - 1])])
            own[path] += self_value
            total[path] += value
            bars.append((start, end, path))
        above = bars
    return own, total


def expected(stacks: Stacks) -> tuple[Counter[Names], Counter[Names]]:
    own: Counter[Names] = Counter()
    total: Counter[Names] = Counter()
    for stack, value in stacks:
        path: Names = ()
        total[path] += value
        for location in reversed(stack.locations):
            names = [line.function for line in reversed(location.lines)]
            for name in names or [f"{location.mapping}+0x{location.address:x}"]:
                path = (*path, name)
                total[path] += value
        own[path] += value
    return own, total


def positive(counter: Counter[Names]) -> dict[Names, int]:
    return {path: value for path, value in counter.items() if value}


@given(stack_lists())
def test_grafana_finds_every_stack(stacks: Stacks) -> None:
    found = levels(flame_tree([profile(stacks)], by_name=True))
    own, total = by_path(found, 0, 4)
    assert positive(own) == expected(stacks)[0]
    assert positive(total) == expected(stacks)[1]
    assert found.totals == [sum(value for _, value in stacks)]
    assert found.max_self == max(own.values())
    assert found.names[0] == "total"


@given(stack_lists(), stack_lists())
def test_a_difference_holds_both(left: Stacks, right: Stacks) -> None:
    found = levels(flame_tree([profile(left), profile(right)], by_name=True))
    total = sum(value for _, value in left), sum(value for _, value in right)
    assert found.totals == list(total)
    for side, stacks in enumerate((left, right)):
        sums: Counter[str] = Counter()
        for row in found.levels:
            for i in range(0, len(row), 7):
                sums[found.names[int(row[i + 6])]] += int(row[i + 3 * side + 2])
        by_name: Counter[str] = Counter()
        for path, value in expected(stacks)[0].items():
            by_name[path[-1]] += value
        assert {name: value for name, value in sums.items() if value} == by_name


def read_tree(data: bytes) -> tuple[Counter[Names], int]:
    """As Pyroscope's UnmarshalTree does it: the parent last pushed comes first."""
    own: Counter[Names] = Counter()
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    waiting: list[Names] = [()]
    nodes = 0
    while waiting:
        above = waiting.pop()
        size = number()
        name, at = data[at : at + size].decode(), at + size
        path = (*above, name) if nodes else ()
        nodes += 1
        own[path] += number()
        waiting += [path] * number()
    assert at == len(data)
    return own, nodes


@given(stack_lists(), st.integers(0, 10))
def test_tree_bytes(stacks: Stacks, max_nodes: int) -> None:
    tree = flame_tree([profile(stacks)], max_nodes, by_name=True)
    data = tree_bytes(tree)
    if not stacks:
        assert data == b""
        return
    own, nodes = read_tree(data)
    assert nodes == len(tree)
    assert sum(own.values()) == sum(value for _, value in stacks)
    if not max_nodes:
        assert positive(own) == expected(stacks)[0]


def test_what_is_pruned_is_called_other() -> None:
    found = levels(flame_tree([profile()], 3, by_name=True))
    assert "other" in found.names
    assert OTHER not in found.names


def test_dot_is_what_graphviz_takes() -> None:
    text = dot(flame_tree([profile()], by_name=True), "nanoseconds")
    assert text.startswith("digraph")
    assert f"of {TOTAL - 4_000_000} nanoseconds (81.82%)" in text  # main
    if shutil.which("dot") is None:
        pytest.skip("graphviz is not installed")
    plain = subprocess.run(
        ["dot", "-Tplain"], input=text, capture_output=True, text=True, check=True
    )
    kinds = Counter(line.split()[0] for line in plain.stdout.splitlines())
    assert kinds["node"] == 8
    assert kinds["edge"] == 9  # handle calls itself
