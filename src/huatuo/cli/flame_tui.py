"""A flame graph in the terminal: root on top, callees below, as wide as their share.

Arrows choose a frame, enter zooms into it, escape goes back, / searches by regular expression, t
shows functions as a table, q ends.
"""

from __future__ import annotations

import re
import zlib
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import DataTable, Footer, Input, Static

from huatuo.export.flamegraph import FlameTree, flame_tree, sums
from huatuo.model.profile import Profile
from huatuo.model.units import show_amount

__all__ = ["FlameApp"]

_MOST_NODES = 50_000
# red, green and blue of each kind of code, and how much of it varies from function to function
_COLORS = {
    "kernel": (214, 120, 60),
    "native": (90, 140, 200),
    "jit": (80, 160, 110),
    "runtime": (150, 110, 190),
}
_PLAIN, _VARIED = (130, 130, 130), 36


class Flame(ScrollView, can_focus=True):
    """One line for each depth. `node` is chosen; `root` is what fills the width."""

    node: reactive[int] = reactive(0)
    root: reactive[int] = reactive(0)

    def __init__(self, tree: FlameTree) -> None:
        super().__init__()
        self._tree = tree
        self._total = tree.totals[:, 0]
        self._start = _starts(tree)
        self._depth = np.repeat(np.arange(len(tree.levels) - 1), np.diff(tree.levels))
        self._matching = np.zeros(len(tree.functions), np.bool_)
        self._styles = [_style(function.kind, function.name) for function in tree.functions]

    def on_mount(self) -> None:
        self.virtual_size = Size(1, len(self._tree.levels) - 1)

    def render_line(self, y: int) -> Strip:
        width, depth = self.size.width, y + self.scroll_offset.y
        if depth >= len(self._tree.levels) - 1 or not self._total[self.root]:
            return Strip.blank(width)
        line = [self._ancestor(depth)] if depth <= self._depth[self.root] else self._visible(depth)
        scale, origin = width / self._total[self.root], self._start[self.root]
        segments, at = [], 0
        for node in line:
            above = depth <= self._depth[self.root]
            first = 0 if above else round((self._start[node] - origin) * scale)
            last = (
                width if above else round((self._start[node] + self._total[node] - origin) * scale)
            )
            if last <= max(first, at):
                continue
            if first > at:
                segments.append(Segment(" " * (first - at)))
            segments.append(Segment(self._label(node, last - max(first, at)), self._look(node)))
            at = last
        segments.append(Segment(" " * (width - at)))
        return Strip(segments, width)

    def _visible(self, depth: int) -> list[int]:
        """Nodes of a depth within the root's range, as far as they are a cell wide."""
        begin, end = self._tree.levels[depth], self._tree.levels[depth + 1]
        low = self._start[self.root]
        high = low + self._total[self.root]
        starts, totals = self._start[begin:end], self._total[begin:end]
        inside = (starts >= low) & (starts + totals <= high)
        wide = totals * self.size.width >= self._total[self.root] * 0.5
        found: list[int] = (np.flatnonzero(inside & wide) + begin).tolist()
        return found

    def _ancestor(self, depth: int) -> int:
        node = self.root
        while self._depth[node] > depth:
            node = int(self._tree.parent[node])
        return node

    def _label(self, node: int, width: int) -> str:
        name = self.name_of(node)
        if width < 2:
            return " " * width
        return f" {name}"[: width - 1].ljust(width - 1) + "▕"

    def _look(self, node: int) -> Style:
        style: Style = self._styles[self._tree.function[node]]
        if node == self.node:
            return Style(color="black", bgcolor="bright_yellow", bold=True)
        if self._matching[self._tree.function[node]]:
            return Style(color="white", bgcolor="magenta")
        return style

    def name_of(self, node: int) -> str:
        return self._tree.functions[self._tree.function[node]].name or "all"

    def search(self, pattern: str) -> float:
        """Mark functions that match; the share of all that they and what they call have."""
        matches = re.compile(pattern, re.IGNORECASE).search if pattern else lambda _: None
        self._matching = np.array([bool(matches(f.name)) for f in self._tree.functions])
        hit = self._matching[self._tree.function]
        covered = np.zeros(len(hit), np.bool_)
        for begin, end in zip(self._tree.levels[1:-1], self._tree.levels[2:], strict=True):
            above = self._tree.parent[begin:end]
            covered[begin:end] = covered[above] | hit[above]
        self.refresh()
        return float(self._total[hit & ~covered].sum() / max(int(self._total[0]), 1))

    def watch_node(self) -> None:
        self.refresh()
        if self.is_mounted:
            self.scroll_to_region(Region(0, int(self._depth[self.node]), 1, 1), animate=False)

    def watch_root(self) -> None:
        self.refresh()

    def on_key(self, event: events.Key) -> None:
        tree, node = self._tree, self.node
        siblings = self._siblings()
        at = siblings.index(node) if node in siblings else 0
        if event.key == "down":
            children = self._children(node)
            self.node = max(children, key=lambda child: self._total[child]) if children else node
        elif event.key == "up" and node:
            self.node = int(tree.parent[node])
        elif event.key in ("left", "right"):
            step = -1 if event.key == "left" else 1
            self.node = siblings[min(max(at + step, 0), len(siblings) - 1)]
        elif event.key == "enter":
            self.root = node
        elif event.key == "escape" and self.root:
            self.node = self.root = int(tree.parent[self.root])
        else:
            return
        event.stop()

    def on_click(self, event: events.Click) -> None:
        depth = event.y + self.scroll_offset.y
        if depth >= len(self._tree.levels) - 1:
            return
        x = self._start[self.root] + event.x / self.size.width * self._total[self.root]
        for node in (
            self._visible(depth) if depth > self._depth[self.root] else [self._ancestor(depth)]
        ):
            if self._start[node] <= x < self._start[node] + self._total[node]:
                self.root = node if node == self.node else self.root
                self.node = node

    def _siblings(self) -> list[int]:
        return self._visible(int(self._depth[self.node])) or [self.node]

    def _children(self, node: int) -> list[int]:
        depth = int(self._depth[node]) + 1
        if depth >= len(self._tree.levels) - 1:
            return []
        return [child for child in self._visible(depth) if self._tree.parent[child] == node]


class FlameApp(App[None]):
    """`profile` is shown until the user ends it."""

    ENABLE_COMMAND_PALETTE = False

    CSS = """
    #head { height: 1; background: $boost; }
    #frame { height: 2; background: $boost; }
    #search { display: none; }
    DataTable { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "search"),
        Binding("t", "table", "table"),
        Binding("q", "quit", "end"),
    ]

    def __init__(self, profile: Profile, summary: str) -> None:
        super().__init__()
        self._profile, self._summary = profile, summary
        self._tree = flame_tree([profile], _MOST_NODES)
        self.flame = Flame(self._tree)

    def compose(self) -> ComposeResult:
        yield Static(self._summary, id="head", markup=False)
        yield self.flame
        yield DataTable(cursor_type="row")
        yield Static("", id="frame", markup=False)
        yield Input(placeholder="regular expression", id="search")
        yield Footer()

    def on_mount(self) -> None:
        self.watch(self.flame, "node", self._tell)
        self.flame.focus()
        table = self.query_one(DataTable)
        table.add_columns("self", "", "total", "", "in", "function")
        own, total = (column[:, 0] for column in sums(self._tree))
        whole = max(self._profile.total, 1)
        for at in np.lexsort((-total, -own)).tolist():
            function = self._tree.functions[at]
            if function.name and total[at]:
                table.add_row(
                    self._shown(own[at]), f"{own[at] / whole:.1%}", self._shown(total[at]),
                    f"{total[at] / whole:.1%}", function.mapping, function.name,
                )  # fmt: skip

    def _shown(self, value: float) -> str:
        return show_amount(self._profile.type.unit, value)

    def _tell(self, node: int) -> None:
        tree, whole = self._tree, max(self._profile.total, 1)
        function = tree.functions[tree.function[node]]
        own, total = int(tree.self_values[node, 0]), int(tree.totals[node, 0])
        file, line = tree.sources[tree.source[node]]
        where = f"  {file}:{line}" if file else f"  {function.mapping}"
        self.query_one("#frame", Static).update(
            f"{self.flame.name_of(node)}{where if node else ''}\n"
            f"total {self._shown(total)} ({total / whole:.2%})  "
            f"self {self._shown(own)} ({own / whole:.2%})"
        )

    def action_search(self) -> None:
        search = self.query_one("#search", Input)
        search.display = True
        search.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        try:
            share = self.flame.search(event.value)
        except re.error as error:
            self.notify(f"not a regular expression: {error}", severity="error")
            return
        event.input.display = False
        self.flame.focus()
        if event.value:
            self.notify(f"{share:.1%} in functions that match {event.value}")

    def action_table(self) -> None:
        table = self.query_one(DataTable)
        table.display = not table.display
        self.flame.display = not table.display
        (table if table.display else self.flame).focus()


def _starts(tree: FlameTree) -> npt.NDArray[np.int64]:
    """Where each node begins: siblings stand side by side from their parent's begin on."""
    total, start = tree.totals[:, 0], np.zeros(len(tree), np.int64)
    for begin, end in zip(tree.levels[1:-1], tree.levels[2:], strict=True):
        parent = tree.parent[begin:end]
        before = np.cumsum(total[begin:end]) - total[begin:end]
        first = np.concatenate(([True], parent[1:] != parent[:-1]))
        group = np.cumsum(first) - 1
        start[begin:end] = start[parent] + before - before[first][group]
    return start


def _style(kind: str, name: str) -> Style:
    red, green, blue = _COLORS.get(kind, _PLAIN)
    shade = zlib.crc32(name.encode()) % _VARIED - _VARIED // 2
    color = f"rgb({red + shade},{green + shade},{blue + shade})"
    return Style(color="black", bgcolor=color)
