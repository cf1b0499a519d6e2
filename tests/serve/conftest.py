from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from huatuo.serve.app import create_app
from tests.serve.fake_node import FakeNode

Get = Callable[..., httpx.Response]


def client_of(node: FakeNode, **options: Any) -> Get:
    """A function that requests one path of an app over `node`, without a socket."""
    app = create_app(node, **options)

    def get(
        path: str,
        method: str = "GET",
        host: str = "localhost",
        content: bytes = b"",
        **headers: str,
    ) -> Any:
        async def request() -> httpx.Response:
            transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
                named = {name.replace("_", "-"): value for name, value in headers.items()}
                return await client.request(method, path, headers=named, content=content)

        return asyncio.run(request())

    return get


@pytest.fixture(scope="session")
def node() -> FakeNode:
    return FakeNode(history_seconds=900, nodes=1000, cpus=0.5)


@pytest.fixture(scope="session")
def get(node: FakeNode) -> Get:
    return client_of(node)


@pytest.fixture(scope="session")
def get_empty() -> Get:
    return client_of(FakeNode(empty=True))
