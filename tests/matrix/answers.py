"""What `huatuo check` says on each kernel, beside what expected.toml says it should."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from .kernels import KERNELS

__all__ = ["EXPECTED", "Answers", "Table", "answers", "differences", "read", "text"]

EXPECTED = Path(__file__).parent / "expected.toml"
HEAD = """\
# What `huatuo check` answers on the kernels of the matrix: the hooks in use, or why there are none.
# A line without a kernel holds for all of them. Written by: python -m tests.matrix test --accept
"""

Answers = Mapping[str, str]  # probe → its hooks, or "unavailable: why"
Table = Mapping[str, Answers]  # kernel → answers


def answers(check_json: str) -> Answers:
    """The answer of each probe in what `huatuo check --json` printed."""
    found = {}
    for probe in json.loads(check_json)["probes"]:
        refused = f"{probe['status']}: {probe['reason']}"
        # A probe that ran but has a reason could not be collected.
        ok = probe["status"] == "ok" and not probe["reason"]
        found[probe["probe"]] = ", ".join(probe["hooks"]) if ok else refused
    return found


def read(path: Path = EXPECTED) -> Table:
    names = [kernel.name for kernel in KERNELS]
    table: dict[str, dict[str, str]] = {name: {} for name in names}
    for *place, answer in _leaves(tomllib.loads(path.read_text()) if path.exists() else {}):
        kernels = [place.pop()] if place[-1] in names else names
        for name in kernels:
            table[name][".".join(place)] = answer
    return table


def text(table: Table) -> str:
    """The table as the file holds it: one line per probe, or one per kernel where they differ."""
    lines = []
    for probe in sorted({probe for known in table.values() for probe in known}):
        each = {kernel: known[probe] for kernel, known in table.items() if probe in known}
        if len(each) == len(KERNELS) and len(set(each.values())) == 1:
            lines.append(f"{probe} = {_quoted(next(iter(each.values())))}")
        else:
            lines += [f'{probe}."{kernel}" = {_quoted(said)}' for kernel, said in each.items()]
    return HEAD + "\n" + "".join(f"{line}\n" for line in lines)


def differences(expected: Answers, found: Answers) -> Sequence[str]:
    """One entry per probe that does not answer as expected, with both answers."""
    lines = []
    for probe in sorted({*expected, *found}):
        wanted, got = expected.get(probe), found.get(probe)
        if wanted != got:
            lines.append(
                f"{probe}\n  expected  {wanted or '(not in expected.toml)'}"
                f"\n  found     {got or '(no such probe)'}"
            )
    return lines


def _leaves(tree: Mapping[str, object], *place: str) -> Iterator[Sequence[str]]:
    for name, below in tree.items():
        if isinstance(below, Mapping):
            yield from _leaves(below, *place, name)
        else:
            yield *place, name, str(below)


def _quoted(words: str) -> str:
    return json.dumps(words, ensure_ascii=False)  # a TOML basic string is written the same way
