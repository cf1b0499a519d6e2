from __future__ import annotations

import pytest

from huatuo.enrich.stacks import KnownStack
from huatuo.model.profile import FrameKind, Line, Location, Stack


def kernel(name: str) -> Location:
    """A name, or an address that has none."""
    lines = (Line(name),) if name else ()
    return Location(FrameKind.KERNEL, "[vmlinux]", hash(name), lines=lines)


USER = Location(FrameKind.NATIVE, "app", 0x40, lines=(Line("bpf_trace_run1"),))


@pytest.mark.parametrize(
    ("innermost_first", "left"),
    [
        ("page_fault_user bpf_trace_run3 exc_page_fault", "exc_page_fault"),
        (" bpf_trace_run3 exc_page_fault", "exc_page_fault"),  # the program has no name yet
        ("contention_end bpf_trace_run2 __traceiter_contention_end down", "down"),
        ("perf_syscall_enter syscall_trace_enter do_syscall_64", "do_syscall_64"),
        ("a b c d e f bpf_trace_run2 g", "a b c d e f bpf_trace_run2 g"),  # somebody else's
        ("exc_page_fault asm_exc_page_fault", "exc_page_fault asm_exc_page_fault"),
        ("", ""),
    ],
)
def test_a_sample_is_of_where_its_tracepoint_is(innermost_first: str, left: str) -> None:
    places = [kernel(name) for name in innermost_first.split(" ")]
    found = KnownStack(Stack((*places, USER)), (), "").as_it_was()
    assert [line.function for at in found.stack.locations for line in at.lines] == [
        *left.split(),
        "bpf_trace_run1",
    ]
    assert found.stack.locations[-1] == USER
