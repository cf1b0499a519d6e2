"""Files of other processes, opened as those processes see them.

Below another root every symbolic link is a stranger's: it is followed as that process would
follow it, and never out of its root.
"""

from __future__ import annotations

import ctypes as c
import errno
import os
import stat
from functools import cache
from pathlib import Path

__all__ = ["open_below", "open_directory_below", "open_regular", "open_root"]

_OPENAT2 = 437  # the same number on every architecture; Linux 5.6
_NO_MAGICLINKS, _IN_ROOT = 0x02, 0x10
_TRIES = 4  # EAGAIN: somebody renamed a directory meanwhile
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK  # a FIFO does not block us


class _OpenHow(c.Structure):
    _fields_ = (("flags", c.c_uint64), ("mode", c.c_uint64), ("resolve", c.c_uint64))


def open_regular(path: Path) -> int:
    """A regular file for reading; OSError if it is anything else."""
    return _regular(os.open(path, _FLAGS), path)


def open_root(path: Path) -> int:
    """A directory such as /proc/PID/root, to be passed to `open_below`."""
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def open_below(root: int, path: str) -> int:
    """A regular file for reading, `path` seen from inside `root`. OSError if there is none."""
    return _regular(_below(root, path, _FLAGS), path)


def open_directory_below(root: int, path: str) -> int:
    """A directory for listing, `path` seen from inside `root`. OSError if there is none."""
    return _below(root, path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _below(root: int, path: str, flags: int) -> int:
    how = _OpenHow(flags, 0, _IN_ROOT | _NO_MAGICLINKS)
    name = os.fsencode(path)
    if b"\0" in name:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
    code = errno.EAGAIN
    for _ in range(_TRIES):
        fd: int = _syscall()(_OPENAT2, root, name, c.byref(how), c.sizeof(how))
        if fd >= 0:
            return fd
        code = c.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(code, os.strerror(code), path)


def _regular(fd: int, path: str | Path) -> int:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return fd


@cache
def _syscall() -> c._NamedFuncPointer:
    function = c.CDLL(None, use_errno=True)["syscall"]
    function.restype = c.c_long
    function.argtypes = [c.c_long, c.c_int, c.c_char_p, c.c_void_p, c.c_size_t]
    return function
