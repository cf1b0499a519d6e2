"""Which sets of labels satisfy the matchers of a query.

Expressions are tried on distinct words only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from huatuo.errors import BadQuery
from huatuo.model.expression import compiled
from huatuo.store.profile.labels import LabelTable
from huatuo.store.profiles import Matcher

__all__ = ["Selector"]


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
    try:
        expression = compiled(wanted)
    except ValueError as error:
        raise BadQuery(f'{name}{op}"{wanted[:60]}": {error}') from error
    positive = op == "=~"
    return lambda word: (expression.fullmatch(word) is not None) == positive
