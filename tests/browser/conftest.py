from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass

import pytest

from huatuo.model.event import Event
from huatuo.serve.app import create_app
from huatuo.serve.server import serve
from tests.browser.chromium import Browser, Page, find
from tests.serve.fake_node import FakeNode, on_disk


@dataclass
class Site:
    """A served node; `publish` may be called from the test's thread."""

    url: str
    node: FakeNode
    loop: asyncio.AbstractEventLoop

    def publish(self, event: Event) -> Event:
        done: Future[Event] = Future()
        self.loop.call_soon_threadsafe(lambda: done.set_result(self.node.publish(event)))
        return done.result(5)


def served(node: FakeNode, token: str = "") -> Iterator[Site]:
    ready: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()

    async def main() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task

        def started(_host: str, port: int) -> None:
            ready.set_result((port, loop, task))

        app = create_app(node, token=token, require_token=bool(token))
        await serve(app, "127.0.0.1", 0, started=started)

    def run() -> None:
        try:
            asyncio.run(main())
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            ready.set_exception(error)

    thread = threading.Thread(target=run)
    thread.start()
    port, loop, task = ready.result(10)
    try:
        yield Site(f"http://127.0.0.1:{port}/", node, loop)
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(30)  # or its connections are closed by nobody


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Its history ends when it is made, so it does not serve for long."""
    with on_disk(history_seconds=1800) as node:
        yield from served(node)


@pytest.fixture(scope="session")
def empty_site() -> Iterator[Site]:
    yield from served(FakeNode(empty=True))


def served_with_token() -> Iterator[Site]:
    return served(FakeNode(history_seconds=60, nodes=1000), "s3cret")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = find()
    if program is None:
        pytest.skip("no chromium on this machine")
    with Browser(program) as found:
        yield found


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Whatever a test does with it: no console errors, no request to another host."""
    found = browser.page()
    yield found
    problems, requests = found.problems, found.requests
    found.close()
    assert problems == []
    allowed = ("http://127.0.0.1:", "about:", "blob:")
    assert [url for url in requests if not url.startswith(allowed)] == []
