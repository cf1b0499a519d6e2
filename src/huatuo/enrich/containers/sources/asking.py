"""Asks the daemons, on the running loop, and tells the inventory of what is new."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence

from huatuo.enrich.containers.base import Details, Mark, merged
from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.containers.sources.base import Source, SourceAbsent, SourceError

__all__ = ["Answers", "Asking"]

log = logging.getLogger(__name__)

_EVERY_SECONDS = 60.0  # labels of a pod may be changed while it runs
_TOGETHER_SECONDS = 0.3  # containers of a pod come together; a runtime lists them a moment later
_AGAIN_SECONDS = 2.0  # a container that is not known by then: its runtime was slow
_DUTY = 20  # no more than a twentieth of the time is spent in asking


class Answers:
    """What the daemons said, as one of the inventory's runtimes."""

    def __init__(self) -> None:
        self.known: Mapping[str, Details] = {}
        self._none: Mapping[str, Mark] = {}

    def recognise(self, name: str, parent: str) -> Mark | None:  # noqa: ARG002
        return None

    def declared(self) -> Mapping[str, Mark]:
        return self._none

    def describe(self, mark: Mark) -> Details | None:
        return self.known.get(mark.key)


class Asking:
    """`problems`: what each source that does not answer said last, by its name."""

    def __init__(self, sources: Sequence[Source], answers: Answers, inventory: Inventory) -> None:
        self._sources, self._answers, self._inventory = sources, answers, inventory
        self._said: dict[str, Mapping[str, Details]] = {}
        self._wanted = asyncio.Event()
        self.problems: dict[str, str] = {}

    async def run(self) -> None:
        """Until cancelled."""
        if not self._sources:
            return
        self._inventory.tell_of_containers(self._wanted.set)
        try:
            while True:
                self._wanted.clear()
                took = await self.ask()
                if await self._is_wanted(_EVERY_SECONDS):
                    await asyncio.sleep(_TOGETHER_SECONDS)
                    self._wanted.clear()
                    took = await self.ask()
                    await self._is_wanted(_AGAIN_SECONDS)
                await asyncio.sleep(took * _DUTY)
        finally:
            self.close()

    def close(self) -> None:
        for source in self._sources:
            source.close()

    async def ask(self) -> float:
        """Ask all of them once; seconds that it took."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for source in self._sources:
            try:
                self._said[source.name] = await source.containers()
                self.problems.pop(source.name, None)
            except SourceAbsent:
                self._said.pop(source.name, None)
                self.problems.pop(source.name, None)
            except SourceError as error:  # what it said before still holds
                if self.problems.get(source.name) != str(error):
                    log.info("containers: %s does not answer: %s", source.name, error)
                self.problems[source.name] = str(error)
            except Exception as error:  # of a library that met something it does not expect
                log.exception("containers: %s cannot be asked; trying again", source.name)
                self.problems[source.name] = f"{type(error).__name__}: {error}"
        before, self._answers.known = self._answers.known, self._merged()
        self._inventory.news(list(_changed(before, self._answers.known)))
        return loop.time() - began

    def _merged(self) -> Mapping[str, Details]:
        """The first source that says something of a container is the most telling one."""
        found: dict[str, Details] = {}
        for source in self._sources:
            for key, details in self._said.get(source.name, {}).items():
                found[key] = merged(found[key], details) if key in found else details
        return found

    async def _is_wanted(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._wanted.wait()
        except TimeoutError:
            return False
        return True


def _changed(before: Mapping[str, Details], now: Mapping[str, Details]) -> Iterator[str]:
    for key, details in now.items():
        if before.get(key) != details:
            yield key
