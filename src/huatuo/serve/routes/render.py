"""Pyroscope's older HTTP API: render, render-diff and label-values, as JSON or DOT."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio
import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from huatuo.errors import HuatuoError
from huatuo.export import pyroscope_messages as proto
from huatuo.export.flamebearer import Levels, dot
from huatuo.export.flamegraph import flame_tree
from huatuo.model.profile import PROFILE_TYPES, ProfileType
from huatuo.serve.params import parse_time
from huatuo.serve.pyroscope_labels import described, period, selection, to_stored, type_of
from huatuo.serve.refusal import Refusal
from huatuo.serve.render import error_response, json_response
from huatuo.serve.routes.pyroscope import flame, flame_diff, merged
from huatuo.serve.selector import SelectorError, parse_named
from huatuo.store.profiles import Matcher, ProfileSeries

__all__ = ["ROUTES", "moment_ns"]

_MILLISECOND, _SECOND = 1_000_000, 1_000_000_000
_POINTS = 1500  # of a timeline at most
_STEPS = (15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400)  # seconds
_UNIX = re.compile(r"[0-9]{1,19}")


class Timeline(msgspec.Struct, rename="camel"):
    """`samples`: one for each `duration_delta` seconds from `start_time` on."""

    start_time: int
    samples: list[int]
    duration_delta: int
    watermarks: dict[int, int] | None = None


class _Flamebearer(msgspec.Struct, rename="camel"):
    names: list[str]
    levels: list[list[int]]
    num_ticks: int
    max_self: int


class _Metadata(msgspec.Struct, rename="camel"):
    format: str
    units: str
    name: str
    sample_rate: int = 100
    spy_name: str = ""


class Rendered(msgspec.Struct, rename="camel", omit_defaults=True):
    """Pyroscope's flamebearer profile, version 1."""

    flamebearer: _Flamebearer
    metadata: _Metadata
    timeline: Timeline | None
    groups: dict[str, Timeline] | None
    heatmap: None
    version: int
    left_ticks: int = 0
    right_ticks: int = 0


Query = Mapping[str, str]


def _handler(answer: Callable[[Query, Any], Response]) -> Callable[[Request], Any]:
    async def handle(request: Request) -> Response:
        try:
            return await anyio.to_thread.run_sync(
                answer, request.query_params, request.app.state, limiter=request.app.state.readers
            )
        except HuatuoError as error:
            return error_response(error, of_request=True)

    return handle


def moment_ns(query: Query, name: str) -> int:
    """Unix time in s, ms, µs or ns, or relative to now (now-1h) → UTC ns; now if not given.
    Raises Refusal."""
    value = query.get(name) or "now"
    if _UNIX.fullmatch(value):
        number = int(value)
        for digits, in_ns in ((10, _SECOND), (13, _MILLISECOND), (16, 1_000)):
            if number < 10**digits:
                return number * in_ns
        return min(number, 2**63 - 1)
    relative = value.removeprefix("now") if value != "now" else value
    return parse_time(name, relative, time.time_ns())


def _request(query: Query, name: str, start: str, end: str) -> proto.SelectMergeStacktracesRequest:
    """TYPE{labels}, or {__profile_type__="TYPE",labels}."""
    text = query.get(name, "")
    type_id, matchers = parse_named(text)
    if not type_id:
        named = [one for one in matchers if one.name == "__profile_type__" and one.op == "="]
        if not named:
            raise SelectorError(f"{name}: expected a profile type in front of {text!r}")
        type_id, matchers = named[0].value, tuple(one for one in matchers if one not in named)
    nodes = query.get("max-nodes") or query.get("maxNodes") or ""
    return proto.SelectMergeStacktracesRequest(
        type_id,
        _written(matchers),
        moment_ns(query, start) // _MILLISECOND,
        moment_ns(query, end) // _MILLISECOND,
        int(nodes) if nodes.isdecimal() and len(nodes) < 10 else None,
    )


def _written(matchers: Sequence[Matcher]) -> str:
    escaped = [
        (one.name, one.op, one.value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n"))
        for one in matchers
    ]
    return "{" + ",".join(f'"{name}"{op}"{value}"' for name, op, value in escaped) + "}"


def _render(query: Query, state: Any) -> Response:
    request = _request(query, "query", "from", "until")
    profile = merged(request, state)
    if query.get("format") == "dot":
        if profile is None:
            return PlainTextResponse("")
        tree = flame_tree([profile], by_name=True)
        return PlainTextResponse(dot(tree, profile.type.unit, request.max_nodes or 100))
    kind = type_of(request.profile_typeID)
    found = flame(profile, request.max_nodes) if profile else None
    shown = _rendered(kind, found, "single")
    if kind:
        group_by = query.get("groupBy", "")
        shown.timeline, shown.groups = _timelines(kind, request, group_by, state)
    return json_response(shown)


def _rendered(kind: ProfileType | None, found: Levels | None, form: str) -> Rendered:
    sample, unit = (kind.sample, kind.unit) if kind else ("", "")
    units, rate = ("samples", _SECOND) if sample == "cpu" else (unit, 100)  # samples of 1 ns
    if found is None:
        found = Levels(["total"], [np.zeros(7 if form == "double" else 4, np.int64)], [0], 0)
    total = sum(found.totals)
    rows = [row.tolist() for row in found.levels]
    return Rendered(
        flamebearer=_Flamebearer(found.names, rows, total, found.max_self),
        metadata=_Metadata(form, units, sample, rate),
        timeline=None,
        groups=None,
        heatmap=None,
        version=1,
    )


def _timelines(
    kind: ProfileType, request: proto.SelectMergeStacktracesRequest, group_by: str, state: Any
) -> tuple[Timeline, dict[str, Timeline] | None]:
    """Over all samples, and for each value of a label."""
    start_ns, end_ns = period(request.start, request.end, time.time_ns())
    step = next((s for s in _STEPS if (end_ns - start_ns) // _SECOND <= s * _POINTS), 0)
    step = step or (end_ns - start_ns) // _SECOND // _POINTS + 1
    start = start_ns // _SECOND // step * step
    query = selection([request.label_selector]).query(kind, start * _SECOND, end_ns)
    store = state.node.store.profiles
    count = max((end_ns // _SECOND - start) // step, 0)

    def timeline(found: Sequence[ProfileSeries]) -> Timeline:
        values = sum((one.values[:count] for one in found), np.zeros(count, np.int64))
        return Timeline(start, values.tolist(), step)

    if not group_by or group_by in described(kind):
        return timeline(store.series(query, step * _SECOND)), None
    found = store.series(query, step * _SECOND, [to_stored(group_by)])
    groups = {next(iter(one.labels.values()), "*") or "*": timeline([one]) for one in found}
    return timeline(found), groups


def _render_diff(query: Query, state: Any) -> Response:
    left = _request(query, "leftQuery", "leftFrom", "leftUntil")
    right = _request(query, "rightQuery", "rightFrom", "rightUntil")
    kind, found = flame_diff(left, right, state)
    shown = _rendered(kind, found, "double")
    if found:
        shown.left_ticks, shown.right_ticks = found.totals
    return json_response(shown)


def _label_values(query: Query, state: Any) -> Response:
    """`__name__` are the ids of the types."""
    name = query.get("label", "")
    if not name:
        raise Refusal(400, "bad_parameter", "label is missing", "for example label=service_name")
    store, values = state.node.store.profiles, set[str]()
    chosen = selection([])
    for kind_name in store.types(0, time.time_ns()):
        kind = PROFILE_TYPES[kind_name]
        if name == "__name__":
            values.add(kind.id)
        elif name in described(kind):
            values.add(described(kind)[name])
        else:
            labels = store.labels(chosen.query(kind, 0, time.time_ns()))
            values |= set(labels.get(to_stored(name), ()))
    return json_response(sorted(values))


ROUTES = [
    Route("/pyroscope/render", _handler(_render)),
    Route("/pyroscope/render-diff", _handler(_render_diff)),
    Route("/pyroscope/label-values", _handler(_label_values)),
]
