"""A flame graph as one picture that needs nothing else: widths are shares, names are in tooltips.

Compared with a base, colours say what changed: red is more than in the base, blue is less.
"""

from __future__ import annotations

from html import escape

import numpy as np

from huatuo.export.flamegraph import FlameTree, flame_tree
from huatuo.model.profile import Profile
from huatuo.model.units import show_amount

__all__ = ["flame_svg"]

_WIDTH, _ROW = 1200, 17
_LEAST = 0.0015  # of the whole: narrower ones are left out
_MOST_NODES = 4000
_DEEPEST = 120
_LETTER = 6.2  # pixels
_COLOURS = {"kernel": "#e8a35d", "native": "#e2cf6c", "runtime": "#8fbf7a", "jit": "#7fb3b0"}
_OTHER = "#c9c9c9"
_FULL = 0.2  # change of the share that has the strongest colour


def flame_svg(profile: Profile, base: Profile | None = None) -> bytes:
    """Empty for a profile without samples."""
    if profile.total <= 0:
        return b""
    compared = base is not None and base.total > 0
    tree = flame_tree([profile, base] if compared and base is not None else [profile], _MOST_NODES)
    shares = tree.totals / np.maximum(tree.totals[0], 1)
    lefts = _lefts(tree, shares[:, 0])
    depth = _depth(tree)
    drawn = np.flatnonzero((shares[:, 0] >= _LEAST) & (depth < _DEEPEST)).tolist()
    height = (int(depth[drawn].max()) + 1) * _ROW
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
    parts = [f'{head} font-family="monospace" font-size="11">']
    for node in drawn:
        function = tree.functions[tree.function[node]]
        name = function.name or "all"
        share, change = float(shares[node, 0]), float(shares[node, 0] - shares[node, -1])
        fill = _difference(change) if compared else _COLOURS.get(function.kind, _OTHER)
        told = f"{name} · {show_amount(profile.type.unit, float(tree.totals[node, 0]))}"
        told += f" · {share:.1%}" + (f" ({change:+.1%})" if compared else "")
        parts.append(_box(float(lefts[node]), int(depth[node]), share, fill, name, told))
    return "".join([*parts, "</svg>"]).encode()


def _box(left: float, depth: int, share: float, fill: str, name: str, told: str) -> str:
    x, y, width = left * _WIDTH, depth * _ROW, share * _WIDTH
    letters = int(width / _LETTER)
    label = name if len(name) <= letters else name[: max(letters - 1, 0)] + "…"
    text = f'<text x="{x + 2:.1f}" y="{y + 12}">{escape(label)}</text>' if letters > 3 else ""
    return (
        f'<g><title>{escape(told)}</title><rect x="{x:.1f}" y="{y}"'
        f' width="{max(width - 0.4, 0.3):.1f}" height="{_ROW - 1}" fill="{fill}"/>{text}</g>'
    )  # fmt: skip


def _difference(change: float) -> str:
    strength = min(abs(change) / _FULL, 1.0)
    faded = round(245 - 150 * strength)
    return f"rgb(245,{faded},{faded})" if change > 0 else f"rgb({faded},{faded},245)"


def _depth(tree: FlameTree) -> np.ndarray:
    depth = np.zeros(len(tree), np.int64)
    for number, (begin, end) in enumerate(zip(tree.levels[:-1], tree.levels[1:], strict=True)):
        depth[begin:end] = number
    return depth


def _lefts(tree: FlameTree, shares: np.ndarray) -> np.ndarray:
    """Where each node begins: siblings side by side, in their order."""
    lefts = np.zeros(len(tree))
    for begin, end in zip(tree.levels[1:-1], tree.levels[2:], strict=True):
        parent = tree.parent[begin:end]
        before = np.cumsum(shares[begin:end]) - shares[begin:end]
        first = np.searchsorted(parent, parent)  # parents ascend within a level
        lefts[begin:end] = lefts[parent] + before - before[first]
    return lefts
