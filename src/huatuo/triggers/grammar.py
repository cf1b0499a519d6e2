"""The language of conditions: small enough to be read aloud.

rate(cpu_usage_seconds_total{state="system"}) / rate(cpu_usage_seconds_total) > 45 %
p99(cpu_sched_wait_seconds) > 20 ms and rate(cpu_sched_wait_seconds) > 50
memory_info_anon_bytes > 2 * before(memory_info_anon_bytes, 10m)

condition   comparison, joined by `and`, `or` and parentheses
comparison  value > value, also < >= <=
value       a number with its unit (% ns us ms s m h d B KiB MiB GiB TiB); + - * / of values; and
  family{label="x", other=~"y.*", victim!=culprit}     a gauge now, series summed by target
  rate(family)                                         growth per second; of a histogram, how often
  p50(family), p90(…), p99(…), mean(…)                 of what a histogram counted since last time
  before(value, 5m)                                    its median over the time before
  usual(value)                                         its median at this hour of the week
  deviation(value)                                     from that, in robust standard deviations
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from huatuo.errors import ConfigError
from huatuo.model.expression import compiled
from huatuo.model.units import parse

__all__ = [
    "FORMS",
    "Binary",
    "Compare",
    "Condition",
    "Join",
    "Literal",
    "Matcher",
    "Node",
    "Past",
    "Select",
    "parse_condition",
    "parse_value",
]

FORMS = ("rate", "p50", "p90", "p99", "mean")
_TIMED = ("before", "grown")
_PAST = (*_TIMED, "usual", "deviation")
_DURATIONS = ("ns", "us", "ms", "s", "m", "h", "d")
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>%|ns\b|us\b|ms\b|s\b|m\b|h\b|d\b|[KMGT]iB\b|B\b)?"
    r'|(?P<name>[A-Za-z_]\w*)|(?P<text>"[^"]*")|(?P<sign>=~|!~|!=|>=|<=|[-+*/<>=(){},]))'
)
_LONGEST, _DEEPEST = 2000, 12


@dataclass(frozen=True, slots=True)
class Literal:
    value: float
    unit: str = ""

    def __str__(self) -> str:
        number = self.value * 100 if self.unit == "%" else self.value
        return f"{number:g}{' %' if self.unit == '%' else ''}"


@dataclass(frozen=True, slots=True)
class Matcher:
    """`other`: the value is the name of another label."""

    label: str
    op: str
    value: str
    other: bool = False

    def __str__(self) -> str:
        return f"{self.label}{self.op}{self.value}" if self.other else (
            f'{self.label}{self.op}"{self.value}"')  # fmt: skip


@dataclass(frozen=True, slots=True)
class Select:
    """Series of a family by `form`: "" is the value as it is."""

    family: str  # in full, with huatuo_
    matchers: tuple[Matcher, ...] = ()
    form: str = ""

    def __str__(self) -> str:
        labels = "{" + ", ".join(map(str, self.matchers)) + "}" if self.matchers else ""
        text = self.family.removeprefix("huatuo_") + labels
        return f"{self.form}({text})" if self.form else text


@dataclass(frozen=True, slots=True)
class Past:
    kind: str  # one of _PAST
    value: Node
    seconds: float = 0.0  # of before and grown

    def __str__(self) -> str:
        length = f", {self.seconds:g} s" if self.kind in _TIMED else ""
        return f"{self.kind}({self.value}{length})"


@dataclass(frozen=True, slots=True)
class Binary:
    op: str
    left: Node
    right: Node

    def __str__(self) -> str:
        sides = (f"({x})" if isinstance(x, Binary) else str(x) for x in (self.left, self.right))
        return f" {self.op} ".join(sides)


@dataclass(frozen=True, slots=True)
class Compare:
    op: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Join:
    op: str  # and · or
    left: Condition
    right: Condition


Node = Literal | Select | Past | Binary
Condition = Compare | Join


def parse_condition(text: str, where: str) -> Condition:
    """Raises ConfigError naming `where`, the place and what was expected there."""
    parser = _Parser(text, where)
    found = parser.either()
    parser.end()
    return found


def parse_value(text: str, where: str) -> Node:
    """The same for a value that is not compared."""
    parser = _Parser(text, where)
    found = parser.value()
    parser.end()
    return found


class _Parser:
    """Recursive descent; one token ahead."""

    def __init__(self, text: str, where: str) -> None:
        self.text, self.where, self.at, self.depth = text, where, 0, 0
        if len(text) > _LONGEST:
            raise ConfigError(f"{where}: longer than {_LONGEST} characters")

    def fail(self, expected: str) -> NoReturn:
        rest = self.text[self.at :].strip()[:20]
        found = f"at {rest!r}" if rest else "at its end"
        raise ConfigError(f"{self.where} = {self.text!r}: {found}: expected {expected}")

    def peek(self, kind: str) -> str:
        """The next token, if it is of this kind; "" otherwise."""
        found = _TOKEN.match(self.text, self.at)
        return (found[kind] or "") if found else ""

    def take(self, kind: str, *wanted: str) -> str:
        """The next token if it is of this kind, and one of those wanted; then it is consumed."""
        found = _TOKEN.match(self.text, self.at)
        token = (found[kind] or "") if found else ""
        if found is None or not token or (wanted and token not in wanted):
            return ""
        self.at = found.end()
        return token

    def expect(self, sign: str) -> None:
        if not self.take("sign", sign):
            self.fail(f"{sign!r}")

    def end(self) -> None:
        if self.text[self.at :].strip():
            self.fail("`and`, `or`, an operator or the end")

    def either(self) -> Condition:
        return self._joined("or", lambda: self._joined("and", self._comparison))

    def _joined(self, word: str, part: Callable[[], Condition]) -> Condition:
        found = part()
        while self.take("name", word):
            found = Join(word, found, part())
        return found

    def _nested(self) -> None:
        self.depth += 1
        if self.depth > _DEEPEST:
            self.fail("fewer parentheses")

    def _comparison(self) -> Condition:
        if self.peek("sign") == "(":  # of a condition, or of a value that is compared
            start, depth = self.at, self.depth
            try:
                return self._compare()
            except ConfigError:
                self.at, self.depth = start, depth
            self._nested()
            self.expect("(")
            found = self.either()
            self.expect(")")
            self.depth = depth
            return found
        return self._compare()

    def _compare(self) -> Compare:
        left = self.value()
        op = self.take("sign", ">", "<", ">=", "<=")
        if not op:
            self.fail("a comparison: > < >= <=")
        return Compare(op, left, self.value())

    def value(self) -> Node:
        found = self._product()
        while op := self.take("sign", "+", "-"):
            found = Binary(op, found, self._product())
        return found

    def _product(self) -> Node:
        found = self._factor()
        while op := self.take("sign", "*", "/"):
            found = Binary(op, found, self._factor())
        return found

    def _factor(self) -> Node:
        self._nested()
        if self.peek("number"):
            found: Node = self._literal()
        elif self.take("sign", "("):
            found = self.value()
            self.expect(")")
        elif name := self.take("name"):
            found = self._call(name) if self.peek("sign") == "(" else self._select(name, "")
        else:
            self.fail("a number, a family of metrics or a function")
        self.depth -= 1
        return found

    def _literal(self) -> Literal:
        unit = self.peek("unit")
        number = self.take("number")
        if unit in _DURATIONS:
            return Literal(float(parse("duration_ns_t", number + unit, self.where)) / 1e9, "s")
        if unit in _SIZES:
            return Literal(float(parse("bytes_t", number + unit, self.where)), "B")
        return Literal(float(number) * (0.01 if unit == "%" else 1.0), unit)

    def _call(self, name: str) -> Node:
        if name not in (*FORMS, *_PAST):
            self.fail(f"one of {', '.join((*FORMS, *_PAST))} before the parenthesis")
        self.expect("(")
        if name in FORMS:
            family = self.take("name")
            if not family:
                self.fail("a family of metrics")
            found: Node = self._select(family, name)
        elif name in _TIMED:
            inner = self.value()
            self.expect(",")
            length = self._literal() if self.peek("number") else self.fail("a duration: 5m")
            if length.unit != "s" or not 0 < length.value <= 86400:
                self.fail("a duration up to a day: 5m")
            found = Past(name, inner, length.value)
        else:
            found = Past(name, self.value())
        self.expect(")")
        return found

    def _select(self, name: str, form: str) -> Select:
        matchers: list[Matcher] = []
        if self.take("sign", "{"):
            while not self.take("sign", "}"):
                matchers.append(self._matcher())
                if not self.take("sign", ",") and self.peek("sign") != "}":
                    self.fail("',' or '}'")
        return Select(f"huatuo_{name.removeprefix('huatuo_')}", tuple(matchers), form)

    def _matcher(self) -> Matcher:
        label = self.take("name") or self.fail("a label")
        op = self.take("sign", "=", "!=", "=~", "!~") or self.fail("one of = != =~ !~")
        if other := (op in ("=", "!=") and self.take("name")):
            return Matcher(label, op, other, other=True)
        text = self.take("text") or self.fail('a text in quotes: "system"')
        if op in ("=~", "!~"):
            try:
                compiled(text[1:-1])
            except ValueError as error:
                raise ConfigError(f"{self.where}: {text}: {error}") from error
        return Matcher(label, op, text[1:-1])
