"""The Connect protocol, as far as single calls go: POST /PACKAGE.SERVICE/METHOD with one message.

Messages are protobuf or JSON, plain or gzip'd; an answer has the form of its question. Errors are
always JSON: {code, message}, with a status of HTTP that goes with the code.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from huatuo.errors import HuatuoError, StoreError
from huatuo.export.compression import compressed
from huatuo.export.message import Message
from huatuo.export.wire import WireError
from huatuo.serve.body import json_document, read_body
from huatuo.serve.refusal import Refusal
from huatuo.serve.selector import SelectorError

__all__ = ["CallError", "Method", "connect_handler"]

log = logging.getLogger(__name__)

_PROTO, _JSON = "application/proto", "application/json"
_STATUSES = {
    "invalid_argument": 400,
    "not_found": 404,
    "resource_exhausted": 429,
    "internal": 500,
    "unimplemented": 501,
    "unavailable": 503,
}
_WORTH_COMPRESSING = 1400  # bytes: one packet


class CallError(HuatuoError):
    """`code` is one of Connect's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Method:
    """`answer` runs in a worker thread, with the application's state."""

    request: type[Message]
    answer: Callable[[Any, Any], Message]


def connect_handler(methods: Mapping[str, Method]) -> Callable[[Request], Any]:
    """For a route with {method} in its path."""

    async def handle(request: Request) -> Response:
        try:
            return await _answer(methods, request)
        except CallError as error:
            return _error(error.code, str(error))
        except (WireError, SelectorError) as error:
            return _error("invalid_argument", str(error))
        except Refusal as refusal:
            codes = {413: "resource_exhausted", 415: "unimplemented", 503: "unavailable"}
            return _error(codes.get(refusal.status, "invalid_argument"), str(refusal))
        except StoreError as error:
            return _error("unavailable", str(error))
        except HuatuoError as error:
            return _error("invalid_argument", str(error))
        except Exception:
            log.exception("%s failed", request.url.path)
            return _error("internal", "this is a bug; the agent's log has more")

    return handle


async def _answer(methods: Mapping[str, Method], request: Request) -> Response:
    method = methods.get(request.path_params["method"])
    if method is None:
        return _error("unimplemented", f"{request.url.path} is not known", 404)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (_PROTO, _JSON):
        return Response(status_code=415, headers={"accept-post": f"{_JSON}, {_PROTO}"})
    version = request.headers.get("connect-protocol-version", "1")
    if version != "1":
        raise CallError("invalid_argument", f"connect-protocol-version must be 1, not {version!r}")
    data = await read_body(request)
    message = await anyio.to_thread.run_sync(
        _call, method, kind, data, request.app.state, limiter=request.app.state.readers
    )
    headers = {"content-type": kind, "vary": "accept-encoding"}
    if len(message) > _WORTH_COMPRESSING and "gzip" in request.headers.get("accept-encoding", ""):
        message = compressed(message)
        headers["content-encoding"] = "gzip"
    return Response(message, headers=headers)


def _call(method: Method, kind: str, data: bytes, state: Any) -> bytes:
    if kind == _PROTO:
        return method.answer(method.request.decode(data), state).encode()
    message = method.request.from_json(json_document(data or b"{}"))
    answer = method.answer(message, state)
    return msgspec.json.encode(answer.to_json())


def _error(code: str, message: str, status: int = 0) -> Response:
    body = msgspec.json.encode({"code": code, "message": message})
    return Response(body, status or _STATUSES[code], media_type=_JSON)
