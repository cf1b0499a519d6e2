"""Which sets of labels satisfy the matchers of a query.

Expressions are RE2's, in which matching takes time linear in the text whatever the expression: a
client of the API cannot hang the agent. They are tried on distinct words only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import re2

from huatuo.errors import BadQuery
from huatuo.store.profile.labels import LabelTable
from huatuo.store.profiles import Matcher

__all__ = ["Selector"]

_LONGEST = 1000  # characters of an expression
_OPTIONS = re2.Options()
_OPTIONS.max_mem = (
    1 << 16
)  # of the compiled expression; at worst 0.5 ms for a word of 64 characters
_OPTIONS.dot_nl = True  # as Prometheus has it
_OPTIONS.log_errors = False


class Selector:
    """Raises BadQuery while it is built."""

    def __init__(self, matchers: Sequence[Matcher]) -> None:
        self._tests = [(matcher.name, _test(matcher)) for matcher in matchers]
        self._known: list[dict[str, bool]] = [{} for _ in matchers]

    def sets(self, table: LabelTable) -> npt.NDArray[np.bool_]:
        """bool (table.size,)."""
        mask = np.ones(table.size, np.bool_)
        for (name, test), known in zip(self._tests, self._known, strict=True):
            words, codes = table.column(name)
            for word in words:
                if word not in known:
                    known[word] = test(word)
            mask &= np.array([known[word] for word in words], np.bool_)[codes]
        return mask


def _test(matcher: Matcher) -> Callable[[str], bool]:
    name, op, wanted = matcher
    if op == "=":
        return lambda word: word == wanted
    if op == "!=":
        return lambda word: word != wanted
    if op not in ("=~", "!~"):
        raise BadQuery(f'{name}{op}"{wanted}": the operators are =, !=, =~ and !~')
    if len(wanted) > _LONGEST:
        raise BadQuery(f"{name}{op}…: the expression is longer than {_LONGEST} characters")
    try:
        expression = re2.compile(wanted, _OPTIONS)
    except (re2.error, UnicodeError) as error:
        why = error.args[0].decode() if isinstance(error, re2.error) else str(error)
        raise BadQuery(f'{name}{op}"{wanted}": {why}') from error
    positive = op == "=~"
    return lambda word: (expression.fullmatch(word) is not None) == positive
