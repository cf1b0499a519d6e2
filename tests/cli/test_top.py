"""`huatuo top`: sums and differences of made-up samples, and what keys do with them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from huatuo.cli import main
from huatuo.cli.top_sample import Between, Look, of_container
from huatuo.cli.top_signals import SIGNALS, container_lines, containers, host, host_lines
from huatuo.cli.top_tui import TopApp
from huatuo.model.meaning import Role
from huatuo.model.metric import Column, Metric

USAGE, MEMORY = "huatuo_cpu_cgroup_usage_seconds_total", "huatuo_memory_cgroup_used_bytes"
WAIT, RUN = "huatuo_cpu_sched_wait_seconds", "huatuo_cpu_sched_run_seconds_total"

DELAY, PAIR = "huatuo_cpu_sched_delay_seconds_total", ["victim", "culprit"]


def waits(counts: dict[str, dict[int, int]]) -> Metric:
    """Container → slot → how many, each of 1 ms for the sum."""
    values = np.zeros((len(counts), 27), np.uint64)
    for row, slots in enumerate(counts.values()):
        for slot, count in slots.items():
            values[row, slot] = count
    sums = values.sum(axis=1) * 1e-3
    return Metric(WAIT, Role.HISTOGRAM, "", values, {"container": Column(list(counts))}, sums)


def look(at: float, a: float, b: float, slots: dict[str, dict[int, int]]) -> Look:
    """`a`, `b`: CPU seconds so far of two containers."""
    usage = {("a", "user"): a, ("a", "system"): a, ("b", "user"): b, ("b", "system"): 0.0}
    memory = {("a",): 1024.0, ("b",): 4096.0}
    return Look(
        at,
        [
            Metric.of(USAGE, Role.COUNTER, "", usage, ["container", "state"]),
            Metric.of(MEMORY, Role.GAUGE, "", memory, ["container"]),
            Metric.of(RUN, Role.COUNTER, "", {("a",): 99 * at, ("c",): 0.5 * at}, ["container"]),
            Metric.of(DELAY, Role.COUNTER, "", {("a", "b"): 0.3 * at, ("b", "a"): 0.0}, PAIR),
            waits(slots),
        ],
        frozenset([WAIT]),
    )


FIRST = look(10.0, 1.0, 7.0, {"a": {10: 5}})
SECOND = look(12.0, 1.5, 10.0, {"a": {10: 5, 14: 100}, "b": {3: 1}})
BETWEEN = Between(FIRST, SECOND)


def test_rates_are_sums_over_labels_by_second() -> None:
    assert BETWEEN.rate(USAGE, ("container",)) == {("a",): 0.5, ("b",): 1.5}
    assert BETWEEN.rate(USAGE, ("container",), state="user") == {("a",): 0.25, ("b",): 1.5}
    assert BETWEEN.rate(USAGE) == {(): 2.0}
    assert BETWEEN.last(MEMORY) == {(): 5120.0}
    assert BETWEEN.rate("huatuo_nothing_total", ("container",)) == {}


def test_a_distribution_is_that_of_the_time_between() -> None:
    slots = BETWEEN.slots(WAIT, ("container",))
    assert slots["a",].sum() == 100
    assert slots["b",].sum() == 1, "a new row of a BPF probe began at zero"
    assert BETWEEN.spent(WAIT, ("container",))["a",] == pytest.approx(0.05)


def test_a_new_row_of_a_reader_has_no_rate_yet_and_a_reset_counts_from_zero() -> None:
    def usage(at: float, samples: dict[tuple[str, ...], float]) -> Look:
        return Look(at, [Metric.of(USAGE, Role.COUNTER, "", samples, ["container"])])

    between = Between(usage(0, {("old",): 9.0}), usage(2, {("old",): 4.0, ("new",): 1000.0}))
    assert between.rate(USAGE, ("container",)) == {("old",): 2.0}


def test_rows_are_sorted_and_prefer_the_cgroups_own_account() -> None:
    rows = containers(BETWEEN, "cpu_cores")
    assert [row.container for row in rows] == ["b", "a", "c"]
    assert [row.values["cpu_cores"] for row in rows] == [1.5, 0.5, 0.5]
    assert [row.container for row in containers(BETWEEN, "wait_p99_seconds")][:2] == ["a", "b"]
    assert 2**-7 < rows[1].values["wait_p99_seconds"] <= 2**-6
    backward = containers(BETWEEN, "memory_bytes", reverse=True)
    assert [row.container for row in backward] == ["a", "b", "c"], "without a number: last"


def test_a_host_that_lacks_everything_is_shown() -> None:
    empty = Between(Look(0, []), Look(1, []))
    assert any(line.startswith("load") for line in host_lines(host(empty)))


def test_only_one_containers_histograms_are_taken() -> None:
    (found,) = of_container(SECOND.metrics, "b")
    assert found.values.sum() == 1
    assert "container" not in found.labels


def test_one_container_is_told_with_its_signals_and_who_delays_it() -> None:
    name, signals, delays, *histograms = container_lines(BETWEEN, "a")
    assert name == "a"
    assert signals.startswith("CPU 0.50  WAIT p99 ")
    assert signals.endswith("MEMORY 1 KiB")
    assert delays == "waits 30 % of the time for b to leave a CPU"
    assert histograms[0].startswith(f"\n{WAIT} : 105 values")
    assert list(container_lines(BETWEEN, "nobody")) == ["nobody", ""]


def test_keys_and_names_are_distinct() -> None:
    keys = [signal.key for signal in SIGNALS if signal.key]
    assert len(keys) == len(set(keys))
    assert "q" not in keys
    assert len({signal.name for signal in SIGNALS}) == len(SIGNALS)


def drive(steps: Callable[[Pilot[None], TopApp], Awaitable[None]]) -> None:
    """The app with the two looks above, which then stay as they are."""
    looks = [FIRST, SECOND]

    def next_look() -> Look:
        if looks:
            return looks.pop(0)
        time.sleep(0.05)
        raise OSError("no more")

    async def run() -> None:
        app = TopApp(next_look, 0.05, "cpu_cores")
        app.notify = lambda *_, **__: None  # type: ignore[method-assign,assignment]
        async with app.run_test(size=(120, 40)) as pilot:
            for _ in range(100):
                if app.query_one(DataTable).row_count:
                    break
                await pilot.pause(0.05)
            await steps(pilot, app)

    asyncio.run(run())


def order(app: TopApp) -> list[str]:
    return [str(key.value) for key in app.query_one(DataTable).rows]


def titles(app: TopApp) -> list[str]:
    return [str(column.label) for column in app.query_one(DataTable).columns.values()]


def test_letters_and_titles_sort_and_turn_round() -> None:
    async def steps(pilot: Pilot[None], app: TopApp) -> None:
        assert order(app) == ["b", "a", "c"]
        assert titles(app) == ["CONTAINER", "CPU▼", "WAIT p99", "MEMORY"]
        await pilot.press("w")
        assert order(app) == ["a", "b", "c"]
        await pilot.press("m")
        assert order(app) == ["b", "a", "c"]
        await pilot.press("m")
        assert order(app) == ["a", "b", "c"]
        assert "MEMORY▲" in titles(app)
        table = app.query_one(DataTable)
        at = table.region
        await pilot.click(offset=(at.x + 14, at.y))  # the title of the second column
        await pilot.pause()
        assert "CPU▼" in titles(app)

    drive(steps)


def test_enter_opens_histograms_and_escape_closes_them() -> None:
    async def steps(pilot: Pilot[None], app: TopApp) -> None:
        await pilot.press("down")
        await pilot.press("enter")
        await pilot.pause()
        assert app.container == "a"
        text = str(app.query_one("#histograms", Static).render())
        assert f"{WAIT} : 105 values, mean 1 ms" in text
        assert "        100 |####" in text
        assert not app.query_one(DataTable).display
        await pilot.press("escape")
        assert app.query_one(DataTable).display
        assert order(app) == ["b", "a", "c"]
        assert app.query_one(DataTable).cursor_row == 1, "the cursor stays on its container"

    drive(steps)


def test_a_held_picture_stays() -> None:
    async def steps(pilot: Pilot[None], app: TopApp) -> None:
        await pilot.press("space")
        app.show(Between(SECOND, look(14.0, 9.0, 10.0, {"a": {10: 5}})))
        assert order(app) == ["b", "a", "c"]
        await pilot.press("space")
        app.show(Between(SECOND, look(14.0, 9.0, 10.0, {"a": {10: 5}})))
        assert order(app) == ["a", "c", "b"]

    drive(steps)


def test_an_interval_of_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--once", "--interval", "0s"]) == 2
    assert "expected more than nothing" in capsys.readouterr().err


def test_of_very_many_the_most_are_shown_and_how_many_there_are() -> None:
    def tasks(at: float) -> Look:
        found = {(f"c{number}",): float(number) for number in range(1000)}
        name = "huatuo_task_cgroup_tasks"
        return Look(at, [Metric.of(name, Role.GAUGE, "", found, ["container"])])

    async def steps(pilot: Pilot[None], app: TopApp) -> None:
        app.show(Between(tasks(0), tasks(1)))
        await pilot.press("k")
        assert order(app)[:2] == ["c999", "c998"]
        assert len(order(app)) == 200
        assert titles(app)[0] == "CONTAINER (200 of 1000)"

    drive(steps)
