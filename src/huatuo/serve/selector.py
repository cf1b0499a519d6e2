"""Label selectors, as in Prometheus: {container="web",comm=~"py.*"}.

Expressions go to Python's `re`, which tries all ways to match; those that could take exponential
time, and what Prometheus does not know either (back references, look-around), are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from huatuo.errors import HuatuoError
from huatuo.store.profiles import Matcher

__all__ = ["EXAMPLE", "SelectorError", "parse_named", "parse_selector"]

EXAMPLE = '{container="web",comm=~"py.*"}'
_LONGEST, _MOST, _LONGEST_PATTERN, _MOST_REPEATS = 16 << 10, 64, 1024, 4

_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_METRIC = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_OPERATOR = re.compile(r"=~|!~|!=|=")
_TEXT = re.compile(r'"((?:[^"\\\n]|\\.)*)"|\'((?:[^\'\\\n]|\\.)*)\'|`([^`]*)`')
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\'\"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))"
)
_PLAIN = dict(zip("abfnrtv\\'\"", "\a\b\f\n\r\t\v\\'\"", strict=True))


class SelectorError(HuatuoError):
    """What is wrong, and where."""


def parse_selector(text: str) -> tuple[Matcher, ...]:
    """All matchers; no text at all matches everything. Raises SelectorError."""
    name, matchers = parse_named(text)
    if name:
        raise SelectorError(f"expected {{ at position 1, found {name!r}")
    return matchers


def parse_named(text: str) -> tuple[str, tuple[Matcher, ...]]:
    """NAME{…}: (name, matchers), each of which may be missing. Raises SelectorError."""
    if len(text) > _LONGEST:
        raise SelectorError(f"longer than {_LONGEST} characters")
    scanner = _Scanner(text)
    name = scanner.take(_METRIC)
    matchers = tuple(_matchers(scanner)) if scanner.take_word("{") else ()
    if not scanner.at_end:
        raise scanner.expected("the end" if name or matchers else "{")
    return name, matchers


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self._skip()

    @property
    def at_end(self) -> bool:
        return self.at == len(self.text)

    def take(self, pattern: re.Pattern[str]) -> str:
        """What matches here, and moves on; empty if nothing does."""
        found = pattern.match(self.text, self.at)
        if not found or not found[0]:
            return ""
        self.at = found.end()
        self._skip()
        return found[0]

    def take_word(self, word: str) -> bool:
        return bool(self.take(re.compile(re.escape(word))))

    def quoted(self) -> str | None:
        found = _TEXT.match(self.text, self.at)
        if not found:
            return None
        start = self.at
        self.at = found.end()
        self._skip()
        if found[3] is not None:
            return found[3]
        return _ESCAPE.sub(lambda one: _unescaped(one, start), found[1] or found[2] or "")

    def expected(self, what: str) -> SelectorError:
        rest = self.text[self.at : self.at + 20]
        found = repr(rest) if rest else "the end"
        return SelectorError(f"expected {what} at position {self.at + 1}, found {found}")

    def _skip(self) -> None:
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at


def _unescaped(found: re.Match[str], start: int) -> str:
    plain, *codes, other = found.groups()
    if plain:
        return _PLAIN[plain]
    number = int(next((code for code in codes if code), "110000"), 16)
    if other or number > 0x10FFFF:
        raise SelectorError(f"unknown escape {found[0]} in the text at position {start + 1}")
    return chr(number)


def _matchers(scanner: _Scanner) -> Iterator[Matcher]:
    for _ in range(_MOST):
        if scanner.take_word("}"):
            return
        name = scanner.quoted() if scanner.text[scanner.at : scanner.at + 1] == '"' else None
        name = name or scanner.take(_NAME)
        if not name:
            raise scanner.expected("a label's name or }")
        operator = scanner.take(_OPERATOR)
        if not operator:
            raise scanner.expected(f"=, !=, =~ or !~ after {name}")
        value = scanner.quoted()
        if value is None:
            raise scanner.expected(f"a quoted text after {name}{operator}")
        if operator in ("=~", "!~"):
            _check_pattern(name, value)
        yield Matcher(name, operator, value)
        if not scanner.take_word(","):
            if not scanner.take_word("}"):
                raise scanner.expected(", or }")
            return
    raise SelectorError(f"more than {_MOST} matchers")


# -- expressions -----------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"(?P<escape>\\.)|(?P<set>\[\^?\]?(?:[^\]\\]|\\.)*\]?)|(?P<open>\((?:\?[^):]*:?)?)"
    r"|(?P<close>\))|(?P<repeat>[*+]|\{\d*,?\d*\})|(?P<other>.)",
    re.DOTALL,
)
_SET_OPERATORS = re.compile(r"\[|--|&&|~~|\|\|")  # Python warns that they will mean something
_GROUPS = re.compile(r"\((\?(:|[imsU]+:|P?<[A-Za-z_]\w*>))?")
_FLAGS = re.compile(r"\(\?[ims]+")


def _check_pattern(name: str, pattern: str) -> None:
    if len(pattern) > _LONGEST_PATTERN:
        raise SelectorError(f"{name}: the expression is longer than {_LONGEST_PATTERN} characters")
    why = _danger(pattern)
    if why:
        raise SelectorError(f"{name}: {pattern!r} {why}")
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise SelectorError(f"{name}: {pattern!r} is no valid expression: {error}") from None


def _danger(pattern: str) -> str:
    """Why an expression is refused; empty if it is not."""
    inside = [False]  # whether a group holds a choice or a repetition, outermost first
    closed = False  # whether such a group ended just here
    repeats = 0
    for token in _TOKEN.finditer(pattern):
        kind, text = token.lastgroup, token[0]
        after_group, closed = closed, False
        if kind == "escape" and text[1].isdigit() and text[1] != "0":
            return "refers back to a group, which is not supported"
        if kind == "set" and _SET_OPERATORS.search(text, 1):
            return "has a set in a set: write [ and double signs with a backslash"
        if kind == "open":
            if not _GROUPS.fullmatch(text) and not _FLAGS.fullmatch(text):
                return "looks around, which is not supported"
            inside.append(False)
        elif kind == "close" and len(inside) > 1:
            closed = inside.pop()
            inside[-1] |= closed
        elif kind == "repeat":
            repeats += 1
            if after_group:
                return "repeats a group that holds a choice or a repetition: that can take forever"
            inside[-1] = True
        elif text in ("|", "?"):
            inside[-1] = True
    return f"has more than {_MOST_REPEATS} repetitions" if repeats > _MOST_REPEATS else ""
