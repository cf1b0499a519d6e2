"""`huatuo top` in the terminal: the host above, a table of containers, one container's histograms.

A letter or a click on a title sorts by that column, again the other way round; enter opens a
container, escape closes it, space holds the picture still, q ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import DataTable, Footer, Static

from huatuo.cli.top_sample import Between, Look
from huatuo.cli.top_signals import SIGNALS, container_lines, containers, host, host_lines
from huatuo.errors import HuatuoError

__all__ = ["TopApp"]

_CONTAINER = "container"
_MOST_ROWS = 200  # nobody reads more, and each costs a third of a millisecond


class TopApp(App[None]):
    """`look` is called every `interval` seconds, in a thread; `container`, if any, is opened."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #host { height: auto; background: $boost; }
    #one { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(signal.key, f"sort('{signal.name}')", signal.title, show=signal.key in "cwm")
            for signal in SIGNALS
            if signal.key
        ),
        Binding("escape", "close", "back"),
        Binding("space", "hold", "hold"),
        Binding("q", "quit", "end"),
    ]

    def __init__(
        self, look: Callable[[], Look], interval: float, sort: str, container: str = ""
    ) -> None:
        super().__init__()
        self._look, self._interval = look, interval
        self.sort, self.reverse, self.held = sort, False, False
        self.container = container
        self._between: Between | None = None

    def compose(self) -> ComposeResult:
        yield Static("the first numbers come soon …", id="host", markup=False)
        yield DataTable(cursor_type="row", fixed_columns=1)
        with VerticalScroll(id="one"):
            yield Static("", id="histograms", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        self._follow()

    @work(thread=True)
    def _follow(self) -> None:
        """Look again and again until the program ends."""
        before: Look | None = None
        while self.is_running:
            began = time.monotonic()
            try:
                now = self._look()
            except (HuatuoError, OSError) as error:
                self.call_from_thread(self.notify, str(error), severity="error")
            else:
                if before is not None:
                    self.call_from_thread(self.show, Between(before, now))
                before = now
            while self.is_running and time.monotonic() < began + self._interval:
                time.sleep(min(0.1, self._interval))

    def show(self, between: Between) -> None:
        """What has been between two looks, unless the picture is held."""
        if not self.held:
            self._between = between
            self._draw()

    def _draw(self) -> None:
        between = self._between
        if between is None:
            return
        self.query_one("#host", Static).update("\n".join(host_lines(host(between))))
        table, one = self.query_one(DataTable), self.query_one("#one", VerticalScroll)
        table.display, one.display = not self.container, bool(self.container)
        if self.container:
            lines = "\n".join(container_lines(between, self.container))
            self.query_one("#histograms", Static).update(lines)
            one.focus()
        else:
            self._fill(table, between)
            table.focus()

    def _fill(self, table: DataTable[Text], between: Between) -> None:
        """Rows anew; the cursor stays on its container."""
        chosen = self._chosen()
        found = containers(between, self.sort, self.reverse)
        rows = found[:_MOST_ROWS]
        count = f" ({len(rows)} of {len(found)})" if len(rows) < len(found) else ""
        shown = [s for s in SIGNALS if s.name == self.sort or any(s.name in r.values for r in rows)]
        table.clear(columns=True)
        table.add_column(f"CONTAINER{count}", key=_CONTAINER)
        for signal in shown:
            mark = ("▲" if self.reverse else "▼") if signal.name == self.sort else ""
            table.add_column(signal.title + mark, key=signal.name)
        for row in rows:
            cells = [s.show(row.values[s.name]) if s.name in row.values else "-" for s in shown]
            numbers = (Text(cell, justify="right") for cell in cells)
            table.add_row(Text(row.container), *numbers, key=row.container)
        names = [row.container for row in rows]
        if chosen in names:
            table.move_cursor(row=names.index(chosen))

    def _chosen(self) -> str:
        """The container under the cursor; the first row stays the first row."""
        table = self.query_one(DataTable)
        if not table.row_count or not table.cursor_row:
            return ""
        key, _ = table.coordinate_to_cell_key(table.cursor_coordinate)
        return str(key.value)

    def action_sort(self, name: str) -> None:
        self.reverse = not self.reverse if name == self.sort else False
        self.sort = name
        self._draw()

    def action_hold(self) -> None:
        self.held = not self.held
        self.notify("held; space goes on" if self.held else "goes on")

    def action_close(self) -> None:
        self.container = ""
        self._draw()

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        if event.column_key.value != _CONTAINER:
            self.action_sort(str(event.column_key.value))

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        self.container = str(event.row_key.value)
        self._draw()
