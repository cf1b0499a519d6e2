"""C++ names as written in the source, by the C++ library's own demangler.

Only for worker processes: a few hundred bytes of a hostile name can ask for gigabytes.
"""

from __future__ import annotations

import ctypes as c
from functools import cache

__all__ = ["demangle_cpp"]

_LONGEST = 8192
_LONGEST_RESULT = 4096


def demangle_cpp(name: bytes) -> bytes:
    """`_ZN3foo3barEi` → `foo::bar(int)`; the name itself if it is none of C++, or very long.

    What is longer than 4096 bytes when readable is cut.

    Itanium C++ ABI, 5.1 and 3.4: __cxa_demangle.
    """
    demangle = _function()
    if demangle is None or not name.startswith(b"_Z") or len(name) > _LONGEST:
        return name
    status = c.c_int()
    found = demangle(name, None, None, c.byref(status))
    if not found:
        return name
    try:
        return c.string_at(found)[:_LONGEST_RESULT]
    finally:
        _free()(found)


@cache
def _function() -> c._NamedFuncPointer | None:
    for library in ("libstdc++.so.6", "libc++abi.so.1"):
        try:
            function = c.CDLL(library)["__cxa_demangle"]
        except (OSError, AttributeError):
            continue
        function.restype = c.c_void_p
        function.argtypes = [c.c_char_p, c.c_void_p, c.c_void_p, c.POINTER(c.c_int)]
        return function
    return None


@cache
def _free() -> c._NamedFuncPointer:
    function = c.CDLL(None)["free"]
    function.restype, function.argtypes = None, [c.c_void_p]
    return function
