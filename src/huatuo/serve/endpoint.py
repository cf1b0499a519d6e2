"""One way of answering: an endpoint is declared once; dispatch, checks, CSV and OpenAPI follow.

A handler is a plain function from a Context to one of the types in `answers` or `model`. It runs in
a worker thread, since the store blocks; what the agent itself knows is taken before, in the loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import Response

from huatuo.errors import HuatuoError
from huatuo.model.application import ContainerApplication
from huatuo.model.event import Container
from huatuo.model.state import Decision, Health, ProbeState
from huatuo.serve.body import read_body
from huatuo.serve.node import Capturing, Node
from huatuo.serve.params import Param, Query
from huatuo.serve.render import csv_response, error_response, file_response, json_response
from huatuo.store.base import Store

__all__ = ["END", "START", "Context", "Endpoint", "File", "Table", "endpoint_handler"]

START = Param("start", "begin of the time range", "time", "-1h", "-15m")
END = Param("end", "end of the time range", "time", "now", "2026-05-01T12:00:00Z")
_FORMAT = Param("format", "how the answer is written", "choice", "json", "csv", ("json", "csv"))

_SAFE = ("GET", "HEAD")

Table = tuple[Sequence[str], Iterable[Sequence[object]]]


@dataclass(frozen=True, slots=True)
class Context:
    """All that a handler may look at."""

    store: Store
    query: Query
    path: dict[str, str]
    health: Health
    probes: list[ProbeState]
    decisions: list[Decision]
    containers: list[Container]
    captures: Capturing
    application: Callable[[Container], ContainerApplication]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class File:
    """An answer to be saved under `name`."""

    name: str
    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`path` is below /api/v1; `answer` is the type of the JSON, or File; `table` makes CSV of it.
    A POST has a body, and changes something."""

    path: str
    summary: str
    answer: Any
    handler: Callable[[Context], object]
    params: tuple[Param, ...] = ()
    table: Callable[[Any], Table] | None = None
    needs: frozenset[str] = frozenset()  # health, probes, decisions, containers
    method: str = "GET"

    @property
    def parameters(self) -> tuple[Param, ...]:
        return (*self.params, _FORMAT) if self.table else self.params


def endpoint_handler(endpoint: Endpoint) -> Callable[[Request], Any]:
    async def handle(request: Request) -> Response:
        try:
            return await _answer(endpoint, request)
        except HuatuoError as error:
            return error_response(error)

    return handle


async def _answer(endpoint: Endpoint, request: Request) -> Response:
    query = Query(endpoint.parameters, request.query_params.multi_items(), time.time_ns())
    body = b"" if endpoint.method in _SAFE else await read_body(request)
    context = _context(endpoint, request.app.state.node, query, request.path_params, body)
    answer = await anyio.to_thread.run_sync(
        endpoint.handler, context, limiter=request.app.state.readers
    )
    if endpoint.table and query.choice("format") == "csv":
        name = "huatuo-" + endpoint.path.strip("/").replace("/", "-")
        return csv_response(name, *endpoint.table(answer))
    if isinstance(answer, File):
        return file_response(answer.name, answer.media_type, answer.data)
    return json_response(answer)


def _context(
    endpoint: Endpoint, node: Node, query: Query, path: dict[str, str], body: bytes
) -> Context:
    needs = endpoint.needs
    return Context(
        store=node.store,
        query=query,
        path=path,
        health=node.health() if "health" in needs else _NO_HEALTH,
        probes=node.probes() if "probes" in needs else [],
        decisions=node.decisions() if "decisions" in needs else [],
        containers=node.containers() if "containers" in needs else [],
        captures=node.tracing,
        application=node.application,
        body=body,
    )


_NO_HEALTH = Health("ok", [], "", "", "", "", 0.0, 0.0, 0, 0)
