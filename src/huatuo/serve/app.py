"""The web application over one Node: UI, API, /metrics, /healthz."""

from __future__ import annotations

import time
from collections.abc import Sequence

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from huatuo.errors import ConfigError
from huatuo.export import prometheus
from huatuo.model.event import Event
from huatuo.serve.answers import Problem
from huatuo.serve.assets import asset, asset_base, index
from huatuo.serve.endpoint import END, START, Endpoint, endpoint_handler
from huatuo.serve.guard import Guard
from huatuo.serve.node import Node
from huatuo.serve.openapi import BASE, document, page
from huatuo.serve.params import Param, Query
from huatuo.serve.refusal import Refusal
from huatuo.serve.render import error_response, json_response, problem_response
from huatuo.serve.routes import all_endpoints, pyroscope, receive, render
from huatuo.serve.routes.events import FILTERS, event_query
from huatuo.serve.stream import Streams

__all__ = ["create_app"]

_READERS = 2  # queries at a time: each holds its arrays in memory
_LAST_ID = Param(
    "last_id", "as the header Last-Event-ID: go on after this event", "integer", "0", "4711"
)
_STREAM = Endpoint(
    "/events/stream",
    "Events as they happen, as server-sent events; Last-Event-ID goes on where it broke",
    Event,
    lambda _context: None,
    (*FILTERS, _LAST_ID),
)


def create_app(node: Node, *, token: str = "", require_token: bool = False) -> Starlette:
    """`require_token`: everything but the UI's files asks for it; needed beyond loopback."""
    if require_token and not token:
        raise ConfigError(
            "the web server listens beyond loopback without a token; "
            "set token, or listen on 127.0.0.1"
        )
    app = Starlette(
        routes=_routes(),
        middleware=[Middleware(Guard, token=token, require_token=require_token)],
        exception_handlers={HTTPException: _http_error, Exception: _fault},
    )
    app.state.node = node
    app.state.readers = anyio.CapacityLimiter(_READERS)
    app.state.streams = Streams(node)
    return app


def _routes() -> Sequence[BaseRoute]:
    endpoints = all_endpoints()
    described = [*endpoints, _STREAM]

    async def openapi(request: Request) -> Response:  # noqa: ARG001
        return json_response(document(endpoints, _STREAM))

    async def api_page(request: Request) -> Response:  # noqa: ARG001
        return HTMLResponse(page(described, asset_base() + "style.css"))

    return [
        Route("/", index),
        Route("/ui/{version}/{path:path}", asset),
        Route("/metrics", _metrics),
        Route("/healthz", _healthz),
        Route("/api", api_page),
        Route(f"{BASE}/openapi.json", openapi),
        Route(BASE + _STREAM.path, _stream),
        *(_route(endpoint) for endpoint in endpoints),
        *pyroscope.ROUTES,
        *render.ROUTES,
        *receive.ROUTES,
    ]


def _route(endpoint: Endpoint) -> Route:
    return Route(BASE + endpoint.path, endpoint_handler(endpoint), methods=[endpoint.method])


async def _metrics(request: Request) -> Response:
    """A scrape, in the form that the scraper prefers."""
    content_type, render = prometheus.negotiate(request.headers.get("accept", ""))
    body = render(request.app.state.node.metrics())
    return Response(body, headers={"content-type": content_type})


async def _healthz(request: Request) -> Response:
    """200 while the agent works, even degraded: a restart adds no missing kernel feature."""
    return json_response({"status": request.app.state.node.health().status})


async def _stream(request: Request) -> Response:
    params = [param for param in _STREAM.params if param is not _LAST_ID]
    given = request.query_params.multi_items()
    try:
        Query(_STREAM.params, given, time.time_ns())
        filters = [(name, value) for name, value in given if name != "last_id"]
        query = Query([*params, START, END], filters, time.time_ns())
        last = request.headers.get("last-event-id") or request.query_params.get("last_id", "0")
        wanted = event_query(query)
    except Refusal as refusal:
        return error_response(refusal)
    streams: Streams = request.app.state.streams
    if streams.full:
        hint = "close other pages of the UI"
        return problem_response(503, Problem("too_many_streams", "no free event stream", hint))
    return StreamingResponse(
        streams.follow(wanted, int(last) if last.isdecimal() else 0),
        media_type="text/event-stream",
        headers={"x-accel-buffering": "no"},
    )


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    what = {404: f"no page {request.url.path!r}", 405: f"{request.method} is not possible here"}
    hint = "see /api for what there is"
    words = {404: "not_found", 405: "method_not_allowed"}
    text = what.get(status, str(error))
    return problem_response(status, Problem(words.get(status, "http_error"), text, hint))


async def _fault(request: Request, error: Exception) -> Response:
    what = f"{request.url.path}: {type(error).__name__}"
    return problem_response(500, Problem("fault", what, "this is a bug; the agent's log has more"))
