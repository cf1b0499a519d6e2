"""Flame graphs as pictures: widths are the shares, changes are coloured, names are escaped."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np

from huatuo.export.flame_svg import flame_svg
from huatuo.model.profile import PROFILE_TYPES, FrameKind, Line, Location, Profile

SVG = "{http://www.w3.org/2000/svg}"


def profile(a: int, b: int, hostile: str = "b") -> Profile:
    """main calls a and b, which have these values."""
    names = ["main", "a", hostile]
    locations = [Location(FrameKind.NATIVE, "prog", n, "", (Line(name),))
                 for n, name in enumerate(names)]  # fmt: skip
    parent, location = np.array([-1, 0, 1, 1], np.int32), np.array([-1, 0, 1, 2], np.int32)
    values = np.array([0, 0, a, b], np.int64)
    return Profile(PROFILE_TYPES["cpu"], 0, 1, locations, parent, location, values, 2)


def boxes(picture: bytes) -> dict[str, tuple[float, float, float, str, str]]:
    """name → x, y, width, colour, what is told."""
    found = {}
    for group in ET.fromstring(picture).iter(f"{SVG}g"):
        told, box = group.find(f"{SVG}title"), group.find(f"{SVG}rect")
        assert told is not None and box is not None and told.text
        x, y, width = (float(box.attrib[name]) for name in ("x", "y", "width"))
        found[told.text.partition(" · ")[0]] = (x, y, width, box.attrib["fill"], told.text)
    return found


def test_widths_are_shares_and_children_lie_below_their_parent() -> None:
    found = boxes(flame_svg(profile(900, 300)))
    assert set(found) == {"all", "main", "a", "b"}
    whole = found["all"][2]
    assert abs(found["a"][2] - whole * 0.75) < 1
    assert abs(found["b"][2] - whole * 0.25) < 1
    assert found["a"][1] == found["b"][1] > found["main"][1] > found["all"][1]
    assert abs(found["b"][0] - whole * 0.75) < 1, "side by side"


def test_what_grew_is_red_and_what_shrank_is_blue() -> None:
    found = boxes(flame_svg(profile(900, 300), profile(300, 900)))

    def colour(name: str) -> list[int]:
        return [int(part) for part in re.findall(r"\d+", found[name][3])]

    assert colour("a")[0] > colour("a")[2]
    assert colour("b")[0] < colour("b")[2]
    assert "(+50.0%)" in found["a"][4]


def test_names_are_escaped_and_nothing_makes_nothing() -> None:
    hostile = "</text><script>alert(1)</script>"
    picture = flame_svg(profile(1, 1, hostile))
    assert b"<script" not in picture
    assert hostile in boxes(picture)
    assert flame_svg(profile(0, 0)) == b""
