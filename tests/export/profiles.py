"""Profiles for the tests of every format: made by hand, and by hypothesis."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from huatuo.model.profile import FrameKind, Line, Location, Profile, Stack, StackStatus
from tests.serve.memory_profiles import Row, merged

NS = 1_000_000_000
START = 1_767_225_600 * NS

MAIN = Location(FrameKind.NATIVE, "app", 0x1010, "aa01", (Line("main", "app.c", 10),))
INLINED = Location(
    FrameKind.NATIVE,
    "app",
    0x1020,
    "aa01",
    (Line("std::min<int>(int, int)", "algo.h", 7), Line("work", "app.c", 20)),
)
LIBC = Location(FrameKind.NATIVE, "libc.so.6", 0x8612B, "bb02")  # no symbols
PYTHON = Location(
    FrameKind.RUNTIME, "python3.11", 0x7F0000001234, "", (Line("handle", "web.py", 99),)
)
JIT = Location(FrameKind.JIT, "[anon]", 0x7FFFAA001000)
KERNEL = Location(FrameKind.KERNEL, "[vmlinux]", 0xFFFFFFFF81000010, "", (Line("do_syscall_64"),))
MODULE = Location(FrameKind.KERNEL, "[nf_tables]", 0xFFFFFFFFC0000020, "", (Line("nft_do_chain"),))

STACKS = (
    (Stack((INLINED, MAIN)), 5_000_000),
    (Stack((LIBC, INLINED, MAIN)), 3_000_000),
    (Stack((KERNEL, LIBC, MAIN)), 2_000_000),
    (Stack((MODULE, KERNEL, LIBC, MAIN), StackStatus.TOO_DEEP), 1_000_000),
    (Stack((PYTHON, PYTHON, MAIN)), 7_000_000),
    (Stack((JIT, PYTHON)), 4_000_000),
)
TOTAL = sum(value for _, value in STACKS)


def rows(
    stacks: Sequence[tuple[Stack, int]] = STACKS, step_ns: int = NS, **labels: str
) -> list[Row]:
    return [(START + i * step_ns, value, stack, labels) for i, (stack, value) in enumerate(stacks)]


def profile(stacks: Sequence[tuple[Stack, int]] = STACKS, name: str = "cpu") -> Profile:
    return merged(name, rows(stacks), START, START + 10 * NS)


_texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
_lines = st.builds(Line, _texts, st.one_of(st.just(""), _texts), st.integers(0, 2**31 - 1))
_locations = st.builds(
    Location,
    st.sampled_from(FrameKind),
    st.sampled_from(["app", "libc.so.6", "[vmlinux]", "[anon]", "[vdso]", "日本.so"]),
    st.integers(1, 2**64 - 1),
    st.sampled_from(["", "0a1b"]),
    st.lists(_lines, max_size=3).map(tuple),
)


@st.composite
def stack_lists(draw: st.DrawFn) -> list[tuple[Stack, int]]:
    """A location is its kind, mapping, address and build id; the lines of equal ones are equal."""
    pool = draw(st.lists(_locations, min_size=1, max_size=8, unique_by=lambda one: one[:4]))
    stack = st.lists(st.sampled_from(pool), min_size=1, max_size=8).map(lambda s: Stack(tuple(s)))
    return draw(st.lists(st.tuples(stack, st.integers(1, 2**40)), max_size=12))
