"""speedscope files beside the schema that speedscope publishes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

import jsonschema
import pytest
from hypothesis import given, settings

from huatuo.export.speedscope import speedscope
from huatuo.model.profile import Stack
from tests.export.npm import npm_file
from tests.export.profiles import TOTAL, profile, stack_lists
from tests.export.test_flamebearer import expected

Stacks = Sequence[tuple[Stack, int]]


def check(document: object) -> None:
    schema = json.loads(npm_file("speedscope", "1.25.0", "dist/release/file-format-schema.json"))
    jsonschema.validate(document, schema)


@pytest.mark.parametrize("name", ["cpu", "resident"])
def test_the_file_fits_speedscopes_schema(name: str) -> None:
    document = json.loads(speedscope(profile(name=name)))
    check(document)
    (shown,) = document["profiles"]
    assert shown["unit"] == {"cpu": "nanoseconds", "resident": "bytes"}[name]
    assert shown["endValue"] == sum(shown["weights"]) == TOTAL
    frames = {frame["name"]: frame for frame in document["shared"]["frames"]}
    assert frames["work"] == {"name": "work", "file": "app.c", "line": 20}
    assert frames["do_syscall_64"]["file"] == "[vmlinux]"


def test_an_empty_profile_fits_too() -> None:
    check(json.loads(speedscope(profile([]))))


@settings(max_examples=50)
@given(stack_lists())
def test_every_stack_with_its_value(stacks: Stacks) -> None:
    document = json.loads(speedscope(profile(stacks)))
    names = [frame["name"] for frame in document["shared"]["frames"]]
    (shown,) = document["profiles"]
    found: Counter[tuple[str, ...]] = Counter()
    for sample, weight in zip(shown["samples"], shown["weights"], strict=True):
        found[tuple(names[frame] for frame in sample)] += weight
    assert found == expected(stacks)[0]
