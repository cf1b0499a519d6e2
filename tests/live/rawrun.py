"""Runs a loaded raw_tp program with arguments of the test's choice (BPF_PROG_TEST_RUN)."""

from __future__ import annotations

import ctypes as c

from huatuo.kernel.libbpf import lib
from huatuo.kernel.object import BpfObject

__all__ = ["run_raw"]


class _Options(c.Structure):
    """struct bpf_test_run_opts, bpf/bpf.h"""

    _fields_ = (
        ("sz", c.c_size_t),
        ("data_in", c.c_void_p),
        ("data_out", c.c_void_p),
        ("data_size_in", c.c_uint32),
        ("data_size_out", c.c_uint32),
        ("ctx_in", c.c_void_p),
        ("ctx_out", c.c_void_p),
        ("ctx_size_in", c.c_uint32),
        ("ctx_size_out", c.c_uint32),
        ("retval", c.c_uint32),
        ("repeat", c.c_int),
        ("duration", c.c_uint32),
        ("flags", c.c_uint32),
        ("cpu", c.c_uint32),
        ("batch_size", c.c_uint32),
    )


def run_raw(loaded: BpfObject, role: str, *arguments: int) -> None:
    """Once, as the tracepoint would with these arguments; a pointer of 0 reads as nothing."""
    program = next(p for p in loaded.programs if p.role == role and p.used)
    context = (c.c_uint64 * 12)(*arguments)
    options = _Options(sz=c.sizeof(_Options))
    options.ctx_in, options.ctx_size_in = c.addressof(context), c.sizeof(context)
    call = lib().bpf_prog_test_run_opts
    call.argtypes = [c.c_int, c.POINTER(_Options)]
    result = call(lib().bpf_program__fd(program.pointer), c.byref(options))
    assert result == 0, f"test run of {role}: {result}"
