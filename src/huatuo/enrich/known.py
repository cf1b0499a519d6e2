"""Known issues: events that somebody has looked at already are marked with the answer, or muted.

A rule is a table [[known]] of the configuration; its expressions must all be found. The first rule
that applies counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from huatuo.errors import ConfigError
from huatuo.model.event import Event
from huatuo.model.expression import Expression, compiled
from huatuo.settings import KnownIssue

__all__ = ["KnownIssues"]


class KnownIssues:
    """`counts`: (note, action) → events so far.

    Raises ConfigError for an expression that is none.
    """

    def __init__(self, rules: Sequence[KnownIssue]) -> None:
        self._rules = [_Rule(number, rule) for number, rule in enumerate(rules, 1)]
        self.counts: Counter[tuple[str, str]] = Counter()

    def judge(self, events: Iterable[Event]) -> list[Event]:
        """Without the muted ones; the others marked, where a rule says so."""
        if not self._rules:
            return list(events)
        kept = []
        for event in events:
            rule = next((rule.issue for rule in self._rules if rule.applies(event)), None)
            if rule is not None:
                self.counts[rule.note, rule.action] += 1
                event = msgspec.structs.replace(event, known=rule.note)
            if rule is None or rule.action != "mute":
                kept.append(event)
        return kept


class _Rule:
    def __init__(self, number: int, issue: KnownIssue) -> None:
        self.issue = issue
        self._title = _expression(number, "title", issue.title)
        self._stack = _expression(number, "stack", issue.stack)
        self._container = _expression(number, "container", issue.container)

    def applies(self, event: Event) -> bool:
        if self.issue.probe and self.issue.probe != event.probe:
            return False
        if self._title and not self._title.search(event.title):
            return False
        if self._container:
            owner = event.container.full_name if event.container else ""
            if not self._container.fullmatch(owner):
                return False
        stack = self._stack
        return stack is None or any(stack.search(frame) for frame in event.stack)


def _expression(number: int, name: str, text: str) -> Expression | None:
    try:
        return compiled(text) if text else None
    except ValueError as error:
        raise ConfigError(f'[[known]] number {number}: {name} = "{text}": {error}') from error
