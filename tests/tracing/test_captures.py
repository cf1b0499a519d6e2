"""Captures as jobs: order, limits and ends, with work that is known."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from huatuo.errors import KernelLacks
from huatuo.settings import CaptureSettings
from huatuo.tracing.capture import Captured, Stopped
from huatuo.tracing.captures import Captures, Job

Work = Callable[[Job], Captured]


def governor(**changes: float) -> Any:
    """What Captures asks of it."""
    numbers = {"total_ratio": 0.0, "cpu_budget": 0.01, "memory_bytes": 1, "memory_budget": 2}
    return SimpleNamespace(**(numbers | changes))


def captures(work: Work, costs: Any = None, **settings: Any) -> Captures:
    return Captures(CaptureSettings(**settings), costs or governor(), 2, work)


def nothing(_job: Job) -> Captured:
    return Captured({}, [], ["profile.cpu: made up"], 1.0)


def scenario(jobs: Captures, ask: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        running = asyncio.create_task(jobs.run())
        try:
            await asyncio.wait_for(ask(), 20)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())


async def over(job: Job) -> None:
    while job.state.status in ("queued", "running"):
        await asyncio.sleep(0.01)


def ignore(_job: Job, _found: Captured | None) -> None:
    pass


def test_one_at_a_time_in_order() -> None:
    active, most, order = 0, 0, []
    lock = threading.Lock()

    def work(job: Job) -> Captured:
        nonlocal active, most
        with lock:
            active, order[len(order) :] = active + 1, [job.state.target]
            most = max(most, active)
        time.sleep(0.05)
        with lock:
            active -= 1
        return nothing(job)

    ended: list[tuple[str, bool]] = []
    jobs = captures(work)

    async def ask() -> None:
        made = [jobs.ask("cpu", name, lambda job, found: ended.append(
            (job.state.target, found is not None))) for name in "abc"]  # fmt: skip
        assert [job.state.status for job in made] == ["queued"] * 3
        await over(made[2])
        assert made[0].state.notes == ["profile.cpu: made up"]
        assert [state.id for state in jobs.states()] == [3, 2, 1]

    scenario(jobs, ask)
    assert (most, order) == (1, ["a", "b", "c"])
    assert ended == [("a", True), ("b", True), ("c", True)]


@pytest.mark.parametrize(
    ("costs", "settings", "message"),
    [
        ({}, {"per_hour": 2}, "2 captures in an hour"),
        ({}, {"cpu": 1e-9}, "took 1.0 s of CPU"),
        ({"total_ratio": 0.02}, {}, "over its budget: 2.00%"),
        ({"memory_bytes": 3 << 20, "memory_budget": 2 << 20}, {}, "over its budget: 3 MiB"),
    ],
)
def test_refused_with_the_reason(
    costs: dict[str, float], settings: dict[str, Any], message: str
) -> None:
    told: list[Captured | None] = []
    now = governor()
    jobs = captures(nothing, now, **settings)

    async def ask() -> None:
        for _ in range(2):
            first = jobs.ask("cpu", "", ignore)
            if first.state.status != "refused":
                await over(first)
        for name, value in costs.items():
            setattr(now, name, value)
        refused = jobs.ask("cpu", "", lambda _job, found: told.append(found))
        assert refused.state.status == "refused"
        assert message in refused.state.reason

    scenario(jobs, ask)
    assert told == [None]


def test_an_unknown_plan_is_refused() -> None:
    async def ask() -> None:
        job = jobs.ask("everything", "", ignore)
        assert (job.state.status, "known are cpu" in job.state.reason) == ("refused", True)

    jobs = captures(nothing)
    scenario(jobs, ask)


def test_failures_are_told_and_the_next_one_runs() -> None:
    def work(job: Job) -> Captured:
        if job.state.target == "lacks":
            raise KernelLacks("no BPF here")
        if job.state.target == "bug":
            raise ZeroDivisionError
        return nothing(job)

    jobs = captures(work)

    async def ask() -> None:
        made = [jobs.ask("cpu", name, ignore) for name in ("lacks", "bug", "fine")]
        await over(made[2])
        assert [job.state.status for job in made] == ["failed", "failed", "done"]
        assert made[0].state.reason == "no BPF here"
        assert "this is a bug" in made[1].state.reason

    scenario(jobs, ask)


def test_stopped_while_queued_and_while_running() -> None:
    def work(job: Job) -> Captured:
        if job.stop.wait(10):
            raise Stopped("it was stopped")
        return nothing(job)

    jobs = captures(work)

    async def ask() -> None:
        first, second = jobs.ask("cpu", "a", ignore), jobs.ask("cpu", "b", ignore)
        while first.state.status != "running":
            await asyncio.sleep(0.01)
        assert jobs.stop(second.state.id)
        assert jobs.stop(first.state.id)
        await over(second)
        assert [job.state.status for job in (first, second)] == ["failed", "failed"]
        assert first.state.reason == "it was stopped"
        assert not jobs.stop(first.state.id)
        assert not jobs.stop(99)

    began = time.monotonic()
    scenario(jobs, ask)
    assert time.monotonic() - began < 5
