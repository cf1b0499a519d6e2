"""Work that a probe does again and again, in a thread of its own: looking at all tasks, windows."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from huatuo.errors import HuatuoError

__all__ = ["Periodic"]

log = logging.getLogger(__name__)


class Periodic:
    """Calls `work` every `pause()` seconds until `stop`; what fails once is tried again.

    `seconds` is the thread's CPU time so far.
    """

    def __init__(self, name: str, work: Callable[[], None], pause: Callable[[], float]) -> None:
        self.seconds = 0.0
        self._name, self._work, self._pause = name, work, pause
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns when the work has ended."""
        self._ending.set()
        self._thread.join()

    def sleep(self, seconds: float) -> bool:
        """For use within the work; whether it is to end."""
        return self._ending.wait(seconds)

    def _run(self) -> None:
        while not self._ending.wait(self._pause()):
            try:
                self._work()
            except (HuatuoError, OSError) as error:
                log.debug("%s: failed this time: %s", self._name, error)
            self.seconds = time.thread_time()
