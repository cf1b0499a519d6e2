"""How Pyroscope's names of labels go with ours.

`service_name`, by which Pyroscope and Grafana group everything, is our `container`. Labels between
double underscores describe the profile's type and are not stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from huatuo.export.pyroscope_messages import LabelPair
from huatuo.model.profile import PROFILE_TYPES, ProfileType
from huatuo.serve.connect import CallError
from huatuo.serve.selector import parse_selector
from huatuo.store.profiles import Matcher, ProfileQuery

__all__ = [
    "SERVICE",
    "Selection",
    "described",
    "from_stored",
    "pairs",
    "period",
    "selection",
    "to_stored",
    "type_of",
]

SERVICE = "service_name"
_CONTAINER = "container"
_MILLISECOND = 1_000_000
_LAST_MS = (2**63 - 1) // _MILLISECOND - 1


def from_stored(name: str) -> str:
    return SERVICE if name == _CONTAINER else name


def to_stored(name: str) -> str:
    return _CONTAINER if name == SERVICE else name


def described(kind: ProfileType) -> dict[str, str]:
    """The labels that say what a profile's type is."""
    return {
        "__profile_type__": kind.id,
        "__name__": kind.family,
        "__type__": kind.sample,
        "__unit__": kind.unit,
        "__period_type__": kind.period,
        "__period_unit__": kind.period_unit,
    }


def pairs(labels: Mapping[str, str]) -> list[LabelPair]:
    return [LabelPair(name, value) for name, value in sorted(labels.items())]


def type_of(type_id: str) -> ProfileType | None:
    """None for one that is none of ours. Raises CallError for what is no type at all."""
    if type_id.count(":") not in (4, 5) or not all(type_id.split(":")[:5]):
        raise CallError(
            "invalid_argument",
            f"profile type {type_id!r}: expected name:sample:unit:period:period_unit, for example "
            f"{PROFILE_TYPES['cpu'].id}",
        )
    plain = type_id.removesuffix(":delta")
    return next((kind for kind in PROFILE_TYPES.values() if kind.id == plain), None)


def period(start_ms: int, end_ms: int, now_ns: int) -> tuple[int, int]:
    """Nanoseconds, both ends inclusive; nothing given is everything. Raises CallError."""
    if not start_ms and not end_ms:
        return 0, now_ns
    if not 0 <= start_ms <= end_ms:
        message = f"start ({start_ms} ms) must be before end ({end_ms} ms), both since 1970"
        raise CallError("invalid_argument", message)
    last_ms = min(end_ms, _LAST_MS)
    return min(start_ms, last_ms) * _MILLISECOND, (last_ms + 1) * _MILLISECOND - 1


@dataclass(frozen=True, slots=True)
class Selection:
    """What a selector selects: types, and samples of them."""

    types: Sequence[ProfileType]
    matchers: tuple[Matcher, ...]

    def query(self, kind: ProfileType, start_ns: int, end_ns: int) -> ProfileQuery:
        return ProfileQuery(kind.name, start_ns, end_ns, self.matchers)

    def and_one_of(self, name: str, values: Sequence[str]) -> Selection:
        """Only samples whose label has one of the values; all if none are given."""
        if not values:
            return self
        pattern = "|".join(map(re.escape, values))
        return replace(self, matchers=(*self.matchers, Matcher(name, "=~", pattern)))


def selection(selectors: Iterable[str]) -> Selection:
    """All of these must match. Raises SelectorError."""
    matchers = [matcher for text in selectors for matcher in parse_selector(text)]
    meta = [one for one in matchers if one.name in described(PROFILE_TYPES["cpu"])]
    stored = [one._replace(name=to_stored(one.name)) for one in matchers if one not in meta]
    types = [
        kind
        for kind in PROFILE_TYPES.values()
        if all(_holds(one, described(kind)[one.name]) for one in meta)
    ]
    return Selection(types, tuple(stored))


def _holds(matcher: Matcher, value: str) -> bool:
    if matcher.op in ("=", "!="):
        return (matcher.value == value) == (matcher.op == "=")
    return bool(re.fullmatch(matcher.value, value)) == (matcher.op == "=~")
