"""Profiles sent on while they are made: each window's, a profile for each type and container."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from huatuo.export.push import Pusher
from huatuo.model.profile import Profile
from huatuo.settings import PushSettings
from huatuo.store.profiles import Matcher, ProfileQuery, ProfileStore

__all__ = ["Pushing"]

_SETTLED_NS = 15_000_000_000  # by then all samples of a moment are stored, with their names


class Pushing:
    """Call `step` in a thread: it queries, encodes and waits for the network.

    Raises ConfigError if the settings make no sense.
    """

    def __init__(self, settings: PushSettings, store: ProfileStore, host: str) -> None:
        self.pusher = Pusher(settings)
        self._store, self._host = store, host
        self._every_ns = settings.every
        self._until_ns = time.time_ns() - _SETTLED_NS

    def step(self) -> float:
        """Queue what is due, send what can be sent; seconds until it should be called again."""
        now = time.time_ns() - _SETTLED_NS
        if now - self._until_ns >= self._every_ns:
            self.pusher.offer(list(self._window(self._until_ns, now - 1)))
            self._until_ns = now
        due = (self._until_ns + self._every_ns - now) / 1e9
        return max(min(self.pusher.send(), due), 0.5)

    def _window(self, start_ns: int, end_ns: int) -> Iterator[tuple[Mapping[str, str], Profile]]:
        for name in self._store.types(start_ns, end_ns):
            found = self._store.labels(ProfileQuery(name, start_ns, end_ns))
            for container in found.get("container", [""]):
                only = (Matcher("container", "=", container),)
                profile = self._store.merge(ProfileQuery(name, start_ns, end_ns, only))
                yield {"container": container, "host": self._host}, profile

    def close(self) -> None:
        self.pusher.close()
