"""Live events as server-sent events: each message is a whole event, its id the event's id."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import msgspec
from starlette.concurrency import run_in_threadpool

from huatuo.model.event import Event
from huatuo.serve.node import Node
from huatuo.store.base import EventQuery
from huatuo.store.block import event_json, flatten

__all__ = ["Streams", "matches"]

_PING_SECONDS = 15.0
_QUEUE = 1000  # events a slow reader may be behind before it is cut off
_REPLAY = 1000  # events a reader gets at most after it comes back


def matches(query: EventQuery, event: Event) -> bool:
    """Whether a live event belongs to the query; the same meaning as in the store."""
    container = event.container.full_name if event.container else ""
    if query.probe not in ("", event.probe) or query.kind not in ("", event.kind):
        return False
    if query.container not in ("", container):
        return False
    if query.fields:
        flat = flatten(msgspec.to_builtins(event))
        if any(flat.get(name) != value for name, value in query.fields.items()):
            return False
    return not query.text or query.text.lower() in event_json(event).decode().lower()


def message(event: Event) -> bytes:
    return b"id: %d\nevent: event\ndata: %s\n\n" % (event.id, msgspec.json.encode(event))


class Streams:
    """All open streams; `close()` ends them at once, so that the server can stop."""

    def __init__(self, node: Node, most: int = 64) -> None:
        self._node = node
        self._most = most
        self._open: set[asyncio.Queue[Event | None]] = set()
        self._closed = False

    @property
    def full(self) -> bool:
        return len(self._open) >= self._most

    def close(self) -> None:
        self._closed = True
        for queue in self._open:
            _end(queue)

    async def follow(self, query: EventQuery, last_id: int) -> AsyncIterator[bytes]:
        """Messages until the reader goes; after `last_id` first what the store has since."""
        query = replace(query, start_ns=0, end_ns=2**63 - 1)
        queue: asyncio.Queue[Event | None] = asyncio.Queue(_QUEUE)
        self._open.add(queue)
        pump = asyncio.create_task(self._pump(queue, lambda event: matches(query, event)))
        try:
            yield b"retry: 2000\n: following\n\n"
            if last_id:
                for event in await run_in_threadpool(self._since, query, last_id):
                    last_id = event.id
                    yield message(event)
            while not self._closed:
                try:
                    async with asyncio.timeout(_PING_SECONDS):
                        found = await queue.get()
                except TimeoutError:
                    yield b": ping\n\n"
                    continue
                if found is None:
                    break
                if found.id > last_id or not found.id:
                    yield message(found)
        finally:
            self._open.discard(queue)
            pump.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await pump

    async def _pump(
        self, queue: asyncio.Queue[Event | None], wanted: Callable[[Event], bool]
    ) -> None:
        source = self._node.subscribe()
        try:
            async for event in source:
                if wanted(event):
                    queue.put_nowait(event)
        except asyncio.QueueFull:
            pass  # the reader comes back with Last-Event-ID and gets the rest from the store
        finally:
            _end(queue)
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()

    def _since(self, query: EventQuery, last_id: int) -> list[Event]:
        """Stored events with a higher id, oldest first; the newest _REPLAY of them."""
        found: list[Event] = []
        before = 0
        while len(found) < _REPLAY:
            page = self._node.store.events(replace(query, before_id=before, limit=200))
            newer = [event for event in page if event.id > last_id]
            found.extend(newer)
            if len(newer) < 200:
                break
            before = newer[-1].id
        return found[::-1][-_REPLAY:]


def _end(queue: asyncio.Queue[Event | None]) -> None:
    """Put the end mark even into a full queue."""
    while True:
        try:
            queue.put_nowait(None)
            return
        except asyncio.QueueFull:
            queue.get_nowait()
