"""The test of one kernel: `huatuo check` beside its expected answers, then the live tests."""

from __future__ import annotations

import re
import resource
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
MEMORY = "1G"  # some tests take all of it
HANG_SECONDS = 240  # from then on pytest shows where a test hangs
# Patching a tracepoint's jump while another CPU runs over it: qemu 7.2 may still run the breakpoint
# that the kernel has already taken away (seen once in about 15 machines; never on hardware).
EMULATORS_FAULT = re.compile(r"int3: 0000 \[#1\]")
ATTEMPTS = 3
MARKS = {"failure": "failed", "error": "failed", "skipped": "skipped"}
# Plugins of pytest that no live test uses would take half of the start.
# --config: what the host's own agent is told does not matter here.
SCRIPT = """
export HUATUO_DISPOSABLE_HOST=1 PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
{python} -m huatuo check --json --config /dev/null > $HUATUO_RESULTS/check.json || exit 90
exec {python} -m pytest {selection} -m live -v --tb=short --no-header --no-summary \
    -p no:cacheprovider -o faulthandler_timeout={hang} --junitxml=$HUATUO_RESULTS/junit.xml
"""


@dataclass(slots=True)
class Outcome:
    """What one kernel did. `problems` holds a paragraph for each thing that is not as it should."""

    kernel: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0  # of the emulator; says more where the machine is busy
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
    accept: bool = False,
) -> Outcome:
    """One machine for both parts; what they wrote is kept in `results` (build/matrix/KERNEL).

    With `accept` what check says becomes what is expected.
    """
    results = results or RESULTS / kernel.name
    results.mkdir(parents=True, exist_ok=True)
    for old in ("check.json", "junit.xml"):
        (results / old).unlink(missing_ok=True)
    before = _cpu_seconds()
    script = SCRIPT.format(
        python=shlex.quote(sys.executable), selection=shlex.join(selection), hang=HANG_SECONDS
    )
    for _ in range(ATTEMPTS):
        result = vm.run(
            kernel,
            ["sh", "-c", script],
            results=results,
            memory=MEMORY,
            timeout_seconds=TIMEOUT_SECONDS,
            on_line=on_line,
        )
        if result.returncode != vm.TROUBLE or not EMULATORS_FAULT.search(result.output):
            break
    (results / "output").write_text(result.output)
    outcome = Outcome(kernel.name, result.seconds, _cpu_seconds() - before)
    _judge_check(outcome, results / "check.json", accept=accept)
    _judge_tests(outcome, results / "junit.xml", result)
    return outcome


def table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """One line per kernel."""
    numbers = ("passed", "failed", "skipped", "seconds", "cpu s")
    yield f"{'kernel':8}{'check':14}" + "".join(f"{name:>9}" for name in numbers)
    for each in outcomes:
        cells = [*(each.counts[name] for name in numbers[:3]), each.seconds, each.cpu_seconds]
        yield f"{each.kernel:8}{each.check:14}" + "".join(f"{cell:9.0f}" for cell in cells)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _judge_check(outcome: Outcome, path: Path, *, accept: bool) -> None:
    said = path.read_text() if path.exists() else ""
    if not said.strip():
        outcome.problems.append("huatuo check gave no answer")
        return
    outcome.found = answers.answers(said)
    table = answers.read()
    if accept:
        table = {**table, outcome.kernel: outcome.found}
        answers.EXPECTED.write_text(answers.text(table))
    wanted = table[outcome.kernel]
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
            outcome.problems.append(f"{name}\n{(note.text or note.get('message') or '').strip()}")
    outcome.slowest.sort(reverse=True)
    if result.returncode and not outcome.counts["failed"]:
        outcome.problems.append(f"pytest ended with {result.returncode}")
    if not outcome.counts["passed"]:
        outcome.problems.append("no live test passed")
