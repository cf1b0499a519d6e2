"""Query parameters: declared once, then parsed, checked and described from the declaration."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from huatuo.serve.refusal import Refusal, bad_parameter

__all__ = ["Param", "Query", "parse_time", "rfc3339"]

_RELATIVE = re.compile(r"([-+])([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]+)?)(ms|s|m|h|d|w|)")
_UNIX = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_FRACTION = re.compile(r"(.*:[0-9]{2})\.([0-9]{1,9})(.*)")
_TIME_EXAMPLE = "-1h or 2026-05-01T12:00:00Z"


def rfc3339(time_ns: int) -> str:
    """UTC with nanoseconds: 2026-05-01T12:00:00.123456789Z."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + (
        f".{nanoseconds:09d}Z"
    )


def parse_time(name: str, value: str, now_ns: int) -> int:
    """RFC 3339, seconds since 1970, `now`, or relative to now (-1h) → UTC ns."""
    if value == "now":
        return now_ns
    if found := _RELATIVE.fullmatch(value):
        sign, number, unit = found.groups()
        distance = int(float(number) * _SECONDS[unit] * 1e9)
        return max(0, now_ns - distance if sign == "-" else now_ns + distance)
    if _UNIX.fullmatch(value):
        return _in_range(name, value, int(Decimal(value) * 10**9))
    fraction_ns = 0
    text = value.replace(" ", "+")  # a plus sign that was not escaped in the URL
    if found := _FRACTION.fullmatch(text):
        text = found[1] + found[3]
        fraction_ns = int(found[2].ljust(9, "0"))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise bad_parameter(name, value, "not a time", _TIME_EXAMPLE) from None
    if moment.tzinfo is None:
        raise bad_parameter(name, value, "a time needs its zone", "2026-05-01T12:00:00Z")
    return _in_range(name, value, int(moment.timestamp()) * 1_000_000_000 + fraction_ns)


def _in_range(name: str, value: str, time_ns: int) -> int:
    if 0 <= time_ns < 2**63:
        return time_ns
    raise bad_parameter(name, value, "out of range", _TIME_EXAMPLE)


@dataclass(frozen=True, slots=True)
class Param:
    """One query parameter. A name ending in `.*` stands for all with that prefix."""

    name: str
    help: str
    kind: str = "text"  # text · time · duration · integer · choice
    default: str = ""
    example: str = ""
    choices: tuple[str, ...] = ()
    minimum: int = 0
    maximum: int = 2**63 - 1


class Query:
    """The checked parameters of one request. Raises Refusal (400) while it is built."""

    def __init__(
        self, params: Sequence[Param], given: Sequence[tuple[str, str]], now_ns: int
    ) -> None:
        self.now_ns = now_ns
        self._params = {param.name: param for param in params}
        self._given: dict[str, str] = {}
        for name, value in given:
            self._declared(name, value)
            self._given[name] = value
        for param in params:
            if not param.name.endswith(".*"):
                self._check(param)

    def _declared(self, name: str, value: str) -> None:
        prefix, dot, rest = name.partition(".")
        if name in self._params or (dot and rest and f"{prefix}.*" in self._params):
            return
        near = difflib.get_close_matches(name, self._params, 1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(self._params)}"
        raise Refusal(400, "unknown_parameter", f"unknown parameter {name}={value!r}", hint)

    def _check(self, param: Param) -> None:
        checks: Mapping[str, Callable[[str], object]] = {
            "time": self.time_ns,
            "duration": self.duration_ns,
            "integer": self.integer,
            "choice": self.choice,
        }
        if param.kind in checks and (self._given.get(param.name) or param.default):
            checks[param.kind](param.name)

    def has(self, name: str) -> bool:
        return name in self._given

    def text(self, name: str) -> str:
        return self._given.get(name, self._params[name].default)

    def integer(self, name: str) -> int:
        value, param = self.text(name), self._params[name]
        try:
            number = int(value)
        except ValueError:
            example = param.example or param.default
            raise bad_parameter(name, value, "not a whole number", example) from None
        if not param.minimum <= number <= param.maximum:
            why = f"must be between {param.minimum} and {param.maximum}"
            raise bad_parameter(name, value, why, param.example or param.default)
        return number

    def choice(self, name: str) -> str:
        value, param = self.text(name), self._params[name]
        if value not in param.choices:
            why = f"must be one of {', '.join(choice or '(empty)' for choice in param.choices)}"
            raise bad_parameter(name, value, why, param.default or param.choices[0])
        return value

    def time_ns(self, name: str) -> int:
        return parse_time(name, self.text(name), self.now_ns)

    def duration_ns(self, name: str) -> int:
        """With a unit or in seconds; 0 if it was not given and has no default."""
        value = self.text(name)
        if not value:
            return 0
        found = _DURATION.fullmatch(value)
        length_ns = round(float(found[1]) * _SECONDS[found[2] or "s"] * 1e9) if found else 0
        if not 0 < length_ns < 2**63:
            raise bad_parameter(name, value, "not a duration", "15s")
        return length_ns

    def period_ns(self) -> tuple[int, int]:
        """(start, end); raises Refusal when they are in the wrong order."""
        start, end = self.time_ns("start"), self.time_ns("end")
        if start >= end:
            raise bad_parameter("start", self.text("start"), "must be before end", _TIME_EXAMPLE)
        return start, end

    def prefixed(self, prefix: str) -> dict[str, str]:
        """{"X": value} of all `prefix.X`."""
        head = prefix + "."
        return {k.removeprefix(head): v for k, v in self._given.items() if k.startswith(head)}
