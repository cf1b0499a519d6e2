"""Samples with names, from records as the kernel would write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.profiling import Profiling
from huatuo.enrich.symbols.kernel import KernelSymbols
from huatuo.model.profile import FrameKind, Samples, StackStatus
from huatuo.model.record import RecordBatch
from huatuo.probes.base import discover
from huatuo.probes.profile.blocked import Blocked
from huatuo.probes.profile.cpu import Cpu
from huatuo.probes.profile.lock import Lock
from huatuo.probes.profiler import Profiler
from huatuo.profilers.native.binaries import Binary
from tests.enrich.conftest import SECOND, Layout

NOWHERE = 1 << 63
KALLSYMS = """\
ffffffff81000000 T _stext
ffffffff81001000 T futex_wait_queue
ffffffff81002000 T do_syscall_64
ffffffff81003000 T tcp_sendmsg
"""
FUTEX, SYSCALL, TCP = 0xFFFFFFFF81001010, 0xFFFFFFFF81002020, 0xFFFFFFFF81003030


class Unwinder:
    """What Profiling asks of one: stacks that came, and the files their frames are in."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows
        self.binaries = self
        self.forgotten = 0

    def stacks(self) -> Any:
        rows, self._rows = self._rows, self._rows[:0]
        return rows

    def get(self, number: int) -> Binary:
        return Binary(number, "/usr/bin/app")

    def forget_stacks(self) -> None:
        self.forgotten += 1


@pytest.fixture
def layout(make_layout: Callable[[str], Layout]) -> Layout:
    layout = make_layout("v2")
    (layout.host.proc / "kallsyms").write_text(KALLSYMS)
    return layout


@pytest.fixture
def profiling(layout: Layout, tmp_path: Path) -> Profiling:
    discover()
    kernel = KernelSymbols(layout.host, lambda _: 0)
    return Profiling(layout.host, Inventory(layout.host, []), kernel, tmp_path / "symbols")


def stacks(*made: tuple[int, list[int], list[int]], status: int = 0) -> Any:
    """(id, kernel frames, user frames) as struct stack, read from the tables' BTF."""
    schema = Cpu.btf().records["new_stacks"]
    rows = np.zeros(len(made), schema.dtype)
    for row, (number, kernel, user) in zip(rows, made, strict=True):
        row["id"], row["tgid"], row["status"] = number, 7, status
        row["kernel_count"], row["user_count"] = len(kernel), len(user)
        row["kernel"][: len(kernel)] = kernel
        row["user"][: len(user)] = user
    return rows


def batch(profiler: type[Profiler], *made: dict[str, Any]) -> RecordBatch:
    schema = profiler.btf().records["samples"]
    rows = np.zeros(len(made), schema.dtype)
    for row, fields in zip(rows, made, strict=True):
        for name, value in fields.items():
            row[name] = value
    return RecordBatch(profiler.name, "samples", schema, rows)


def labels(samples: Samples, at: int = 0) -> dict[str, str]:
    return dict(samples.labels[int(samples.labels_of[at])])


def test_a_sample_has_its_stack_time_weight_and_labels(
    profiling: Profiling, layout: Layout
) -> None:
    web = layout.cgroup("/web.slice")
    profiling.take(
        Cpu,
        batch(
            Cpu,
            {"time": 1000 * SECOND, "stack": 5, "cgroup": web, "value": 52_631_579, "tgid": 7,
             "tid": 8, "group": 6, "cpu": 1, "comm": b"app", "thread": b"worker"},
        ),
    )  # fmt: skip
    user = [2 << 40 | 0x1234, NOWHERE | 0x7F0000001000]
    profiling.take_stacks(Unwinder(stacks((5, [TCP, SYSCALL], user))))  # type: ignore[arg-type]
    (samples,) = profiling.samples()
    assert samples.type == "cpu"
    assert samples.times.tolist() == [1_700_000_000 * SECOND]
    assert samples.values.tolist() == [52_631_579]
    assert labels(samples) == {
        "container": "web.slice", "comm": "app", "thread": "worker", "pid": "7", "tid": "8",
        "pgid": "6", "cpu": "1", "subsystem": "network",
    }  # fmt: skip
    stack = samples.stacks[int(samples.stack_of[0])]
    assert stack.status is StackStatus.COMPLETE
    assert [(place.kind, place.mapping, place.address) for place in stack.locations] == [
        (FrameKind.KERNEL, "[vmlinux]", TCP),
        (FrameKind.KERNEL, "[vmlinux]", SYSCALL),
        (FrameKind.NATIVE, "app", 0x1234),
        (FrameKind.JIT, "[anon]", 0x7F0000001000),
    ]
    assert [place.lines[0].function for place in stack.locations[:2]] == [
        "tcp_sendmsg", "do_syscall_64",
    ]  # fmt: skip
    assert profiling.samples() == []


def test_a_sample_whose_stack_never_came_is_counted(profiling: Profiling) -> None:
    profiling.take(Cpu, batch(Cpu, {"stack": 9, "value": 1}, {"stack": 5, "value": 2}))
    profiling.take_stacks(Unwinder(stacks((5, [], []))))  # type: ignore[arg-type]
    (samples,) = profiling.samples()
    assert samples.values.tolist() == [2]
    assert sum(profiling.unknown.values()) == 1


def test_kinds_are_labels(profiling: Profiling) -> None:
    mutex = next(value for value, name in Lock.kinds().items() if name == "mutex")
    profiling.take(Lock, batch(Lock, {"stack": 5, "value": 10, "kind": mutex}))
    profiling.take_stacks(Unwinder(stacks((5, [], []))))  # type: ignore[arg-type]
    (samples,) = profiling.samples()
    assert labels(samples)["type"] == "mutex"


def test_a_lock_names_its_holder_and_the_holders_stack(profiling: Profiling) -> None:
    """Thread 3 of the process, as the process calls it, is thread 103 of the host."""
    waiter = {"stack": 5, "value": 400, "tgid": 7, "tid": 104, "local_tid": 4, "thread": b"waiter",
              "object": 0x7000, "owner": 3}  # fmt: skip
    holder = {"stack": 6, "value": 400, "tgid": 7, "tid": 103, "local_tid": 3, "thread": b"owner"}
    other = {"stack": 6, "value": 50, "tgid": 8, "tid": 203, "local_tid": 3, "thread": b"stranger"}
    profiling.take(Blocked, batch(Blocked, waiter, other, holder))
    profiling.take_stacks(
        Unwinder(stacks((5, [FUTEX], [2 << 40 | 1]), (6, [SYSCALL], [2 << 40 | 2])))  # type: ignore[arg-type]
    )
    found = {samples.type: samples for samples in profiling.samples()}
    assert set(found) == {"blocked", "lock", "holder"}
    assert labels(found["blocked"])["reason"] == "lock"
    assert labels(found["lock"])["holder"] == "owner/103"
    assert labels(found["lock"])["lock"] == "0x7000"
    blamed = labels(found["holder"])
    assert (blamed["thread"], blamed["tid"], blamed["waiter"]) == ("owner", "103", "waiter/104")
    (stack,) = found["holder"].stacks
    assert stack.locations[-1].address == 2, "it is the holder's stack"
    assert found["holder"].values.tolist() == [400]


def test_an_owner_that_is_no_thread_of_the_process_is_not_believed(profiling: Profiling) -> None:
    """The word behind a futex need not be a mutex's."""
    waiting = {
        "stack": 5,
        "value": 1,
        "tgid": 7,
        "tid": 4,
        "local_tid": 4,
        "object": 1,
        "owner": 99,
    }
    itself = waiting | {"owner": 4}
    profiling.take(Blocked, batch(Blocked, waiting, itself))
    profiling.take_stacks(Unwinder(stacks((5, [FUTEX], []))))  # type: ignore[arg-type]
    assert [samples.type for samples in profiling.samples()] == ["blocked"]


def test_only_what_is_asked_for(layout: Layout, tmp_path: Path) -> None:
    web, db = layout.cgroup("/web.slice"), layout.cgroup("/db.slice")
    discover()
    for only, values in (
        ({"pid": "7"}, [1, 2]), ({"container": "db.slice"}, [2, 4]), ({"cpu": "3"}, [4]),
        ({"pid": "7", "container": "web.slice"}, [1]), ({"tid": "5"}, []),
    ):  # fmt: skip
        profiling = Profiling(
            layout.host, Inventory(layout.host, []), KernelSymbols(layout.host, lambda _: 0),
            tmp_path / "symbols", only=only,
        )  # fmt: skip
        rows = [
            {"stack": 5, "tgid": 7, "cgroup": web, "value": 1},
            {"stack": 5, "tgid": 7, "cgroup": db, "value": 2},
            {"stack": 5, "tgid": 9, "cgroup": db, "cpu": 3, "value": 4},
        ]
        profiling.take(Cpu, batch(Cpu, *rows))
        profiling.take_stacks(Unwinder(stacks((5, [], []))))  # type: ignore[arg-type]
        assert [v for s in profiling.samples() for v in s.values.tolist()] == values
        profiling.close()


def test_incomplete_stacks_say_why(profiling: Profiling) -> None:
    for status in range(len(StackStatus)):
        profiling.take(Cpu, batch(Cpu, {"stack": 50 + status, "value": 1}))
        made = stacks((50 + status, [], []), status=status)
        profiling.take_stacks(Unwinder(made))  # type: ignore[arg-type]
    (samples,) = profiling.samples()
    assert [samples.stacks[i].status for i in samples.stack_of.tolist()] == list(StackStatus)


def test_the_kernels_words_for_incomplete_stacks_are_ours() -> None:
    """enum stack_status of bpf/unwind.bpf.h, and the rules' enums of the same file."""
    labels = Cpu.btf().records["new_stacks"].field("status").labels
    assert [labels[number] for number in sorted(labels)] == [str(each) for each in StackStatus]
