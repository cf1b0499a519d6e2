"""One kernel of the matrix as a test, and how its answers are compared with what is expected."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from huatuo.probes.base import discover

from . import answers, suite, vm
from .kernels import KERNELS, find

CHECK = """{"kernel": "6.1", "probes": [
    {"probe": "cpu.sched", "status": "ok", "reason": "", "hooks": ["tp_btf/sched_switch", "x"]},
    {"probe": "net.drop", "status": "unavailable", "reason": "no \\"BTF\\"", "hooks": []},
    {"probe": "task.pressure", "status": "ok", "reason": "Malformed", "hooks": ["/proc"]}]}"""
FOUND = {
    "cpu.sched": "tp_btf/sched_switch, x",
    "net.drop": 'unavailable: no "BTF"',
    "task.pressure": "ok: Malformed",
}


def test_check_and_live_tests_in_a_machine(tmp_path: Path) -> None:
    name = os.environ.get("HUATUO_MATRIX_KERNEL")
    if not name:
        known = ", ".join(kernel.name for kernel in KERNELS)
        pytest.skip(f"takes minutes: HUATUO_MATRIX_KERNEL=KERNEL allows it, with one of {known}")
    if (reason := vm.missing()) is not None:
        pytest.skip(reason)
    selection = os.environ.get("HUATUO_MATRIX_TESTS", "tests/live").split()
    outcome = suite.run(find(name), results=tmp_path, on_line=print, selection=selection)
    assert not outcome.problems, "\n\n".join([*outcome.problems, *suite.table([outcome])])


def test_every_probe_has_an_expected_answer_on_every_kernel() -> None:
    """A new one gets it with `python -m tests.matrix test --accept`; read what was written."""
    assert {kernel: set(known) for kernel, known in answers.read().items()} == {
        kernel.name: set(discover()) for kernel in KERNELS
    }


def test_the_file_is_as_it_would_be_written() -> None:
    assert answers.text(answers.read()) == answers.EXPECTED.read_text()


def test_answers_are_hooks_or_reasons() -> None:
    assert answers.answers(CHECK) == FOUND


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    table = {kernel.name: dict(FOUND) for kernel in KERNELS}
    table["5.10"]["cpu.sched"] = "other"
    del table["6.1"]["net.drop"]
    path = tmp_path / "expected.toml"
    path.write_text(answers.text(table))
    assert answers.read(path) == table
    assert path.read_text().count("task.pressure") == 1
    assert path.read_text().count("cpu.sched") == 4


def test_a_difference_shows_both_answers() -> None:
    assert answers.differences(FOUND, FOUND) == []
    (changed,) = answers.differences(FOUND, {**FOUND, "net.drop": "tp_btf/kfree_skb"})
    assert 'expected  unavailable: no "BTF"' in changed
    assert "found     tp_btf/kfree_skb" in changed
    (fresh,) = answers.differences({}, {"a.b": "c"})
    assert "not in expected.toml" in fresh


def test_an_emulators_fault_is_told_from_a_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ["console: Oops: int3: 0000 [#1] PREEMPT SMP", "console: BUG: unable to handle"]
    machines: list[str] = []

    def broken(*_: object, **__: object) -> vm.Result:
        machines.append(said[0])
        return vm.Result(vm.TROUBLE, said.pop(0), 1.0, None)

    monkeypatch.setattr(vm, "run", broken)
    outcome = suite.run(find("6.1"), results=tmp_path)
    assert len(machines) == 2
    assert "BUG: unable to handle" in "".join(outcome.problems)
    assert "huatuo check gave no answer" in outcome.problems


def test_results_of_tests_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = '<testcase classname="tests.live.test_a" name="{}" time="1">{}</testcase>'
    cases = [
        case.format("passes", ""),
        case.format("skips", '<skipped message="no disk">where</skipped>'),
        case.format("fails", '<failure message="short">assert 1 == 2</failure>'),
        case.format("errs", '<error message="short">fixture</error>'),
    ]

    def ran(*_: object, results: Path, **__: object) -> vm.Result:
        (results / "check.json").write_text(CHECK)
        (results / "junit.xml").write_text(f"<testsuites>{''.join(cases)}</testsuites>")
        return vm.Result(1, "", 60.0, 5.0)

    monkeypatch.setattr(vm, "run", ran)
    monkeypatch.setattr(answers, "read", lambda: {"6.1": FOUND})
    outcome = suite.run(find("6.1"), results=tmp_path)
    assert outcome.counts == {"passed": 1, "skipped": 1, "failed": 2}
    assert outcome.skips == {"no disk": 1}
    assert outcome.problems == [
        "tests/live/test_a.py::fails\nassert 1 == 2",
        "tests/live/test_a.py::errs\nfixture",
    ]
    assert "3 as expected" in list(suite.table([outcome]))[1]
    cases[2:] = []
    assert "pytest ended with 1" in suite.run(find("6.1"), results=tmp_path).problems
