"""Profiles that others measured and send here: Pyroscope's push and ingest, and OTLP over HTTP.

Their `service_name` becomes our `container`; a container of their own is kept as
`container_name`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from huatuo.errors import HuatuoError, StoreError
from huatuo.export import folded, otlp_messages, otlp_profiles, pprof
from huatuo.export import pyroscope_messages as proto
from huatuo.export.compression import TooLarge, expanded
from huatuo.export.foreign import Imported, measure
from huatuo.export.message import Message
from huatuo.model.profile import Samples
from huatuo.serve.body import json_document, read_body
from huatuo.serve.connect import CallError, Method, connect_handler
from huatuo.serve.multipart import form_parts
from huatuo.serve.pyroscope_labels import SERVICE
from huatuo.serve.refusal import Refusal
from huatuo.serve.render import error_response
from huatuo.serve.routes.render import moment_ns
from huatuo.store.profiles import ProfileStore

__all__ = ["ROUTES"]

_PROTOBUF, _JSON = "application/x-protobuf", "application/json"
_MOST_ROWS = 1_000_000  # of one push
_USUAL_RATE = 100  # samples a second


def _as_ours(labels: Mapping[str, str]) -> dict[str, str]:
    ours = dict(labels)
    service, container = ours.pop(SERVICE, ""), ours.get("container", "")
    if service:
        ours["container"] = service
        if container not in ("", service):
            ours["container_name"] = container
    return ours


def _keep(store: ProfileStore, found: Imported) -> None:
    for samples in found.samples:
        store.append(samples)


# -- push.v1 ---------------------------------------------------------------------------------------


def _push(request: proto.PushRequest, state: Any) -> proto.PushResponse:
    """All or, if one of the profiles is damaged, nothing."""
    left, rows = pprof.LARGEST, 0  # of all profiles together
    store, found = state.node.store.profiles, []
    known = False
    for series in request.series:
        labels = {pair.name: pair.value for pair in series.labels}
        family = labels.get("__name__", "")
        for sample in series.samples:
            try:
                data = expanded(sample.raw_profile, left)
            except TooLarge as error:
                message = f"the profiles together are {error}; send fewer"
                raise CallError("resource_exhausted", message) from None
            taken = pprof.read(data, _as_ours(labels), family=family, now_ns=time.time_ns())
            left -= len(data)
            rows += sum(len(samples) for samples in taken.samples)
            if rows > _MOST_ROWS:
                raise CallError("resource_exhausted", f"more than {_MOST_ROWS} samples")
            found.append(taken)
            known = known or bool(taken.samples) or not taken.ignored
    if found and not known:
        ignored = sorted({name for taken in found for name in taken.ignored})
        raise CallError("invalid_argument", f"sample types are not known: {', '.join(ignored)}")
    for taken in found:
        _keep(store, taken)
    return proto.PushResponse()


# -- /ingest ---------------------------------------------------------------------------------------


class _SampleType(msgspec.Struct, rename={"display_name": "display-name"}):
    """How Pyroscope's clients describe a sample type of their pprof."""

    display_name: str = ""
    cumulative: bool = False


async def _ingest(request: Request) -> Response:
    body = await read_body(request)
    query = request.query_params
    content_type = request.headers.get("content-type", "")
    store = request.app.state.node.store.profiles

    def take() -> None:
        found = _ingested(query, content_type, body)
        if found.ignored and not found.samples:
            what = f"sample types are not known: {', '.join(found.ignored)}"
            raise Refusal(400, "nothing_known", what, "CPU, memory, block and mutex profiles are")
        _keep(store, found)

    await anyio.to_thread.run_sync(take, limiter=request.app.state.readers)
    return Response()


def _ingested(query: Mapping[str, str], content_type: str, body: bytes) -> Imported:
    app, labels = _application(query.get("name", ""))
    start_ns = moment_ns(query, "from")
    form = query.get("format", "")
    if content_type.startswith("multipart/form-data"):
        parts = form_parts(content_type, body)
        if form == "jfr" or "jfr" in parts:
            raise _unknown("jfr")
        return _pprof_form(parts, app, labels, start_ns)
    if form == "pprof":
        return pprof.read(body, _as_ours({SERVICE: app, **labels}), now_ns=start_ns)
    if form in ("", "folded", "groups", "lines", "collapsed"):
        return _folded(query, app, labels, body, start_ns)
    raise _unknown(form)


def _unknown(form: str) -> Refusal:
    hint = "send pprof (in a form, or with format=pprof) or folded stacks"
    return Refusal(415, "unknown_format", f"format={form!r} is not read here", hint)


def _pprof_form(
    parts: Mapping[str, bytes], app: str, labels: Mapping[str, str], start_ns: int
) -> Imported:
    if "profile" not in parts:
        raise Refusal(400, "bad_form", "the form has no field `profile`", "it holds the pprof")
    types: dict[str, _SampleType] = {}
    if described := parts.get("sample_type_config"):
        try:
            types = msgspec.json.decode(described, type=dict[str, _SampleType])
        except msgspec.MsgspecError as error:
            raise Refusal(400, "bad_form", f"sample_type_config: {error}") from None
    # values since the start of a process would be counted again with every profile
    cumulative = [name for name, config in types.items() if config.cumulative]
    family = "block" if any("block" in one.display_name for one in types.values()) else ""
    wanted = _as_ours({SERVICE: app, **labels})
    return pprof.read(parts["profile"], wanted, family=family, now_ns=start_ns, ignore=cumulative)


def _folded(
    query: Mapping[str, str], app: str, labels: Mapping[str, str], body: bytes, start_ns: int
) -> Imported:
    """Counts of samples, or values in `units`; the type is the last word of the name: app.cpu."""
    name, _, word = app.rpartition(".")
    known = measure(_WORDS.get(word, word), _UNITS.get(word, ""))
    if not name or known is None:
        name, word, known = app, "cpu", measure("cpu", "ns")
    factor = 1
    if word in ("cpu", "itimer") and query.get("units", "samples") == "samples":
        rate = query.get("sampleRate", "")
        number = int(rate) if rate.isdecimal() and len(rate) < 10 else 0
        factor = 1_000_000_000 // (number or _USUAL_RATE)
    assert known is not None
    wanted = _as_ours({SERVICE: name, **labels})
    counted = query.get("format") != "lines"
    return folded.read(body, known.type, wanted, start_ns, factor=factor, counted=counted)


_WORDS = {
    "itimer": "cpu",
    "mutex_duration": "delay",
    "lock_duration": "delay",
    "block_duration": "off_cpu",
}
_UNITS = {
    "cpu": "ns",
    "itimer": "ns",
    "alloc_space": "bytes",
    "inuse_space": "bytes",
    "mutex_duration": "ns",
    "lock_duration": "ns",
    "block_duration": "ns",
}


def _application(text: str) -> tuple[str, dict[str, str]]:
    """app{label=value,…}, values without quotes."""
    app, _, rest = text.partition("{")
    if not app.strip():
        hint = "for example name=web{region=eu}"
        raise Refusal(400, "bad_parameter", "name is missing", hint)
    words = (word.partition("=") for word in rest.partition("}")[0].split(","))
    return app.strip(), {name.strip(): value.strip() for name, _, value in words if value}


# -- OTLP ------------------------------------------------------------------------------------------


class _Status(Message):
    """google.rpc.Status, as OTLP wants errors."""

    code: Annotated[int, 1, "int32"] = 0
    message: Annotated[str, 2] = ""


async def _otlp(request: Request) -> Response:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (_PROTOBUF, _JSON):
        hint = f"send {_PROTOBUF} or {_JSON}"
        raise Refusal(415, "unknown_format", f"content-type {kind!r} is not read here", hint)
    try:
        body = await read_body(request)
        found = await anyio.to_thread.run_sync(
            _otlp_taken, kind, body, request.app.state, limiter=request.app.state.readers
        )
    except StoreError:
        raise
    except HuatuoError as error:
        status = error.status if isinstance(error, Refusal) else 400
        return _otlp_response(kind, _Status(3, str(error)), status)  # 3: INVALID_ARGUMENT
    partial = None
    if found.ignored:
        message = f"sample types are not known: {', '.join(sorted(set(found.ignored)))}"
        partial = otlp_messages.PartialSuccess(len(found.ignored), message)
    return _otlp_response(kind, otlp_messages.ExportResponse(partial), 200)


def _otlp_taken(kind: str, body: bytes, state: Any) -> Imported:
    store = state.node.store.profiles
    if kind == _PROTOBUF:
        message = otlp_messages.ExportRequest.decode(body)
    else:
        message = otlp_messages.ExportRequest.from_json(json_document(body))
    found = otlp_profiles.parse(message, time.time_ns())
    ours = [_relabelled(samples) for samples in found.samples]
    _keep(store, Imported(ours, []))
    return found


def _relabelled(samples: Samples) -> Samples:
    return replace(samples, labels=[_as_ours(one) for one in samples.labels])


def _otlp_response(kind: str, message: Message, status: int) -> Response:
    body = message.encode() if kind == _PROTOBUF else msgspec.json.encode(message.to_json())
    return Response(body, status, headers={"content-type": kind})


def _told(handler: Callable[[Request], Any]) -> Callable[[Request], Any]:
    """Errors as our API has them."""

    async def handle(request: Request) -> Any:
        try:
            return await handler(request)
        except HuatuoError as error:
            return error_response(error, of_request=True)

    return handle


_PUSH = connect_handler({"Push": Method(proto.PushRequest, _push)})

ROUTES = [
    Route("/push.v1.PusherService/{method}", _PUSH, methods=["POST"]),
    Route("/ingest", _told(_ingest), methods=["POST"]),
    Route("/pyroscope/ingest", _told(_ingest), methods=["POST"]),
    Route("/v1development/profiles", _told(_otlp), methods=["POST"]),
]
