"""How soon and how often rings are read, with eventfds in their place: each write is an edge."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from huatuo.wakeups import Wakeups


@pytest.fixture
def ring() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    yield fd
    os.close(fd)


def _read(fd: int) -> None:
    with suppress(BlockingIOError):
        os.eventfd_read(fd)


def test_what_happens_rarely_is_read_soon(ring: int) -> None:
    async def run() -> list[float]:
        wakeups, took = Wakeups(), []
        wakeups.watch([ring])
        for _ in range(3):
            wakeups.clear()
            _read(ring)
            asyncio.get_running_loop().call_later(0.6, os.eventfd_write, ring, 1)
            began = time.monotonic() + 0.6
            await wakeups.wait()
            took.append(time.monotonic() - began)
        wakeups.close()
        return took

    assert min(asyncio.run(run())) < 0.25, "half of what reading by the clock would take"


def test_what_happens_all_the_time_is_read_together(ring: int) -> None:
    async def run() -> int:
        wakeups, reads = Wakeups(), 0
        wakeups.watch([ring])
        end = time.monotonic() + 3
        while time.monotonic() < end:
            wakeups.clear()
            _read(ring)
            reads += 1
            asyncio.get_running_loop().call_later(0.001, os.eventfd_write, ring, 1)
            await wakeups.wait()
        wakeups.close()
        return reads

    assert 2 <= asyncio.run(run()) <= 12, "about two a second, after the first few"


@pytest.mark.parametrize("quiet", [False, True])
def test_a_ring_that_is_half_full_does_not_wait(ring: int, quiet: bool) -> None:
    """Two edges are the first record and the half-full ring; of a quiet one the first is that."""

    async def run() -> float:
        wakeups = Wakeups()
        wakeups.watch([ring], [ring] if quiet else [])
        for _ in range(6):  # until it reads together
            wakeups.clear()
            _read(ring)
            os.eventfd_write(ring, 1)
            await wakeups.wait()
        wakeups.clear()
        _read(ring)
        began = time.monotonic()
        os.eventfd_write(ring, 1)
        if not quiet:
            asyncio.get_running_loop().call_later(0.1, os.eventfd_write, ring, 1)
        await wakeups.wait()
        took = time.monotonic() - began
        wakeups.close()
        return took

    assert asyncio.run(run()) < 0.4


def test_somebody_may_need_to_be_read_in_time(ring: int) -> None:
    """A window must end when it should, in quiet and among others' events."""

    async def run() -> list[float]:
        wakeups, took = Wakeups(), []
        wakeups.watch([ring])
        for busy in (False, False, *[True] * 6):
            wakeups.clear()
            _read(ring)
            if busy:
                os.eventfd_write(ring, 1)
            began = time.monotonic()
            await wakeups.wait(0.2)
            took.append(time.monotonic() - began)
        wakeups.close()
        return took

    took = asyncio.run(run())
    assert min(took[:2]) >= 0.19
    assert min(took[-3:]) >= 0.19, "those that come all the time are read together"
    assert min(took[:2]) < 0.35
    assert min(took[-3:]) < 0.35


def test_who_wakes_while_we_read_is_not_forgotten(ring: int) -> None:
    async def run() -> float:
        wakeups = Wakeups()
        wakeups.watch([ring])
        wakeups.clear()
        _read(ring)
        os.eventfd_write(ring, 1)
        await asyncio.sleep(0.05)  # reading takes a while; its reader callback runs meanwhile
        began = time.monotonic()
        await wakeups.wait()
        wakeups.close()
        return time.monotonic() - began

    assert asyncio.run(run()) < 0.5


def test_rings_of_stopped_probes_may_be_gone(ring: int) -> None:
    async def run() -> None:
        wakeups, other = Wakeups(), os.eventfd(0)
        wakeups.watch([ring, other])
        os.close(other)
        wakeups.watch([ring])
        os.eventfd_write(ring, 1)
        await asyncio.wait_for(wakeups.wait(), 0.9)
        wakeups.close()

    asyncio.run(run())
