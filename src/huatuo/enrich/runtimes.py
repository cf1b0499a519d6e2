"""The language a process is written in, by its program, what it has mapped, and its sections."""

from __future__ import annotations

import os
import re

from huatuo.errors import Malformed
from huatuo.kernel.elf import Elf
from huatuo.kernel.host import Host
from huatuo.kernel.process import executable
from huatuo.kernel.procfs import code_mappings
from huatuo.kernel.rooted import open_regular
from huatuo.profilers.native.golang import is_go

__all__ = ["runtime_of"]

_VERSION = r"(?P<version>\d+(?:\.\d+)?)?"
_PROGRAMS = [
    (language, re.compile(pattern))
    for language, pattern in (
        ("python", rf"(?:python|pypy){_VERSION}(?:-\w+)?"),
        ("node", "node(?:js)?"),
        ("deno", "deno"),
        ("bun", "bun"),
        ("java", "java"),
        ("ruby", rf"ruby{_VERSION}"),
        ("perl", rf"perl{_VERSION}(?:\.\d+)?"),
        ("php", rf"php(?:-fpm|-cgi)?{_VERSION}"),
        (".net", "dotnet"),
        ("erlang", r"beam(?:\.smp)?"),
        ("lua", rf"lua(?:jit)?{_VERSION}(?:\.\d+)*"),
    )
]
_LIBRARIES = [
    (language, re.compile(pattern))
    for language, pattern in (
        ("java", r"libjvm\.so"),
        ("node", r"libnode\.so.*"),
        (".net", r"lib(?:coreclr|hostfxr)\.so"),
        ("python", rf"libpython{_VERSION}.*\.so.*"),
        ("ruby", rf"libruby(?:-|\.so\.){_VERSION}.*"),
        ("php", rf"libphp{_VERSION}\.so.*"),
        ("perl", rf"libperl\.so\.{_VERSION}.*"),
    )
]


def runtime_of(host: Host, pid: int) -> str:
    """ "python 3.11", "java", "go"; "" for what is native, or cannot be told."""
    try:
        name = executable(host, pid).rpartition("/")[2]
        found = _first(_PROGRAMS, [name])
        if found:
            return found
        mapped = code_mappings(host.proc / str(pid))
    except OSError:
        return ""  # gone, a thread of the kernel, or not ours to see
    names = list(dict.fromkeys(mapping.name.rpartition("/")[2] for mapping in mapped))
    return _first(_LIBRARIES, names) or ("go" if _is_go(host, pid) else "")


def _first(known: list[tuple[str, re.Pattern[str]]], names: list[str]) -> str:
    for language, pattern in known:
        for name in names:
            if match := pattern.fullmatch(name):
                version = match.groupdict().get("version")
                return f"{language} {version}" if version else language
    return ""


def _is_go(host: Host, pid: int) -> bool:
    try:
        fd = open_regular(host.proc / str(pid) / "exe")
        try:
            with Elf(fd) as elf:
                return is_go(elf)
        finally:
            os.close(fd)
    except (OSError, Malformed):
        return False
