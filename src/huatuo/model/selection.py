"""Which containers are meant: a small language, the same wherever containers are chosen.

namespace=prod-*, qos=guaranteed or name=db|cache or label.tier!=test

rules    alternatives, joined by `or`
rule     terms that all must hold, joined by commas
term     KEY=PATTERN or KEY!=PATTERN
pattern  * stands for anything, | separates several; in quotes if there is a space or a comma in it

Rules judge containers. Systemd units, user sessions and cgroups made by hand are judged only by
rules that ask for their `kind`, the host by none: what the host itself suffers is always told.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from huatuo.errors import ConfigError
from huatuo.model.event import Container
from huatuo.model.expression import Expression, compiled

__all__ = ["EXAMPLE", "Choice", "Selection", "parse_choice", "parse_selection"]

EXAMPLE = "namespace=prod-*, qos=guaranteed or name=db"
_LONGEST, _MOST = 4000, 64  # characters, and terms of one text

_VALUES: Mapping[str, Callable[[Container], tuple[str, ...]]] = {
    "name": lambda c: (c.name, c.full_name),
    "namespace": lambda c: (c.namespace,),
    "pod": lambda c: (c.pod,),
    "workload": lambda c: (c.workload,),
    "image": lambda c: (c.image,),
    "qos": lambda c: (c.qos,),
    "type": lambda c: (c.type,),
    "runtime": lambda c: (c.runtime,),
    "kind": lambda c: (c.kind,),
    "cgroup": lambda c: (c.cgroup,),
}
_EXAMPLES = {
    "name": "name=db", "namespace": "namespace=prod-*", "pod": "pod=web-*",
    "workload": "workload=Deployment/web", "image": "image=*nginx*", "qos": "qos=guaranteed",
    "type": "type=init|sidecar", "runtime": "runtime=podman", "kind": "kind=service",
    "cgroup": "cgroup=/machine.slice/*", "label": "label.app=web",
}  # fmt: skip
_KNOWN: Mapping[str, Collection[str]] = {
    "qos": ("guaranteed", "burstable", "besteffort"),
    "type": ("normal", "init", "sidecar", "ephemeral", "pause"),
    "kind": ("container", "service", "scope", "slice", "user", "cgroup"),
}
_LOWER = (*_KNOWN, "runtime")  # Kubernetes writes Guaranteed
_TERM = re.compile(
    r"""\s*(?P<key>[\w./-]*)\s*(?P<op>!?=)\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|"""
    r"""(?P<plain>[^\s,"'=!]+))\s*"""
)
_OR = re.compile(r"or\s+")


@dataclass(frozen=True, slots=True)
class _Term:
    key: str
    label: str  # of key "label"
    is_not: bool
    pattern: Expression

    def holds(self, container: Container) -> bool:
        if self.key == "label":
            values: tuple[str, ...] = (container.labels.get(self.label, ""),)
        else:
            values = _VALUES[self.key](container)
        return any(self.pattern.fullmatch(value) for value in values) != self.is_not


@dataclass(frozen=True, slots=True)
class Selection:
    """Rules of one text; at least one."""

    rules: tuple[tuple[_Term, ...], ...]

    def matches(self, owner: Container) -> bool:
        """Whether it is one of those that are meant."""
        return any(
            self._judges(rule, owner) and all(term.holds(owner) for term in rule)
            for rule in self.rules
        )

    def judges(self, owner: Container) -> bool:
        """Whether the rules say anything of owners of this kind."""
        return any(self._judges(rule, owner) for rule in self.rules)

    def allows(self, owner: Container) -> bool:
        """As a list of what is wanted: whoever is not judged is."""
        return not self.judges(owner) or self.matches(owner)

    @staticmethod
    def _judges(rule: tuple[_Term, ...], owner: Container) -> bool:
        if owner.kind == "container":
            return True
        return owner.kind not in ("host", "rest") and any(term.key == "kind" for term in rule)

    @property
    def labels(self) -> set[str]:
        """Labels that the rules ask for."""
        return {term.label for rule in self.rules for term in rule if term.label}


@dataclass(frozen=True, slots=True)
class Choice:
    """Those that are included, all if None, without those that are excluded."""

    include: Selection | None = None
    exclude: Selection | None = None

    def __bool__(self) -> bool:
        return self.include is not None or self.exclude is not None

    def allows(self, owner: Container) -> bool:
        if self.include is not None and not self.include.allows(owner):
            return False
        return self.exclude is None or not self.exclude.matches(owner)

    @property
    def labels(self) -> set[str]:
        both = (self.include, self.exclude)
        return {label for one in both if one is not None for label in one.labels}


def parse_choice(include: str, exclude: str, where: str) -> Choice:
    """Raises ConfigError."""
    return Choice(
        parse_selection(include, f"{where} include"), parse_selection(exclude, f"{where} exclude")
    )


def parse_selection(text: str, where: str) -> Selection | None:
    """None for no rules at all. Raises ConfigError naming `where`, the nearest key and an
    example."""
    if not text.strip():
        return None
    if len(text) > _LONGEST:
        raise ConfigError(f"{where}: longer than {_LONGEST} characters")
    rules: list[list[_Term]] = [[]]
    at = 0
    while True:
        found = _TERM.match(text, at)
        if found is None:
            raise ConfigError(
                f"{where}: expected KEY=PATTERN at {text[at:].strip()[:30]!r},"
                f" for example {EXAMPLE}"
            )
        rules[-1].append(_term(found, where))
        at = found.end()
        if at == len(text):
            return Selection(tuple(map(tuple, rules)))
        if sum(map(len, rules)) >= _MOST:
            raise ConfigError(f"{where}: more than {_MOST} terms")
        if alternative := _OR.match(text, at):
            at = alternative.end()
            rules.append([])
        elif text[at] == ",":
            at += 1
        else:
            raise ConfigError(
                f"{where}: expected a comma or `or` before {text[at:][:30]!r},"
                f" for example {EXAMPLE}"
            )


def _term(found: re.Match[str], where: str) -> _Term:
    key, _, label = found["key"].partition(".")
    if (key == "label") != bool(label) or key not in (*_VALUES, "label"):
        raise _unknown(key, where)
    pattern = found["double"] or found["single"] or found["plain"] or ""
    if key in _LOWER:
        pattern = pattern.lower()
        _check_value(key, pattern, where)
    return _Term(key, label, found["op"] == "!=", _expression(pattern, f"{where}: {key}"))


def _unknown(key: str, where: str) -> ConfigError:
    near = difflib.get_close_matches(key, _EXAMPLES, n=1)
    if near:
        written = "label.NAME" if near[0] == "label" else near[0]
        hint = f"did you mean {written}? For example {_EXAMPLES[near[0]]}"
    else:
        hint = f"expected one of {', '.join(_EXAMPLES)}, for example {EXAMPLE}"
    return ConfigError(f'{where}: "{key}": unknown; {hint}')


def _check_value(key: str, pattern: str, where: str) -> None:
    """A word that no container can have would select nothing, without anybody noticing."""
    for word in pattern.split("|"):
        if key in _KNOWN and "*" not in word and word not in _KNOWN[key]:
            near = difflib.get_close_matches(word, _KNOWN[key], n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(_KNOWN[key])}"
            raise ConfigError(f"{where}: {key}={word}: unknown; {hint}")


def _expression(pattern: str, where: str) -> Expression:
    words = [".*".join(re.escape(part) for part in word.split("*")) for word in pattern.split("|")]
    try:
        return compiled("|".join(words))
    except ValueError as error:
        raise ConfigError(f'{where}="{pattern}": {error}') from error
