"""The body of a request: bounded, and decompressed where it says so."""

from __future__ import annotations

import msgspec
from starlette.requests import Request

from huatuo.errors import HuatuoError
from huatuo.export.compression import TooLarge, expanded
from huatuo.serve.refusal import Refusal

__all__ = ["LARGEST", "json_document", "read_body"]

LARGEST = 16 << 20  # as it comes
_EXPANDED = 48 << 20
_LARGEST_JSON = 8 << 20  # its objects take many times the memory of the text


async def read_body(request: Request) -> bytes:
    """Raises Refusal: 413 for what is too large, 415 for an unknown encoding, 400 for damage."""
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding not in ("identity", "gzip", ""):
        hint = "send it with gzip, or as it is"
        raise Refusal(415, "unknown_encoding", f"content-encoding {encoding!r} is not known", hint)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST:
            raise _too_large(f"the body is larger than {LARGEST >> 20} MiB")
        parts.append(part)
    data = b"".join(parts)
    if encoding != "gzip" or not data:
        return data
    try:
        return expanded(data, _EXPANDED)
    except TooLarge as error:
        raise _too_large(f"the body is {error}") from None
    except HuatuoError as error:
        raise Refusal(
            400, "bad_body", str(error), "the header says content-encoding: gzip"
        ) from None


def json_document(data: bytes) -> object:
    """Raises Refusal: 413 for what is too large, 400 for what is no JSON."""
    if len(data) > _LARGEST_JSON:
        raise _too_large(f"JSON of more than {_LARGEST_JSON >> 20} MiB is not read")
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise Refusal(400, "bad_json", f"not valid JSON: {error}") from None


def _too_large(what: str) -> Refusal:
    return Refusal(413, "too_large", what, "send less at a time")
