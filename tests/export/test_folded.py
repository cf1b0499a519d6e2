"""Folded stacks: read back, and by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given

from huatuo.errors import HuatuoError
from huatuo.export import folded
from huatuo.model.profile import FrameKind, Line, Stack
from tests.export.profiles import MAIN, TOTAL, profile, stack_lists
from tests.serve.memory_profiles import merged, rows_of

Stacks = Sequence[tuple[Stack, int]]


def read(data: bytes, **options: object) -> list[tuple[tuple[str, ...], int]]:
    """(frames, outermost first; value) of each row."""
    found = folded.read(data, "cpu", {}, 0, **options)  # type: ignore[arg-type]
    return [
        (tuple(one.lines[0].function for one in reversed(stack.locations)), value)
        for samples in found.samples
        for _, value, stack, _ in rows_of(samples)
    ]


def test_the_lines() -> None:
    assert folded.write(profile()).decode().splitlines() == [
        "handle;[anon]+0x7fffaa001000_[j] 4000000",
        "main;handle;handle 7000000",
        "main;libc.so.6+0x8612b;do_syscall_64_[k] 2000000",
        "main;libc.so.6+0x8612b;do_syscall_64_[k];nft_do_chain_[k] 1000000",
        "main;work;std::min<int>(int, int) 5000000",
        "main;work;std::min<int>(int, int);libc.so.6+0x8612b 3000000",
    ]


@given(stack_lists())
def test_written_read_and_written_again_is_the_same(stacks: Stacks) -> None:
    data = folded.write(profile(stacks))
    found = folded.read(data, "cpu", {}, 0)
    rows = [row for samples in found.samples for row in rows_of(samples)]
    assert sum(value for _, value, _, _ in rows) == sum(value for _, value in stacks)
    assert folded.write(merged("cpu", rows)) == data


def test_kinds_come_back() -> None:
    (samples,) = folded.read(folded.write(profile()), "cpu", {"a": "b"}, 5).samples
    rows = list(rows_of(samples))
    kinds = {one.lines[0].function: one.kind for row in rows for one in row[2].locations}
    assert kinds["nft_do_chain"] is FrameKind.KERNEL
    assert kinds["[anon]+0x7fffaa001000"] is FrameKind.JIT
    assert kinds["main"] is FrameKind.NATIVE
    assert sum(row[1] for row in rows) == TOTAL
    assert all(row[0] == 5 and row[3] == {"a": "b"} for row in rows)


def test_names_that_would_break_a_line() -> None:
    odd = MAIN._replace(lines=(Line("a;b\nc", "", 0),))
    assert folded.write(profile([(Stack((odd,)), 1)])) == b"a:b c 1\n"


def test_lines_of_others() -> None:
    text = b"main;f 3\r\n\nname with space 2\nmain;f 1.6\n"
    assert read(text, factor=10) == [
        (("main", "f"), 30), (("name with space",), 20), (("main", "f"), 20),
    ]  # fmt: skip
    lines = read(b"main;f\nmain;f\n", counted=False)
    assert Counter(path for path, _ in lines) == {("main", "f"): 2}


@pytest.mark.parametrize("text", ["main;f", "main;f x", "main inf", "main " + "9" * 5000])
def test_a_line_without_a_value_is_named(text: str) -> None:
    with pytest.raises(HuatuoError, match="line 2: expected `stack value`"):
        folded.read(f"ok 1\n{text}\n".encode(), "cpu", {}, 0)
