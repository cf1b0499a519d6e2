"""Regular expressions of users: RE2's, in which matching takes time linear in the text whatever the
expression. Nobody can hang the agent with one."""

from __future__ import annotations

from typing import Protocol

import re2

__all__ = ["Expression", "compiled"]

_LONGEST = 1000  # characters
_OPTIONS = re2.Options()
_OPTIONS.max_mem = 1 << 16  # compiled; at worst 0.5 ms for a text of 64 characters
_OPTIONS.dot_nl = True  # as Prometheus has it
_OPTIONS.log_errors = False


class Expression(Protocol):
    def fullmatch(self, text: str) -> object | None: ...

    def search(self, text: str) -> object | None: ...


def compiled(text: str) -> Expression:
    """Raises ValueError with the reason, in words."""
    if len(text) > _LONGEST:
        raise ValueError(f"the expression is longer than {_LONGEST} characters")
    try:
        found: Expression = re2.compile(text, _OPTIONS)
    except (re2.error, UnicodeError) as error:
        why = error.args[0].decode() if isinstance(error, re2.error) else str(error)
        raise ValueError(why) from error
    return found
