"""Questions that hang do not keep others, nor who asks, waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from unittest.mock import patch

import pytest

from huatuo.kernel import questions
from huatuo.kernel.questions import Questions


@pytest.fixture(name="dead")
def dead_server() -> Iterator[threading.Event]:
    """Set when the dead come back."""
    event = threading.Event()
    yield event
    event.set()


def ask(asked: Questions[int], paths: list[str], seconds: float = 1.0) -> None:
    """Again and again, as collecting does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        asked.ask(paths, 0.05)


def test_answers_and_errors_by_path() -> None:
    def question(path: str) -> int:
        if path == "refused":
            raise PermissionError(13, "refused")
        if path == "impossible":
            raise ValueError("embedded null byte")
        return len(path)

    asked = Questions(question)
    asked.ask(["one", "three", "refused", "impossible"], 5)
    assert (asked.answers["one"], asked.answers["three"]) == (3, 5)
    assert isinstance(asked.answers["refused"], PermissionError)
    assert isinstance(asked.answers["impossible"], OSError)
    asked.ask(["one"], 5)
    assert asked.answers.keys() == {"one"}, "what is not asked any more is forgotten"


def test_one_that_hangs_is_named_and_the_others_answer(dead: threading.Event) -> None:
    def question(path: str) -> int:
        if path == "dead":
            dead.wait(30)
        return len(path)

    with patch.object(questions, "_HANGS_SECONDS", 0.2):
        asked = Questions(question)
        began = time.monotonic()
        asked.ask(["a", "dead", "z"], 0.05)
        assert time.monotonic() - began < 0.2, "who asks waits as long as it said"
        ask(asked, ["a", "dead", "z"])
        assert asked.hanging.keys() == {"dead"}
        assert asked.answers == {"a": 1, "z": 1}
        dead.set()
        ask(asked, ["a", "dead", "z"])
        assert not asked.hanging
        assert asked.answers == {"a": 1, "dead": 4, "z": 1}


def test_threads_that_hang_are_few(dead: threading.Event) -> None:
    def question(_: str) -> int:
        dead.wait(30)
        return 0

    with patch.object(questions, "_HANGS_SECONDS", 0.05):
        asked = Questions(question)
        before = threading.active_count()
        ask(asked, [f"dead {number}" for number in range(20)], 2)
        assert len(asked.hanging) == 4
        assert threading.active_count() - before <= 5
