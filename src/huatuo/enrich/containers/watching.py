"""The inventory is told of cgroups that come and go as soon as they do, on the running loop.

A container may be gone before the next interval. Changes come in groups, one for each hierarchy and
level, so the first of them is followed by a short pause.
"""

from __future__ import annotations

import asyncio
import logging

from huatuo.enrich.containers.inventory import Inventory
from huatuo.errors import KernelLacks
from huatuo.kernel.cgroup_events import CgroupEvents
from huatuo.kernel.host import Host

__all__ = ["Watching"]

log = logging.getLogger(__name__)

_TOGETHER_SECONDS = 0.04
_AFTER_FAILURE_SECONDS = 5.0


class Watching:
    """Where the kernel does not tell, nothing happens between two refreshes of the inventory."""

    def __init__(self, host: Host, inventory: Inventory) -> None:
        self._host, self._inventory = host, inventory
        self._events: CgroupEvents | None = None
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        try:
            if not CgroupEvents.unavailable(self._host):
                self._events = CgroupEvents(self._host)
                self._inventory.follow(self._events)
                self._look()
        except KernelLacks as error:
            log.info("new cgroups are found at the next interval only: %s", error)

    def close(self) -> None:
        if self._next is not None:
            self._next.cancel()
        if self._events is not None:
            asyncio.get_running_loop().remove_reader(self._events.fd)
            self._events.close()
            self._events = None

    def _on_changes(self) -> None:
        assert self._events is not None
        asyncio.get_running_loop().remove_reader(self._events.fd)
        self._look_after(_TOGETHER_SECONDS)

    def _look_after(self, seconds: float) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        assert self._events is not None
        asyncio.get_running_loop().add_reader(self._events.fd, self._on_changes)
        self._next = None
        try:
            pause = self._inventory.look_again()
        except Exception:
            log.exception("new containers are not known; trying again")
            pause = _AFTER_FAILURE_SECONDS
        if pause:
            self._look_after(pause)
