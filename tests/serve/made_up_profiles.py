"""Samples of programs that never were: deterministic, with kernel, native, Python and JIT frames.

Facts that tests may rely on, in every history that `history` makes:

    hot_regression   ran in the last fifth of the history only
    gone_by_now      ran before that only
    etl-7            runs six times as much in the last fifth
    idle             nothing runs in the last 2 of every 10 s
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from huatuo.model.profile import FrameKind, Line, Location, Samples, Stack, StackStatus

__all__ = ["history"]

_PERIOD_NS = 1_000_000_000 // 19
_KERNEL = {
    "read": "entry_SYSCALL_64_after_hwframe do_syscall_64 __x64_sys_pread64 vfs_read "
    "ext4_file_read_iter generic_file_read_iter filemap_read copy_page_to_iter _copy_to_iter",
    "write": "entry_SYSCALL_64_after_hwframe do_syscall_64 __x64_sys_write ksys_write vfs_write "
    "ext4_buffered_write_iter generic_perform_write ext4_da_write_begin __filemap_get_folio",
    "send": "entry_SYSCALL_64_after_hwframe do_syscall_64 __x64_sys_sendto __sys_sendto "
    "tcp_sendmsg tcp_sendmsg_locked tcp_push __tcp_push_pending_frames tcp_write_xmit "
    "__tcp_transmit_skb ip_queue_xmit __dev_queue_xmit dev_hard_start_xmit",
    "epoll": "entry_SYSCALL_64_after_hwframe do_syscall_64 __x64_sys_epoll_wait do_epoll_wait "
    "ep_poll schedule __schedule finish_task_switch.isra.0",
    "fault": "asm_exc_page_fault exc_page_fault do_user_addr_fault handle_mm_fault "
    "__handle_mm_fault do_anonymous_page alloc_anon_folio clear_page_erms",
    "futex": "entry_SYSCALL_64_after_hwframe do_syscall_64 __x64_sys_futex do_futex futex_wake "
    "wake_up_q try_to_wake_up ttwu_queue_wakelist native_write_msr",
}
_VERBS = ("parse", "read", "write", "encode", "hash", "sort", "merge", "scan", "fetch", "lock")
_NOUNS = ("row", "page", "tuple", "key", "index", "buffer", "header", "node", "block", "batch")


@dataclass
class _Program:
    """How one program's stacks look. `style` makes a function's name from verb, noun, number."""

    container: str
    comm: str
    pids: tuple[str, ...]
    mapping: str
    entry: tuple[tuple[FrameKind, str, str], ...]  # kind, mapping, function, outermost first
    kind: FrameKind
    style: str
    source: str
    weight: float
    functions: list[Location] = field(default_factory=list)
    calls: list[list[int]] = field(default_factory=list)


def _entry(mapping: str, *functions: str) -> tuple[tuple[FrameKind, str, str], ...]:
    """What every stack of a program begins with."""
    start = (FrameKind.NATIVE, "libc.so.6", "__libc_start_main")
    return (start, *((FrameKind.NATIVE, mapping, function) for function in functions))


def _programs() -> list[_Program]:
    native, runtime = FrameKind.NATIVE, FrameKind.RUNTIME
    python = _entry("libpython3.11.so.1.0", "Py_BytesMain", "_PyEval_EvalFrameDefault")
    invoke = "v8::internal::(anonymous namespace)::Invoke(v8::internal::Isolate*, Params const&)"
    method = "std::unordered_map<std::string, redis::{Noun}<int>>::{verb}{i}(redis::{Noun} const&)"
    return [
        _Program("pg-0", "postgres", ("811", "812", "840"), "postgres",
                 _entry("postgres", "PostmasterMain", "PostgresMain", "exec_simple_query"),
                 native, "{Noun}{Verb}_{i}", "src/backend/executor/exec{Noun}.c", 4.0),
        _Program("etl-7", "python3", ("2207",), "etl",
                 (*python, (runtime, "etl", "<module>"), (runtime, "etl", "main")),
                 runtime, "{noun}s.{verb}_{noun}_{i}", "/app/etl/{noun}s.py", 2.0),
        _Program("web-1", "node", ("3101", "3102"), "[anon]",
                 _entry("node", "node::Start(int, char**)", "uv_run", invoke),
                 FrameKind.JIT, "{verb}{Noun}{i}", "/srv/app/{noun}.js", 2.0),
        _Program("redis-2", "redis-server", ("4001",), "redis-server",
                 _entry("redis-server", "aeMain", "aeProcessEvents"),
                 native, method, "src/{noun}.cc", 1.0),
    ]  # fmt: skip


def _grow(program: _Program, random_: random.Random, functions: int) -> None:
    """A call graph without cycles, in which a few functions are called from everywhere."""
    for i in range(functions):
        verb, noun = random_.choice(_VERBS), random_.choice(_NOUNS)
        words = {"verb": verb, "noun": noun, "Verb": verb.title(), "Noun": noun.title(), "i": i}
        line = Line(
            program.style.format(**words), program.source.format(**words), 20 + 7 * (i % 90)
        )
        lines = (line,)
        if program.kind is FrameKind.NATIVE and i % 9 == 4:  # something small was inlined into it
            lines = (Line(f"likely_{noun}", line.file, line.line + 3), line)
        address = 0x40000 + 0x120 * i
        program.functions.append(Location(program.kind, program.mapping, address, "", lines))
        later = range(i + 1, min(functions, i + 40))
        program.calls.append(random_.sample(later, min(len(later), random_.randrange(2, 7))))


def _walk(program: _Program, random_: random.Random) -> Stack:
    """One stack: from the entry down the call graph, perhaps into the kernel."""
    path = [Location(kind, lib, 0x1000 + 16 * i, "", (Line(name),))
            for i, (kind, lib, name) in enumerate(program.entry)]  # fmt: skip
    at = random_.choice((0, 0, 0, 1, 2))
    while True:
        path.append(program.functions[at])
        calls = program.calls[at]
        if not calls or random_.random() < 0.1:
            break
        at = calls[min(int(random_.expovariate(0.8)), len(calls) - 1)]
    if random_.random() < 0.45:
        name = random_.choice(list(_KERNEL))
        frames = _KERNEL[name].split()
        for i, function in enumerate(frames[: random_.randrange(2, len(frames) + 1)]):
            address = 0xFFFFFFFF81000000 + 4096 * i + len(name)
            path.append(Location(FrameKind.KERNEL, "[vmlinux]", address, "", (Line(function),)))
    status = StackStatus.COMPLETE if random_.random() > 0.003 else StackStatus.NO_ROWS
    return Stack(tuple(reversed(path)), status)


def _stacks(program: _Program, random_: random.Random, nodes: int) -> list[Stack]:
    """So many that their tree has about `nodes` nodes, the most frequent ones first."""
    known: set[tuple[Location, ...]] = set()
    found: dict[Stack, int] = {}
    while len(known) < nodes:
        stack = _walk(program, random_)
        found[stack] = found.get(stack, 0) + 1
        outermost_first = stack.locations[::-1]
        for depth in range(len(outermost_first), 0, -1):
            if outermost_first[:depth] in known:
                break
            known.add(outermost_first[:depth])
    return sorted(found, key=lambda stack: -found[stack])


def history(
    start_ns: int, end_ns: int, nodes: int = 20_000, cpus: float = 4.0, seed: int = 7
) -> Iterator[Samples]:
    """CPU samples of all programs, a batch per program; of one also where it blocks, of another the
    memory it takes. The tree of all has about `nodes` nodes if there are samples enough for it.
    """
    random_, rng = random.Random(seed), np.random.default_rng(seed)
    for program in _programs():
        _grow(program, random_, 400)
        stacks = _stacks(program, random_, nodes // 4)
        times = _times(rng, start_ns, end_ns, program, cpus)
        yield _samples("cpu", times, stacks, program, rng, (start_ns, end_ns))
        in_kernel = [one for one in stacks if one.locations[0].kind is FrameKind.KERNEL]
        if program.container == "pg-0":
            yield _samples("blocked", times[::5], in_kernel, program, rng, (start_ns, end_ns))
        if program.container == "redis-2":
            yield _samples("allocated", times[::9], in_kernel, program, rng, (start_ns, end_ns))


def _times(
    rng: np.random.Generator, start_ns: int, end_ns: int, program: _Program, cpus: float
) -> np.ndarray:
    share = program.weight / 9.0 * cpus
    count = int((end_ns - start_ns) / _PERIOD_NS * share)
    times = np.sort(rng.integers(start_ns, end_ns, count))
    place = (times - start_ns) / (end_ns - start_ns)
    storm = place > 0.8
    chance = np.where(storm, 1.0, 1 / 6 if program.container == "etl-7" else 0.8)
    chance *= 0.6 + 0.4 * np.sin(times / 47e9 + program.weight)
    busy = (times // 10**9) % 10 < 8
    kept = times[busy & (rng.random(count) < chance)]
    return kept - kept % 1_000_000  # as stores keep them


def _samples(
    name: str,
    times: np.ndarray,
    stacks: list[Stack],
    program: _Program,
    rng: np.random.Generator,
    span: tuple[int, int],
) -> Samples:
    """Every stack once, as far as the samples go; the rest by a power law."""
    weights = 1 / np.arange(1, len(stacks) + 1) ** 0.9
    chosen = rng.choice(len(stacks), len(times), p=weights / weights.sum())
    once = rng.permutation(len(times))[: len(stacks)]
    chosen[once] = np.arange(len(once))
    stacks = [*stacks, *_planted(program)]
    late = (times - span[0]) / (span[1] - span[0]) > 0.8
    swapped = rng.random(len(times)) < 0.08
    chosen[swapped & late] = len(stacks) - 2
    chosen[swapped & ~late] = len(stacks) - 1
    labels: list[Mapping[str, str]] = [
        {"container": program.container, "comm": program.comm, "pid": pid} for pid in program.pids
    ]
    value = {"cpu": _PERIOD_NS, "blocked": 3 * _PERIOD_NS, "allocated": 64 << 12}[name]
    return Samples(
        name, times, np.full(len(times), value, np.int64), stacks, chosen.astype(np.int32),
        labels, rng.integers(0, len(labels), len(times)).astype(np.int32),
    )  # fmt: skip


def _planted(program: _Program) -> Iterator[Stack]:
    """The two functions that tell the last fifth from what was before."""
    entry = [Location(kind, lib, 0x1000 + 16 * i, "", (Line(name),))
             for i, (kind, lib, name) in enumerate(program.entry)]  # fmt: skip
    for i, function in enumerate(("hot_regression", "gone_by_now")):
        line = Line(function, "src/planted.c", 42)
        yield Stack(
            (Location(program.kind, program.mapping, 0x900000 + i, "", (line,)), *entry[::-1])
        )
