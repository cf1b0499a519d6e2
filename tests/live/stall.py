"""Stalls of known number and length, made by a spinning BPF program (inject/stall.bpf.h).

    with stall("softirq_entry", milliseconds=20, count=5, vector=NET_RX) as stalls:
        …
    assert len(stalls.rows()) == 5

The programs of one tracepoint run in the order they were attached. That decides on which side of a
probe's clock reading a stall falls: see the comment in each inject/stall_*.bpf.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from huatuo.kernel.libbpf import lib
from huatuo.kernel.object import BpfObject

__all__ = ["Stalls", "stall"]

_INJECT = Path(__file__).parent / "inject"
_BTF_FUNCTION = 12  # BTF_KIND_FUNC
_MOST_SECONDS = 6.0  # of all stalls of one call: a test must not take the machine away


class Stalls:
    """What really happened: one row per stall with time, duration (ns), cpu and tid."""

    def __init__(self, loaded: BpfObject) -> None:
        self._ring = loaded.rings["stalls"]
        self._rows = [np.empty(0, self._ring.schema.dtype)]

    def rows(self) -> npt.NDArray[np.void]:
        self._rows.append(self._ring.drain())
        return np.concatenate(self._rows)

    def __len__(self) -> int:
        return len(self.rows())

    @property
    def seconds(self) -> float:
        """The true length of all stalls together."""
        return float(self.rows()["duration"].sum()) / 1e9


@cache
def _has_bpf_loop() -> bool:
    kernel = lib().btf__load_vmlinux_btf()
    return int(lib().btf__find_by_name_kind(kernel, b"bpf_loop", _BTF_FUNCTION)) > 0


@contextmanager
def stall(
    tracepoint: str,
    *,
    milliseconds: float,
    count: int = 1,
    gap_milliseconds: float = 20,
    **only: int | None,
) -> Iterator[Stalls]:
    """Spin in the tracepoint, at most `count` times and once per gap, until the block is left.

    `only` narrows it: cpu, tid, and vector (softirq), irq or disk (block, a dev_t of the kernel).
    The test is skipped on kernels without bpf_loop (before 5.17).
    """
    assert milliseconds * count <= _MOST_SECONDS * 1000, "that would block the machine"
    tunables = {
        "stall_duration": int(milliseconds * 1e6),
        "stall_gap": int((milliseconds + gap_milliseconds) * 1e6),
        "stall_limit": count,
    } | {f"only_{name}": value for name, value in only.items() if value is not None}
    if not _has_bpf_loop():
        pytest.skip("stalls are made with bpf_loop, which this kernel lacks (before 5.17)")
    loaded = BpfObject(_INJECT / f"stall_{tracepoint}.bpf.o", tunables)
    try:
        loaded.load()
        loaded.attach()
    except BaseException:
        loaded.close()
        raise
    try:
        yield Stalls(loaded)
    finally:
        loaded.close()
