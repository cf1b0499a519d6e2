"""Folded stacks, as Brendan Gregg's flamegraph.pl takes them: `main;work;read 42` on each line.

Kernel functions end in _[k] and code made at run time in _[j], as that tool colours them. What
would break a line (a semicolon, a line break) is replaced in names.
"""

from __future__ import annotations

from collections.abc import Mapping

from huatuo.errors import HuatuoError
from huatuo.export.flamegraph import Function, flame_tree
from huatuo.export.foreign import Imported, Intake, named, unique
from huatuo.model.profile import FrameKind, Location, Profile

__all__ = ["read", "write"]

_MARKS = {FrameKind.KERNEL: "_[k]", FrameKind.JIT: "_[j]"}
_KINDS = {mark: kind for kind, mark in _MARKS.items()}
_SEPARATORS = str.maketrans({";": ":", "\n": " ", "\r": " "})
_MOST_LINES = 500_000


def write(profile: Profile) -> bytes:
    """Lines in order of their text; values in the type's unit."""
    tree = flame_tree([profile])
    names = [_shown(function) for function in tree.functions]
    values = tree.self_values[:, 0].tolist()
    nodes = [node for node, value in enumerate(values) if value]
    lines: dict[str, int] = {}  # two files may have functions of the same name
    for node, path in zip(nodes, tree.paths(nodes), strict=True):
        stack = ";".join([names[function] for function in path]) or "(no stack)"
        lines[stack] = lines.get(stack, 0) + values[node]
    return "".join(f"{stack} {value}\n" for stack, value in sorted(lines.items())).encode(
        "utf-8", "replace"
    )


def _shown(function: Function) -> str:
    name = function.name.translate(_SEPARATORS).strip() or "?"
    return name + _MARKS.get(FrameKind(function.kind), "") if function.kind else name


def read(
    data: bytes,
    name: str,
    labels: Mapping[str, str],
    time_ns: int,
    *,
    factor: int = 1,
    counted: bool = True,
) -> Imported:
    """Stacks of the type `name`, each value times `factor`; without `counted` each line is one
    sample and has no value. Raises HuatuoError naming the line."""
    intake = Intake(name)
    chosen = intake.label_set(labels)
    known: dict[str, Location] = {}
    lines = data.decode("utf-8", "replace").split("\n")
    if len(lines) > _MOST_LINES:
        raise HuatuoError(f"more than {_MOST_LINES} lines")
    for number, line in enumerate(lines, 1):
        text = line.strip("\r")
        if not text.strip():
            continue
        stack, value = _split(text, number) if counted else (text, 1)
        frames = [_location(frame, known) for frame in reversed(stack.split(";")) if frame]
        intake.add(time_ns, value * factor, intake.stack(frames), chosen)
    return Imported([intake.samples()] if intake.times else [], [])


def _split(text: str, number: int) -> tuple[str, int]:
    stack, space, count = text.rstrip().rpartition(" ")
    try:
        if not space:
            raise ValueError
        value = int(count) if count.lstrip("-").isdecimal() else round(float(count))
    except (ValueError, OverflowError):
        shown = text if len(text) < 80 else text[:77] + "…"
        raise HuatuoError(f"line {number}: expected `stack value`, found {shown!r}") from None
    return stack, value


def _location(frame: str, known: dict[str, Location]) -> Location:
    found = known.get(frame)
    if found is None:
        kind = _KINDS.get(frame[-4:])
        name = frame[:-4] if kind else frame
        kind = kind or FrameKind.NATIVE
        found = known[frame] = unique(Location(kind, "", 0, "", (named(name),)))
    return found
