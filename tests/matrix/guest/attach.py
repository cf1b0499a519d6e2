"""Runs in a guest: tries every kind of hook and every module, prints one line of JSON."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ATTEMPT_SECONDS = 3.0


def main(arguments: Sequence[str]) -> None:
    """Arguments: the object with the hooks, then names of modules."""
    answer = {
        "hooks": dict(try_hooks(Path(arguments[0]))),
        "modules": {name: try_module(name) for name in arguments[1:]},
        "controllers": Path("/sys/fs/cgroup/cgroup.controllers").read_text().split(),
    }
    print(json.dumps(answer))


def try_hooks(path: Path) -> Iterator[tuple[str, str]]:
    """Loads the object once for each program in it, so that one refusal spoils nothing else."""
    libbpf = load_libbpf()
    names = [name for name, _ in programs(libbpf, open_object(libbpf, path))]
    for wanted in names:
        handle = open_object(libbpf, path)
        chosen = None
        for name, program in programs(libbpf, handle):
            libbpf.bpf_program__set_autoload(program, name == wanted)
            chosen = program if name == wanted else chosen
        yield wanted, try_hook(libbpf, handle, chosen)
        libbpf.bpf_object__close(handle)


def try_hook(libbpf: ctypes.CDLL, handle: int, program: int | None) -> str:
    """ "ok" means attached, and the counter moved."""
    if (code := libbpf.bpf_object__load(handle)) != 0:
        return f"load: {errno.errorcode.get(-code, str(code))}"
    link = libbpf.bpf_program__attach(program)
    if not link:
        code = ctypes.get_errno()
        return f"attach: {errno.errorcode.get(code, str(code))}"
    hits = libbpf.bpf_object__find_map_fd_by_name(handle, b"hits")
    key, value = ctypes.c_uint32(0), ctypes.c_uint64(0)
    deadline = time.monotonic() + ATTEMPT_SECONDS
    while value.value == 0 and time.monotonic() < deadline:
        os.getpid()
        Path("/proc/self/stat").read_bytes()
        time.sleep(0.01)
        libbpf.bpf_map_lookup_elem(hits, ctypes.byref(key), ctypes.byref(value))
    libbpf.bpf_link__destroy(link)
    return "ok" if value.value else "never hit"


def load_libbpf() -> ctypes.CDLL:
    """The system's libbpf, silenced: its refusals are expected here."""
    libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
    pointer = ctypes.c_void_p
    for name, result, *parameters in (
        ("libbpf_set_print", pointer, pointer),
        ("bpf_object__open_file", pointer, ctypes.c_char_p, pointer),
        ("bpf_object__load", ctypes.c_int, pointer),
        ("bpf_object__close", None, pointer),
        ("bpf_object__next_program", pointer, pointer, pointer),
        ("bpf_object__find_map_fd_by_name", ctypes.c_int, pointer, ctypes.c_char_p),
        ("bpf_program__name", ctypes.c_char_p, pointer),
        ("bpf_program__set_autoload", ctypes.c_int, pointer, ctypes.c_bool),
        ("bpf_program__attach", pointer, pointer),
        ("bpf_map_lookup_elem", ctypes.c_int, ctypes.c_int, pointer, pointer),
        ("bpf_link__destroy", ctypes.c_int, pointer),
    ):
        function = getattr(libbpf, name)
        function.restype, function.argtypes = result, parameters
    libbpf.libbpf_set_print(None)
    return libbpf


def open_object(libbpf: ctypes.CDLL, path: Path) -> int:
    handle = libbpf.bpf_object__open_file(bytes(path), None)
    if not handle:
        raise OSError(ctypes.get_errno(), "libbpf cannot open the object", str(path))
    return int(handle)


def programs(libbpf: ctypes.CDLL, handle: int) -> Iterator[tuple[str, int]]:
    program = libbpf.bpf_object__next_program(handle, None)
    while program:
        yield libbpf.bpf_program__name(program).decode(), program
        program = libbpf.bpf_object__next_program(handle, program)


def try_module(name: str) -> str:
    """ "ok" if it loads, "built in" if it need not, else what modprobe says."""
    done = subprocess.run(["modprobe", name], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return done.stderr.strip().splitlines()[-1].rpartition(": ")[2].partition(" in dir")[0]
    return "ok" if Path("/sys/module", name.replace("-", "_")).exists() else "built in"


if __name__ == "__main__":
    main(sys.argv[1:])
