"""Rust's names as written in the source: the v0 scheme, and the older one that looks like C++.

Hashes and crate disambiguators are left out, as rustc's own backtraces do.

Sources: the rustc book, "v0 Symbol Format" (rust_v0.py); rustc's legacy mangling: _ZN, parts with
their lengths, the last being a hash, and $-escapes for what a linker does not take.

Used in worker processes.
"""

from __future__ import annotations

import re

from huatuo.enrich.symbols.rust_v0 import demangle_v0

__all__ = ["demangle_rust"]

_LONGEST = 8192
_HASH = re.compile(r"h[0-9a-f]{16}")
_PART = re.compile(r"[1-9]\d{0,4}")
_MODULE = re.compile(r"\.llvm\.[0-9A-F@]+")
_ESCAPE = re.compile(r"\$(SP|BP|RF|LT|GT|LP|RP|C|u[0-9a-f]{1,6})\$|\.\.?")
_ESCAPES = {"SP": "@", "BP": "*", "RF": "&", "LT": "<", "GT": ">", "LP": "(", "RP": ")", "C": ","}


def demangle_rust(name: str) -> str | None:
    """`_RNvCs1234_7mycrate3foo` → `mycrate::foo`; None if it is no name of Rust's."""
    if len(name) > _LONGEST:
        return None
    if name.startswith("_R"):
        stem, dot, rest = name.partition(".")
        found = demangle_v0(stem)
        return None if found is None else found + _suffix(dot + rest)
    return _legacy(name) if name.startswith("_ZN") else None


def _legacy(name: str) -> str | None:
    parts: list[str] = []
    at = 3
    while (digits := _PART.match(name, at)) is not None:
        at = digits.end() + int(digits[0])
        parts.append(name[digits.end() : at])
    if at > len(name) or name[at : at + 1] != "E" or len(parts) < 2:
        return None
    if not _HASH.fullmatch(parts[-1]):
        return None
    rest = name[at + 1 :]
    return "::".join(_unescaped(part) for part in parts[:-1]) + _suffix(rest)


def _unescaped(part: str) -> str:
    def character(match: re.Match[str]) -> str:
        if match[0] == "..":
            return "::"
        if match[1] is None:
            return "."
        code = match[1]
        if code in _ESCAPES:
            return _ESCAPES[code]
        number = int(code[1:], 16)
        return chr(number) if number < 0x110000 else match[0]

    return _ESCAPE.sub(character, part.removeprefix("_") if part.startswith("_$") else part)


def _suffix(rest: str) -> str:
    """What a compiler appended (.cold, .llvm.123): the number of a module says nothing."""
    return _MODULE.sub("", rest)
