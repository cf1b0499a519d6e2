from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from huatuo.errors import HuatuoError
from huatuo.serve.app import create_app
from huatuo.serve.server import bind, serve
from tests.serve.fake_node import FakeNode


def event_of(node: FakeNode) -> Any:
    return node.event(time.time_ns())


def served(node: FakeNode, check: Callable[[str], Awaitable[None]]) -> float:
    """Run `check` against a real server on loopback; how long stopping it took, in seconds."""

    async def main() -> float:
        address: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        app = create_app(node)
        task = asyncio.create_task(
            serve(app, "127.0.0.1", 0, started=lambda _host, port: address.set_result(port))
        )
        try:
            await asyncio.wait_for(check(f"http://127.0.0.1:{await address}/api/v1"), 20)
        finally:
            began = time.monotonic()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        return time.monotonic() - began

    return asyncio.run(main())


async def messages(response: httpx.Response) -> AsyncIterator[tuple[int, dict[str, Any]]]:
    number = 0
    async for line in response.aiter_lines():
        if line.startswith("id: "):
            number = int(line[4:])
        elif line.startswith("data: "):
            yield number, json.loads(line[6:])


def test_an_event_arrives_whole_and_at_once() -> None:
    node = FakeNode(empty=True)

    async def check(base: str) -> None:
        async with (
            httpx.AsyncClient() as client,
            client.stream("GET", f"{base}/events/stream") as response,
        ):
            assert response.headers["content-type"].startswith("text/event-stream")
            while not node.readers:
                await asyncio.sleep(0.01)
            began = time.monotonic()
            stored = node.publish(event_of(node))
            number, event = await anext(messages(response))
            assert time.monotonic() - began < 1
            assert (number, event["title"]) == (stored.id, stored.title)
            assert event["fields"] == json.loads(json.dumps(stored.fields))

    served(node, check)


def test_last_event_id_brings_what_was_missed_in_order() -> None:
    node = FakeNode(empty=True)
    ids = [node.publish(event_of(node)).id for _ in range(5)]

    async def check(base: str) -> None:
        async with (
            httpx.AsyncClient() as client,
            client.stream(
                "GET", f"{base}/events/stream", headers={"last-event-id": str(ids[1])}
            ) as response,
        ):
            found = messages(response)
            assert [(await anext(found))[0] for _ in range(3)] == ids[2:]
            assert (node.publish(event_of(node))).id == (await anext(found))[0]

    served(node, check)


def test_filters_apply_to_the_stream() -> None:
    node = FakeNode(empty=True)

    async def check(base: str) -> None:
        path = f"{base}/events/stream?probe=net.drop&field.reason=NO_SOCKET"
        async with httpx.AsyncClient() as client, client.stream("GET", path) as response:
            while not node.readers:
                await asyncio.sleep(0.01)
            wanted = [
                stored.id
                for stored in (node.publish(event_of(node)) for _ in range(60))
                if stored.fields.get("reason") == "NO_SOCKET"
            ]
            assert wanted
            found = messages(response)
            assert [(await anext(found))[0] for _ in wanted] == wanted

    served(node, check)


def test_a_reader_that_goes_is_forgotten() -> None:
    node = FakeNode(empty=True)

    async def check(base: str) -> None:
        async with httpx.AsyncClient() as client:
            async with client.stream("GET", f"{base}/events/stream") as response:
                assert response.status_code == 200
                while not node.readers:
                    await asyncio.sleep(0.01)
            for _ in range(200):
                if not node.readers:
                    return
                await asyncio.sleep(0.01)
            raise AssertionError("still subscribed")

    served(node, check)


def test_stopping_takes_less_than_a_second_with_open_streams() -> None:
    node = FakeNode(empty=True)

    async def main() -> float:
        address: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(
            serve(
                create_app(node), "127.0.0.1", 0, started=lambda _, port: address.set_result(port)
            )
        )
        url = f"http://127.0.0.1:{await address}/api/v1/events/stream"
        async with httpx.AsyncClient() as client:
            requests = [client.build_request("GET", url) for _ in range(5)]
            opened = [await client.send(request, stream=True) for request in requests]
            began = time.monotonic()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            took = time.monotonic() - began
            for response in opened:
                await response.aclose()
        return took

    took = asyncio.run(main())
    print(f"stopped in {took * 1000:.0f} ms")
    assert took < 1


def test_a_taken_port_is_refused_in_words() -> None:
    (taken,) = bind("127.0.0.1", 0)
    port = taken.getsockname()[1]
    with pytest.raises(HuatuoError, match=f"cannot listen on 127.0.0.1:{port}"):
        bind("127.0.0.1", port)
    taken.close()


def test_an_address_of_another_host_is_refused_in_words() -> None:
    with pytest.raises(HuatuoError, match=r"cannot listen on 192\.0\.2\.1"):
        bind("192.0.2.1", 0)


def test_idle_costs_next_to_nothing() -> None:
    """No timer runs: over a second of idling the process uses well below a millisecond a tick."""
    node = FakeNode(empty=True)

    async def check(_: str) -> None:
        before = time.process_time()
        await asyncio.sleep(1.0)
        print(f"idle: {(time.process_time() - before) * 1000:.2f} ms CPU per second")

    served(node, check)
