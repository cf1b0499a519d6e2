"""libpcap's compiler through ctypes: an expression in tcpdump's language → classic BPF.

libpcap is optional: only filters of packets need it. Nothing is captured with it.
Formats and functions: pcap(3), pcap-filter(7), Linux' Documentation/networking/filter.rst.
"""

from __future__ import annotations

import ctypes as c
import ctypes.util
import os
from contextlib import suppress
from functools import cache

import numpy as np
import numpy.typing as npt

from huatuo.errors import ConfigError, KernelLacks

__all__ = ["INSTRUCTION", "compiled"]

INSTRUCTION = np.dtype([("code", "<u2"), ("jt", "u1"), ("jf", "u1"), ("k", "<u4")])
_ETHERNET = 1  # DLT_EN10MB
_WHOLE_PACKETS = 262144  # tcpdump's own snapshot length
_UNKNOWN_NETMASK = 0xFFFFFFFF
_LONGEST = 64 * 1024  # characters; compiling takes time that grows with the square
_P, _S, _I, _U = c.c_void_p, c.c_char_p, c.c_int, c.c_uint


class _Program(c.Structure):
    """struct bpf_program of pcap/bpf.h."""

    _fields_ = (("length", _U), ("instructions", _P))


@cache
def _lib() -> c.CDLL:
    library = _opened()
    library.pcap_open_dead.restype, library.pcap_open_dead.argtypes = _P, [_I, _I]
    library.pcap_compile.argtypes = [_P, c.POINTER(_Program), _S, _I, _U]
    library.pcap_geterr.restype, library.pcap_geterr.argtypes = _S, [_P]
    library.pcap_freecode.argtypes = [c.POINTER(_Program)]
    library.pcap_close.argtypes = [_P]
    return library


def _opened() -> c.CDLL:
    for name in ("libpcap.so.0.8", "libpcap.so.1", ctypes.util.find_library("pcap")):
        with suppress(OSError):
            if name:
                return c.CDLL(name)
    raise KernelLacks(
        "packet filters need libpcap's compiler, which is not installed: install libpcap0.8 "
        "(Debian, Ubuntu) or libpcap"
    )


def compiled(expression: str) -> npt.NDArray[np.void]:
    """The program that says whether an Ethernet frame is wanted, as rows of INSTRUCTION.

    Raises ConfigError with libpcap's reason for an expression that is none, KernelLacks where
    there is no libpcap. Names of hosts are looked up, as tcpdump does.
    """
    if len(expression) > _LONGEST or "\0" in expression:
        raise ConfigError(f"the packet filter is longer than {_LONGEST} characters, or not text")
    handle = _lib().pcap_open_dead(_ETHERNET, _WHOLE_PACKETS)
    program = _Program()
    try:
        text = os.fsencode(expression)
        if _lib().pcap_compile(handle, c.byref(program), text, 1, _UNKNOWN_NETMASK):
            why = _lib().pcap_geterr(handle).decode(errors="replace")
            raise ConfigError(f"packet filter {expression!r}: {why}; see man pcap-filter")
        size = program.length * INSTRUCTION.itemsize
        return np.frombuffer(c.string_at(program.instructions, size), INSTRUCTION)
    finally:
        _lib().pcap_freecode(c.byref(program))
        _lib().pcap_close(handle)
