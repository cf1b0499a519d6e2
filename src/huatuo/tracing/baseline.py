"""What is usual at this hour of the week, learned from the store's own history of metrics.

Of every value that a trigger asks `usual` or `deviation` of: median and median absolute deviation
over the hour before and after this time of the week, in each of the last weeks that are stored.
With less than half an hour of samples, or less than some, there is no baseline and no trigger
that needs one fires.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from huatuo.store.base import Store
from huatuo.tracing.replay import snapshots
from huatuo.triggers.grammar import Node
from huatuo.triggers.values import Floats, Targets, Usual, Values, fit, moment_of

__all__ = ["LearnedBaseline"]

_HOUR_NS = 3600 * 1_000_000_000
_WEEK_NS = 168 * _HOUR_NS
_WEEKS = 5
_LEAST_SAMPLES = 30
_LEAST_NS = _HOUR_NS // 2  # from the first to the last


class LearnedBaseline:
    """`wanted`: by kind of target, as Engine.learned() has them. `refresh` reads the store; it may
    run in another thread than `usual`."""

    def __init__(self, store: Store, wanted: Mapping[str, set[Node]]) -> None:
        self._store = store
        self._wanted = wanted
        self._usual: dict[tuple[str, str], dict[str, Usual]] = {}
        self._hour = -1

    def usual(self, value: str, per: str, now_ns: int) -> Mapping[str, Usual]:  # noqa: ARG002
        return self._usual.get((value, per), {})

    @property
    def notices(self) -> list[str]:
        """A sentence for each value that is asked for and has no baseline yet."""
        return [
            f"usual size of {node}: not enough history yet"
            for per, nodes in self._wanted.items()
            for node in nodes
            if not self._usual.get((str(node), per))
        ]

    def is_due(self, now_ns: int) -> bool:
        """Once an hour, and only if anything is asked for."""
        return bool(self._wanted) and now_ns // _HOUR_NS != self._hour

    def refresh(self, now_ns: int) -> None:
        """Raises StoreError."""
        if not self.is_due(now_ns):
            return
        found: dict[tuple[str, str], dict[str, Usual]] = {}
        for per, nodes in self._wanted.items():
            for node in nodes:
                found[str(node), per] = dict(self._learn(per, node, now_ns))
        self._usual, self._hour = found, now_ns // _HOUR_NS

    def _learn(self, per: str, node: Node, now_ns: int) -> Iterator[tuple[str, Usual]]:
        targets = Targets(per)
        times: list[int] = []
        rows: list[Floats] = []
        for week in range(_WEEKS, 0, -1):
            middle = now_ns - week * _WEEK_NS
            values = Values(targets)
            values.add(node)
            past = snapshots(self._store, values.families, middle - _HOUR_NS, middle + _HOUR_NS)
            for then_ns, metrics in past:
                values.observe(moment_of(then_ns, metrics))
                times.append(then_ns)
                rows.append(values.of(node))
        if not rows or times[-1] - times[0] < _LEAST_NS:
            return
        table = np.stack([fit(row, len(targets)) for row in rows])
        for number, name in enumerate(targets.names):
            known = table[:, number][~np.isnan(table[:, number])]
            if len(known) >= _LEAST_SAMPLES:
                median = float(np.median(known))
                yield name, Usual(median, float(np.median(np.abs(known - median))), len(known))
