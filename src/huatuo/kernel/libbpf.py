"""libbpf through ctypes: the functions used, their signatures, and what libbpf says on stderr.

Nothing here knows a probe. Every call returns libbpf's own value; `check` turns a negative errno
or a null pointer into OSError.
"""

from __future__ import annotations

import ctypes as c
import ctypes.util
import importlib.util
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from huatuo.errors import KernelLacks

__all__ = ["check", "lib", "messages", "version"]

_P = c.c_void_p
_S = c.c_char_p
_I = c.c_int
_U = c.c_uint32

# name → (result, arguments). Source: libbpf's bpf/libbpf.h, bpf/bpf.h and bpf/btf.h, 1.0 and later.
_SIGNATURES: dict[str, tuple[type | None, list[type]]] = {
    "libbpf_num_possible_cpus": (_I, []),
    "libbpf_major_version": (_U, []),
    "libbpf_minor_version": (_U, []),
    "bpf_object__open_file": (_P, [_S, _P]),
    "bpf_object__open_mem": (_P, [_S, c.c_size_t, _P]),
    "bpf_object__load": (_I, [_P]),
    "bpf_object__close": (None, [_P]),
    "bpf_object__find_map_by_name": (_P, [_P, _S]),
    "bpf_object__next_map": (_P, [_P, _P]),
    "bpf_object__next_program": (_P, [_P, _P]),
    "bpf_map__fd": (_I, [_P]),
    "bpf_map__name": (_S, [_P]),
    "bpf_map__type": (_U, [_P]),
    "bpf_map__key_size": (_U, [_P]),
    "bpf_map__value_size": (_U, [_P]),
    "bpf_map__max_entries": (_U, [_P]),
    "bpf_map__set_max_entries": (_I, [_P, _U]),
    "bpf_map__set_autocreate": (_I, [_P, c.c_bool]),
    "bpf_map__reuse_fd": (_I, [_P, _I]),
    "bpf_map__initial_value": (_P, [_P, c.POINTER(c.c_size_t)]),
    "bpf_program__name": (_S, [_P]),
    "bpf_program__section_name": (_S, [_P]),
    "bpf_program__set_autoload": (_I, [_P, c.c_bool]),
    "bpf_program__fd": (_I, [_P]),
    "bpf_program__attach": (_P, [_P]),
    "bpf_program__attach_iter": (_P, [_P, _P]),
    "bpf_program__attach_perf_event": (_P, [_P, _I]),
    "bpf_program__attach_uprobe": (_P, [_P, c.c_bool, _I, _S, c.c_size_t]),
    "bpf_link__fd": (_I, [_P]),
    "bpf_link__destroy": (_I, [_P]),
    "bpf_iter_create": (_I, [_I]),
    "bpf_enable_stats": (_I, [_I]),
    "bpf_prog_get_next_id": (_I, [_U, c.POINTER(_U)]),
    "bpf_obj_get_info_by_fd": (_I, [_I, _P, c.POINTER(_U)]),
    "bpf_map_lookup_elem": (_I, [_I, _P, _P]),
    "bpf_map_lookup_and_delete_elem": (_I, [_I, _P, _P]),
    "bpf_map_update_elem": (_I, [_I, _P, _P, c.c_uint64]),
    "bpf_map_delete_elem": (_I, [_I, _P]),
    "bpf_map_get_next_key": (_I, [_I, _P, _P]),
    "bpf_map_lookup_batch": (_I, [_I, _P, _P, _P, _P, c.POINTER(_U), _P]),
    "btf__load_vmlinux_btf": (_P, []),
    "btf__free": (None, [_P]),
    "btf__find_by_name_kind": (_I, [_P, _S, _U]),
    "btf__type_by_id": (_P, [_P, _U]),
    "btf__name_by_offset": (_S, [_P, _U]),
}

_PRINT = c.CFUNCTYPE(c.c_int, c.c_int, c.c_char_p, c.c_void_p)


@cache
def lib() -> c.CDLL:
    """The loaded library. Raises KernelLacks where there is none, or only one older than 1.0."""
    candidates = [os.environ.get("HUATUO_LIBBPF"), ctypes.util.find_library("bpf"), _from_pypi()]
    found = [name for name in candidates if name]
    library = next((opened for opened in map(_open, found) if opened is not None), None)
    if library is None:
        seen = f"{', '.join(found)} is older than 1.0" if found else "libbpf is not installed"
        raise KernelLacks(
            f"{seen}: BPF probes cannot run; install libbpf1, or `pip install --no-deps pylibbpf`"
        )
    for function, (result, arguments) in _SIGNATURES.items():
        bound = getattr(library, function)
        bound.restype, bound.argtypes = result, arguments
    library.libbpf_set_print.argtypes = [_PRINT]
    library.libbpf_set_print.restype = c.c_void_p
    library.libbpf_set_print(_print)
    return library


def _open(name: str) -> c.CDLL | None:
    """The library if it can be used: 1.0 made all of libbpf's interfaces what they are now."""
    try:
        library = c.CDLL(name, use_errno=True)
    except OSError:
        return None
    return library if hasattr(library, "libbpf_major_version") else None


def _from_pypi() -> str | None:
    """Where the distribution's libbpf is too old (Ubuntu 22.04): the one inside a PyPI package.

    Its extension module carries a whole libbpf and exports it; the module is not imported.
    """
    spec = importlib.util.find_spec("pylibbpf")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for library in Path(place).glob("pylibbpf.*.so"):
            return str(library)
    return None


def version() -> str:
    """For example "1.1"."""
    return f"{lib().libbpf_major_version()}.{lib().libbpf_minor_version()}"


def check(result: int | None, what: str) -> int:
    """`result` if it is not an error; otherwise OSError with libbpf's errno and `what`."""
    if result is None:
        code = c.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")
    return result


class _Said(threading.local):
    """libbpf calls us in the thread that called it."""

    def __init__(self) -> None:
        self.lines: list[str] = []


_said = _Said()
_vsnprintf = c.CDLL(None).vsnprintf
_vsnprintf.argtypes = [c.c_char_p, c.c_size_t, c.c_char_p, c.c_void_p]
_WARNING = 0
_LONGEST = 64 * 1024


def _on_message(level: int, template: bytes, arguments: int) -> int:
    if level == _WARNING:
        buffer = c.create_string_buffer(_LONGEST)
        _vsnprintf(buffer, _LONGEST, template, arguments)
        _said.lines.extend(buffer.value.decode(errors="replace").splitlines())
    return 0


_print = _PRINT(_on_message)  # kept alive: libbpf holds the pointer


@contextmanager
def messages() -> Iterator[list[str]]:
    """Collect libbpf's warnings (with the verifier's log) while the block runs."""
    collected: list[str] = []
    _said.lines = collected
    try:
        yield collected
    finally:
        _said.lines = []
