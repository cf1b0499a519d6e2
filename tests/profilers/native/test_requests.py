"""Which page is compiled next, and what all of them may cost."""

from __future__ import annotations

import math

import pytest

from huatuo.profilers.native.requests import Budget, Requests


def test_files_take_turns() -> None:
    """One that asks for a thousand pages delays another by one page, not by a thousand."""
    requests = Requests()
    assert all(requests.add(1, page) for page in range(1000))
    assert requests.add(2, 7)
    first = [requests.next_page() for _ in range(3)]
    assert first == [(1, 0), (2, 7), (1, 1)]
    assert len(requests) == 998


def test_what_is_asked_for_twice_comes_once() -> None:
    requests = Requests()
    assert requests.add(1, 5)
    assert requests.add(1, 5)
    assert [requests.next_page(), requests.next_page()] == [(1, 5), None]


def test_a_file_and_all_files_can_only_ask_for_so_much() -> None:
    requests = Requests()
    taken = sum(requests.add(1, page) for page in range(5000))
    assert taken == 1024
    everything = taken + sum(requests.add(f, p) for f in range(2, 40) for p in range(1000))
    assert everything == len(requests) == 8192
    assert not requests.add(99, 1)
    assert requests.next_page() is not None
    assert requests.add(99, 1), "there is room again"


def test_blocks_around_pages_follow_when_nobody_waits() -> None:
    requests = Requests()
    for page in (3, 5, 40):
        requests.add(8, page)
    assert requests.next_block() is None, "nothing was compiled yet"
    while requests.next_page():
        pass
    blocks = [requests.next_block(), requests.next_block()]
    assert blocks == [(8, range(16)), (8, range(32, 48))]
    assert requests.next_block() is None


def test_blocks_that_wait_are_bounded() -> None:
    requests = Requests()
    for page in range(20_000):
        requests.add(page, 0)
        requests.next_page()
    count = 0
    while requests.next_block():
        count += 1
    assert count == 8192


def test_a_budget_is_a_burst_and_then_a_share() -> None:
    now = 100.0
    budget = Budget(3.0, 0.02, lambda: now)
    assert budget.left() == 3.0
    budget.spend(3.5)
    assert budget.left() == pytest.approx(-0.5)
    now += 50
    assert budget.left() == pytest.approx(0.5)
    now += 1e6
    assert budget.left() == 3.0, "what is not used is not kept"


def test_a_budget_without_an_end() -> None:
    budget = Budget(math.inf, 1.0)
    budget.spend(1e9)
    assert budget.left() == math.inf
