"""What BPF statistics add to each run: measured on an empty program, on this machine, once."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

from huatuo.errors import KernelLacks
from huatuo.kernel.object import BpfObject, statistics_window

__all__ = ["statistics_overhead_ns"]

_PR_SET_NAME, _PR_GET_NAME = 15, 16
_RUNS = 5000


@cache
def statistics_overhead_ns() -> float:
    """Nanoseconds per run that statistics report for an empty program; 0 if it cannot be run.

    Renames this thread to its own name a few thousand times (about 5 ms) to hit task_rename.
    """
    libc = ctypes.CDLL(None)
    name = ctypes.create_string_buffer(16)
    libc.prctl(_PR_GET_NAME, name, 0, 0, 0)
    try:
        with BpfObject(Path(__file__).with_name("calibration.bpf.o")) as calibration:
            window = statistics_window()
            try:
                for _ in range(_RUNS):
                    libc.prctl(_PR_SET_NAME, name, 0, 0, 0)
            finally:
                os.close(window)
            (cost,) = calibration.statistics().values()
    except (KernelLacks, OSError):
        return 0.0
    return cost.run_time_ns / cost.run_count if cost.run_count else 0.0
