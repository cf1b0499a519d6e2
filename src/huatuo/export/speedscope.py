"""speedscope's JSON (speedscope.app): frames, and stacks with their weights."""

from __future__ import annotations

from typing import Any

import msgspec

from huatuo.export.flamegraph import place
from huatuo.export.tables import stacks
from huatuo.model.profile import Profile

__all__ = ["speedscope"]

_SCHEMA = "https://www.speedscope.app/file-format-schema.json"
_UNITS = {"nanoseconds": "nanoseconds", "bytes": "bytes"}


def speedscope(profile: Profile) -> bytes:
    """One sampled profile; weights in the type's unit."""
    kind = profile.type
    frames: list[dict[str, Any]] = []
    numbers: dict[tuple[str, str, int], int] = {}
    of_location: list[list[int]] = []  # outermost first
    for location in profile.locations:
        mapping = location.mapping
        chain = []
        for name, file, line in reversed(location.lines or ((place(location), "", 0),)):
            key = (name, file or mapping, line)
            if key not in numbers:
                numbers[key] = len(frames)
                frames.append(_frame(*key))
            chain.append(numbers[key])
        of_location.append(chain)
    samples, weights = [], []
    for stack, value in stacks(profile):
        samples.append([frame for index in reversed(stack) for frame in of_location[index]])
        weights.append(value)
    shown = {
        "type": "sampled",
        "name": kind.title,
        "unit": _UNITS.get(kind.unit, "none"),
        "startValue": 0,
        "endValue": sum(weights),
        "samples": samples,
        "weights": weights,
    }
    return msgspec.json.encode(
        {
            "$schema": _SCHEMA,
            "name": kind.title,
            "exporter": "HUATUO",
            "activeProfileIndex": 0,
            "shared": {"frames": frames},
            "profiles": [shown],
        }
    )


def _frame(name: str, file: str, line: int) -> dict[str, Any]:
    frame: dict[str, Any] = {"name": name}
    if file:
        frame["file"] = file
    if line:
        frame["line"] = line
    return frame
