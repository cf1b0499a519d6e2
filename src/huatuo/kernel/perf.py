"""Perf events: a clock on a CPU that BPF programs can hang on. Source: perf_event_open(2)."""

from __future__ import annotations

import ctypes as c
import os
import platform
import struct

from huatuo.errors import KernelLacks

__all__ = ["open_clock"]

_SYSCALL = {"x86_64": 298, "aarch64": 241}
_TYPE_SOFTWARE, _CPU_CLOCK = 1, 0
_ATTRIBUTES = struct.Struct("<IIQQQQ")  # the first members of struct perf_event_attr
_SIZE = 64  # PERF_ATTR_SIZE_VER0
_EXCLUDE_IDLE = 1 << 7
_CLOEXEC = 8


def open_clock(cpu: int, period_ns: int) -> int:
    """A descriptor of an event that fires on one CPU each `period_ns` in which it is not idle.

    Raises KernelLacks with what to do; OSError ENODEV if the CPU is offline.
    """
    head = _ATTRIBUTES.pack(_TYPE_SOFTWARE, _SIZE, _CPU_CLOCK, period_ns, 0, 0)
    attributes = c.create_string_buffer(head + struct.pack("<Q", _EXCLUDE_IDLE), _SIZE)
    libc = c.CDLL(None, use_errno=True)
    number = _SYSCALL[platform.machine()]
    fd = libc.syscall(number, attributes, -1, cpu, -1, c.c_ulong(_CLOEXEC))
    if fd >= 0:
        return int(fd)
    code = c.get_errno()
    if code in (1, 13):
        raise KernelLacks(
            f"perf events of CPU {cpu} are refused ({os.strerror(code)}): "
            "run as root or with CAP_PERFMON"
        )
    raise OSError(code, f"perf event on CPU {cpu}: {os.strerror(code)}")
