"""System calls that may hang, such as statvfs() of a dead server: threads of its own make them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

__all__ = ["Questions"]

_HANGS_SECONDS = 2.0
_MOST_HANGING = 4  # threads that may be stuck at once; nothing more is asked then

Answer = TypeVar("Answer")


class Questions(Generic[Answer]):
    """One question about many paths: ask, and look at the answers later.

    `answers` has what came back by path, or the OSError. A path that does not answer is in
    `hanging` until it does, and is not asked again before.
    """

    def __init__(self, question: Callable[[str], Answer]) -> None:
        self.answers: dict[str, Answer | OSError] = {}
        self.hanging: dict[str, threading.Thread] = {}
        self._question = question
        self._asked: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._pending: set[str] = set()
        self._thread: threading.Thread | None = None
        self._present = ("", 0.0)  # what the thread asks about, and since when

    def ask(self, paths: Iterable[str], wait_seconds: float) -> None:
        """Ask about these paths; returns when all have answered, or after that time."""
        wanted = set(paths)
        self.answers = {path: found for path, found in self.answers.items() if path in wanted}
        self.hanging = {p: t for p, t in self.hanging.items() if t.is_alive() and p in wanted}
        for path in sorted(wanted - self._pending - self.hanging.keys()):
            self._pending.add(path)
            self._asked.put(path)
        end = time.monotonic() + wait_seconds
        while self._is_at_work() and self._pending and time.monotonic() < end:
            time.sleep(0.001)

    def _is_at_work(self) -> bool:
        """Whether there is a thread that asks, after giving up one that hangs."""
        path, since = self._present
        if self._thread is not None and path and time.monotonic() - since > _HANGS_SECONDS:
            self.hanging[path] = self._thread
            self._pending.discard(path)
            self.answers.pop(path, None)
            self._thread, self._present = None, ("", 0.0)
        if self._thread is None and self._pending and len(self.hanging) < _MOST_HANGING:
            self._thread = threading.Thread(target=self._ask_all, name="questions", daemon=True)
            self._thread.start()
        return self._thread is not None

    def _ask_all(self) -> None:
        """In the thread. One that hung finds another in its place when it comes back, and ends."""
        me = threading.current_thread()
        while self._thread is me:
            path = self._asked.get()
            self._present = (path, time.monotonic())
            found: Answer | OSError
            try:
                found = self._question(path)
            except OSError as error:
                found = error
            except ValueError as error:  # a path that cannot be one
                found = OSError(str(error))
            if self._thread is not me:
                return
            self._present = ("", 0.0)
            self.answers[path] = found
            self._pending.discard(path)
