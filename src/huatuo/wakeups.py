"""When the agent reads its rings: soon while events are rare, together while they are many.

A ring says so with the first record after those that were read, and again when it is half full
(ring_submit in bpf/account.bpf.h). Rings of profilers say so only when they are half full.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Collection
from contextlib import suppress

__all__ = ["Wakeups"]

_LOOK_SECONDS = 1.0  # for what wakes nobody: samples, files
_SOON_SECONDS = 0.05
_TOGETHER_SECONDS = 0.5


class Wakeups:
    """`clear`, read everything, `wait`, again and again."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._fds: set[int] = set()
        self._quiet: set[int] = set()
        self._woke: set[int] = set()  # since `clear`
        self._some, self._full = asyncio.Event(), asyncio.Event()
        self._pause = _SOON_SECONDS
        self._loop: asyncio.AbstractEventLoop | None = None

    def watch(self, fds: Collection[int], quiet: Collection[int] = ()) -> None:
        """These from now on; those in `quiet` wake only when they are half full."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._epoll.fileno(), self._on_wake)
        for fd in self._fds:  # of probes that were stopped: its number may be another's by now
            with suppress(OSError):
                self._epoll.unregister(fd)
        for fd in fds:
            self._epoll.register(fd, select.EPOLLIN | select.EPOLLET)
        self._fds, self._quiet = set(fds), set(quiet)

    def _on_wake(self) -> None:
        for fd, _ in self._epoll.poll(0):
            if fd in self._woke or fd in self._quiet:
                self._full.set()
            self._woke.add(fd)
            self._some.set()

    def clear(self) -> None:
        """Forget who woke, before everything is read: who wakes meanwhile counts."""
        self._woke.clear()
        self._some.clear()
        self._full.clear()

    async def wait(self, at_most: float = _LOOK_SECONDS) -> None:
        """Until it is time to read again, in `at_most` seconds whatever happens."""
        at_most = max(at_most, _SOON_SECONDS)
        began = time.monotonic()
        await _until(self._some, min(at_most, _LOOK_SECONDS))
        waited = time.monotonic() - began
        self._pause = min(max(2 * self._pause - waited, _SOON_SECONDS), _TOGETHER_SECONDS)
        if self._some.is_set():
            left = at_most - waited
            await asyncio.sleep(min(_SOON_SECONDS, left))
            await _until(self._full, min(self._pause, left) - _SOON_SECONDS)

    def close(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()


async def _until(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
