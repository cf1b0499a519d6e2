"""The Firefox Profiler's format, walked as its documentation says (docs-developer/
custom-importer.md: sample → stack → frame → function → text), and checked column by column."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings

from huatuo.export.firefox import firefox
from huatuo.model.profile import Stack
from tests.export.profiles import TOTAL, profile, stack_lists
from tests.export.test_flamebearer import expected

Stacks = Sequence[tuple[Stack, int]]

# RawThread and its tables in version 54 of the processed format
COLUMNS = {
    "samples": "stack time weight",
    "stackTable": "frame prefix",
    "frameTable": "address inlineDepth category subcategory func nativeSymbol innerWindowID line "
    "column",
    "funcTable": "name isJS relevantForJS resource fileName lineNumber columnNumber",
    "resourceTable": "lib name host type",
    "nativeSymbols": "libIndex address name functionSize",
    "markers": "data name startTime endTime phase category",
}


def thread_of(document: dict[str, Any]) -> dict[str, Any]:
    """The only thread; all of its tables have all columns in one length."""
    (thread,) = document["threads"]
    for table, columns in COLUMNS.items():
        found = thread[table]
        assert set(found) - {"weightType"} == {*columns.split(), "length"}
        assert {len(found[column]) for column in columns.split()} == {found["length"]}
    return thread  # type: ignore[no-any-return]


def walk(thread: dict[str, Any]) -> Counter[tuple[str, ...]]:
    found: Counter[tuple[str, ...]] = Counter()
    stacks, frames, functions = thread["stackTable"], thread["frameTable"], thread["funcTable"]
    for stack, weight in zip(thread["samples"]["stack"], thread["samples"]["weight"], strict=True):
        path: tuple[str, ...] = ()
        at = stack
        while at is not None:
            above = stacks["prefix"][at]
            assert above is None or above < at
            function = frames["func"][stacks["frame"][at]]
            path = (thread["stringArray"][functions["name"][function]], *path)
            at = above
        found[path] += weight
    return found


@settings(max_examples=50)
@given(stack_lists())
def test_every_stack_with_its_value(stacks: Stacks) -> None:
    document = json.loads(firefox(profile(stacks, "resident")))
    assert walk(thread_of(document)) == expected(stacks)[0]


def test_files_inlined_functions_and_categories() -> None:
    document = json.loads(firefox(profile()))
    thread = thread_of(document)
    frames, texts = thread["frameTable"], thread["stringArray"]
    rows = [
        {column: frames[column][i] for column in ("address", "inlineDepth", "line", "category")}
        | {"name": texts[thread["funcTable"]["name"][frames["func"][i]]]}
        for i in range(frames["length"])
    ]
    categories = [one["name"] for one in document["meta"]["categories"]]
    by_name = {row["name"]: row for row in rows}
    assert by_name["work"] | {"category": 0} == {
        "address": 0x1020, "inlineDepth": 0, "line": 20, "category": 0, "name": "work",
    }  # fmt: skip
    assert by_name["std::min<int>(int, int)"]["inlineDepth"] == 1
    assert by_name["std::min<int>(int, int)"]["address"] == 0x1020
    assert by_name["nft_do_chain"]["address"] == -1  # no library, and beyond JavaScript's numbers
    assert categories[by_name["nft_do_chain"]["category"]] == "Kernel"
    assert categories[by_name["handle"]["category"]] == "Runtime"
    assert [lib["name"] for lib in document["libs"]] == ["app", "libc.so.6", "python3.11"]
    assert document["libs"][1]["codeId"] == "bb02"
    assert "grey" in [one["color"] for one in document["meta"]["categories"]]


@pytest.mark.parametrize(
    ("name", "weight_type", "factor"),
    [("cpu", "tracing-ms", 1e-6), ("allocated", "bytes", 1)],
)
def test_weights_and_times(name: str, weight_type: str, factor: float) -> None:
    samples = thread_of(json.loads(firefox(profile(name=name))))["samples"]
    assert samples["weightType"] == weight_type
    assert sum(samples["weight"]) == pytest.approx(TOTAL * factor)
    assert samples["time"] == sorted(samples["time"])
    assert 0 <= samples["time"][0] <= samples["time"][-1] <= 10_000


def test_an_empty_profile() -> None:
    thread = thread_of(json.loads(firefox(profile([]))))
    assert thread["samples"]["length"] == 0
