"""The test of one kernel: `huatuo check` beside its expected answers, then the live tests."""

from __future__ import annotations

import shlex
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import answers, vm
from .kernels import Kernel

__all__ = ["Outcome", "run", "table"]

RESULTS = vm.CHECKOUT / "build/matrix"
TIMEOUT_SECONDS = 1200.0  # of a whole machine; five minutes are usual on two quiet cores
HANG_SECONDS = 240  # from then on pytest shows where a test hangs
MARKS = {"failure": "failed", "error": "failed", "skipped": "skipped"}
# --config: what the host's own agent is told does not matter here.
SCRIPT = """
{python} -m huatuo check --json --config /dev/null > $HUATUO_RESULTS/check.json || exit 90
exec {python} -m pytest {selection} -m live -v --tb=short --no-header --no-summary \
    -p no:cacheprovider -o faulthandler_timeout={hang} --junitxml=$HUATUO_RESULTS/junit.xml
"""


@dataclass(slots=True)
class Outcome:
    """What one kernel did. `problems` holds a paragraph for each thing that is not as it should."""

    kernel: str
    seconds: float = 0.0
    found: answers.Answers = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    skips: Counter[str] = field(default_factory=Counter)
    slowest: list[tuple[float, str]] = field(default_factory=list)
    check: str = "no answer"
    problems: list[str] = field(default_factory=list)


def run(
    kernel: Kernel,
    *,
    results: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    selection: Sequence[str] = ("tests/live",),
    expected: answers.Answers | None = None,
) -> Outcome:
    """One machine for both parts; what they wrote is kept in `results` (build/matrix/KERNEL)."""
    results = results or RESULTS / kernel.name
    results.mkdir(parents=True, exist_ok=True)
    for old in ("check.json", "junit.xml"):
        (results / old).unlink(missing_ok=True)
    script = SCRIPT.format(
        python=shlex.quote(sys.executable), selection=shlex.join(selection), hang=HANG_SECONDS
    )
    result = vm.run(
        kernel,
        ["sh", "-c", script],
        results=results,
        timeout_seconds=TIMEOUT_SECONDS,
        on_line=on_line,
    )
    (results / "output").write_text(result.output)
    outcome = Outcome(kernel.name, result.seconds)
    wanted = answers.read()[kernel.name] if expected is None else expected
    _judge_check(outcome, results / "check.json", wanted)
    _judge_tests(outcome, results / "junit.xml", result)
    return outcome


def table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """One line per kernel."""
    yield f"{'kernel':8}{'check':14}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}"
    for each in outcomes:
        numbers = f"{each.counts['passed']:8}{each.counts['failed']:8}{each.counts['skipped']:9}"
        yield f"{each.kernel:8}{each.check:14}{numbers}{each.seconds:9.0f}"


def _judge_check(outcome: Outcome, path: Path, wanted: answers.Answers) -> None:
    said = path.read_text() if path.exists() else ""
    if not said.strip():
        outcome.problems.append("huatuo check gave no answer")
        return
    outcome.found = answers.answers(said)
    different = answers.differences(wanted, outcome.found)
    outcome.check = f"{len(different)} differ" if different else f"{len(outcome.found)} as expected"
    outcome.problems += [f"huatuo check: {each}" for each in different]


def _judge_tests(outcome: Outcome, path: Path, result: vm.Result) -> None:
    if not path.exists():
        end = "\n".join(result.output.splitlines()[-vm.CONSOLE_LINES :])
        outcome.problems.append(f"the live tests did not end ({result.returncode}):\n{end}")
        return
    for case in ElementTree.parse(path).iter("testcase"):
        name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        outcome.slowest.append((float(case.get("time", 0)), name))
        note = next((child for child in case if child.tag in MARKS), None)
        mark = "passed" if note is None else MARKS[note.tag]
        outcome.counts[mark] += 1
        if note is not None and mark == "skipped":
            outcome.skips[note.get("message", "")] += 1
        elif note is not None:
            outcome.problems.append(f"{name}\n{(note.text or note.get('message', '')).strip()}")
    outcome.slowest.sort(reverse=True)
    if result.returncode and not outcome.counts["failed"]:
        outcome.problems.append(f"pytest ended with {result.returncode}")
    if not outcome.counts["passed"]:
        outcome.problems.append("no live test passed")
