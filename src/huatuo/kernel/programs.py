"""Which BPF programs are loaded, ours and others'. Numbers only ever grow."""

from __future__ import annotations

import ctypes as c
import errno

from huatuo.kernel.libbpf import check, lib

__all__ = ["program_after"]


def program_after(number: int) -> int:
    """The next loaded program's number, 0 if there is none.

    OSError without CAP_SYS_ADMIN, KernelLacks without libbpf.
    """
    found = c.c_uint32()
    result = lib().bpf_prog_get_next_id(number, c.byref(found))
    if result == -errno.ENOENT:
        return 0
    check(result, "BPF_PROG_GET_NEXT_ID")
    return found.value
