"""The flame graph in the terminal: what a user sees and does, driven by keys and the mouse."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from huatuo.cli.flame_tui import FlameApp
from huatuo.model.profile import FrameKind, Line, Location, Stack
from tests.serve.memory_profiles import merged

SECOND = 1_000_000_000


def place(name: str, kind: FrameKind = FrameKind.NATIVE) -> Location:
    return Location(kind, "app", abs(hash(name)) % 2**31, "", (Line(name),))


def stack(*names: str) -> Stack:
    """Outermost first."""
    return Stack(tuple(place(name) for name in reversed(names)))


PROFILE = merged(
    "cpu",
    [
        (0, 6 * SECOND, stack("main", "turn", "deep", "spin_a"), {}),
        (0, 3 * SECOND, stack("main", "turn", "spin_b"), {}),
        (0, 1 * SECOND, stack("main", "idle"), {}),
    ],
)


def drive(steps: Callable[[Pilot[None], FlameApp], Awaitable[None]]) -> None:
    async def run() -> None:
        app = FlameApp(PROFILE, "CPU time: 10 s")
        async with app.run_test(size=(100, 24)) as pilot:
            await pilot.pause()
            await steps(pilot, app)

    asyncio.run(run())


def told(app: FlameApp) -> str:
    return str(app.query_one("#frame", Static).render())


def lines(app: FlameApp) -> list[str]:
    return [app.flame.render_line(y).text for y in range(5)]


def test_frames_are_as_wide_as_their_share() -> None:
    async def steps(_pilot: Pilot[None], app: FlameApp) -> None:
        shown = lines(app)
        assert shown[0].strip(" ▕") == "all"
        idle, turn = shown[2].index("idle"), shown[2].index("turn")
        assert (idle, turn) == (1, 11), "10 % of 100 columns, in order of name"
        assert shown[3].index("spin_b") - shown[3].index("deep") == 60

    drive(steps)


def test_keys_choose_zoom_and_go_back() -> None:
    async def steps(pilot: Pilot[None], app: FlameApp) -> None:
        await pilot.press("down", "down", "down")  # always into the largest
        assert told(app).startswith("deep")
        assert "total 6 s (60.00%)" in told(app)
        await pilot.press("right")
        assert told(app).startswith("spin_b")
        await pilot.press("left", "enter")
        await pilot.pause()
        assert [line.strip(" ▕") for line in lines(app)] == [
            "all",
            "main",
            "turn",
            "deep",
            "spin_a",
        ]
        await pilot.press("escape", "escape", "escape")
        await pilot.pause()
        assert lines(app)[2].index("turn") == 11

    drive(steps)


def test_a_click_chooses_and_a_second_one_zooms() -> None:
    async def steps(pilot: Pilot[None], app: FlameApp) -> None:
        await pilot.click(app.flame, offset=(85, 3))
        assert told(app).startswith("spin_b")
        await pilot.click(app.flame, offset=(85, 3))
        await pilot.pause()
        assert lines(app)[3].strip(" ▕") == "spin_b"

    drive(steps)


def test_search_says_the_share_of_matches_once() -> None:
    """A match below a match is not counted again."""

    async def steps(pilot: Pilot[None], app: FlameApp) -> None:
        assert app.flame.search("^spin") == 0.9
        assert app.flame.search("turn|spin_b") == 0.9
        await pilot.press("slash", *"(", "enter")
        await pilot.pause()
        assert app._notifications, "a broken expression is said, not raised"

    drive(steps)


def test_the_table_lists_functions_by_their_own_time() -> None:
    async def steps(pilot: Pilot[None], app: FlameApp) -> None:
        await pilot.press("t")
        table = app.query_one(DataTable)
        assert table.display
        rows = [table.get_row_at(at) for at in range(table.row_count)]
        assert rows[0] == ["6 s", "60.0%", "6 s", "60.0%", "app", "spin_a"]
        assert [row[-1] for row in rows[:3]] == ["spin_a", "spin_b", "idle"]

    drive(steps)
