"""Pyroscope's querier.v1, as Grafana's Pyroscope data source and Explore Profiles ask it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from starlette.routing import Route

from huatuo.export import pprof, pprof_messages
from huatuo.export import pyroscope_messages as proto
from huatuo.export.flamebearer import Levels, dot, levels, tree_bytes
from huatuo.export.flamegraph import below, flame_tree
from huatuo.model.profile import PROFILE_TYPES, Profile, ProfileType
from huatuo.serve.connect import CallError, Method, connect_handler
from huatuo.serve.pyroscope_heatmap import heatmap
from huatuo.serve.pyroscope_labels import (
    SERVICE,
    Selection,
    described,
    from_stored,
    pairs,
    period,
    selection,
    to_stored,
    type_of,
)
from huatuo.store.profiles import ProfileQuery, ProfileSeries, ProfileStore

__all__ = ["ROUTES", "flame", "flame_diff", "merged", "series"]

_MILLISECOND = 1_000_000
_USUAL_NODES, _MOST_NODES, _DOT_NODES = 8192, 500_000, 100
_MOST_STEPS, _MOST_LABELS = 20_000, 32
_MINUTE_MS = 60_000


def _store(state: Any) -> ProfileStore:
    found: ProfileStore = state.node.store.profiles
    return found


# -- which there are -------------------------------------------------------------------------------


def _profile_types(request: proto.ProfileTypesRequest, state: Any) -> proto.ProfileTypesResponse:
    start_ns, end_ns = period(request.start, request.end, time.time_ns())
    kinds = [PROFILE_TYPES[name] for name in _store(state).types(start_ns, end_ns)]
    kinds.sort(key=lambda kind: kind.id)
    return proto.ProfileTypesResponse(
        [
            proto.ProfileType(
                kind.id, kind.family, kind.sample, kind.unit, kind.period, kind.period_unit
            )
            for kind in kinds
        ]
    )


def _queries(
    store: ProfileStore, chosen: Selection, start_ms: int, end_ms: int
) -> list[tuple[ProfileType, ProfileQuery]]:
    """Of all selected types with samples in the range."""
    start_ns, end_ns = period(start_ms, end_ms, time.time_ns())
    there = store.types(start_ns, end_ns)
    kinds = [kind for kind in chosen.types if kind.name in there]
    return [(kind, chosen.query(kind, start_ns, end_ns)) for kind in kinds]


def _label_names(request: proto.LabelNamesRequest, state: Any) -> proto.LabelNamesResponse:
    store, names = _store(state), set[str]()
    chosen = selection(request.matchers)
    for kind, query in _queries(store, chosen, request.start, request.end):
        labels = store.labels(query)
        if labels:
            names |= {from_stored(name) for name in labels} | set(described(kind))
    return proto.LabelNamesResponse(sorted(names))


def _label_values(request: proto.LabelValuesRequest, state: Any) -> proto.LabelValuesResponse:
    if not request.name:
        raise CallError("invalid_argument", "name is missing")
    store, values = _store(state), set[str]()
    chosen = selection(request.matchers)
    for kind, query in _queries(store, chosen, request.start, request.end):
        labels = store.labels(query)
        meta = described(kind).get(request.name)
        if meta is None:
            values |= set(labels.get(to_stored(request.name), ()))
        elif labels or not chosen.matchers:
            values.add(meta)
    return proto.LabelValuesResponse(sorted(values - {""}))


def _series(request: proto.SeriesRequest, state: Any) -> proto.SeriesResponse:
    """The distinct sets of labels; those asked for, or all."""
    store, chosen = _store(state), selection(request.matchers)
    found: dict[tuple[tuple[str, str], ...], None] = {}
    for kind, query in _queries(store, chosen, request.start, request.end):
        meta = described(kind)
        wanted = request.label_names or [*meta, *map(from_stored, store.labels(query))]
        by = [to_stored(name) for name in wanted if name not in meta]
        for one in store.series(query, query.end_ns - query.start_ns + 1, by):
            labels = {from_stored(name): value for name, value in one.labels.items() if value}
            labels |= {name: meta[name] for name in wanted if name in meta}
            found[tuple(sorted(labels.items()))] = None
    return proto.SeriesResponse([proto.Labels(pairs(dict(labels))) for labels in sorted(found)])


def _stats(_request: proto.GetProfileStatsRequest, state: Any) -> proto.GetProfileStatsResponse:
    """Oldest and newest to the minute: the store only says whether a range has samples."""
    store = _store(state)
    now_ms = time.time_ns() // _MILLISECOND
    last = now_ms // _MINUTE_MS + 1

    def any_in(first: int, end: int) -> bool:
        return bool(store.types(first * _MINUTE_MS * _MILLISECOND, end * _MINUTE_MS * _MILLISECOND))

    if not any_in(0, last):
        return proto.GetProfileStatsResponse()
    oldest = _first(lambda minute: any_in(0, minute + 1), last)
    newest = min((last - _first(lambda back: any_in(last - back, last), last)) * _MINUTE_MS, now_ms)
    return proto.GetProfileStatsResponse(True, oldest * _MINUTE_MS, newest)


def _first(holds: Any, end: int) -> int:
    """The smallest number from 0 on for which it holds, if it holds from there on."""
    low, high = 0, end
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _analyze(request: proto.AnalyzeQueryRequest, state: Any) -> proto.AnalyzeQueryResponse:
    """How much a query would read. Bytes are not counted here."""
    name, brace, rest = request.query.partition("{")
    chosen = selection([brace + rest] if brace else [])
    if name:
        kind = type_of(name)
        chosen = Selection([kind] if kind else [], chosen.matchers)
    count = samples = 0
    store = _store(state)
    for _, query in _queries(store, chosen, request.start, request.end):
        by = list(store.labels(query))
        count += len(store.series(query, query.end_ns - query.start_ns + 1, by))
        samples += store.merge(query).samples
    scope = proto.QueryScope("store of this host", 1, count, samples)
    return proto.AnalyzeQueryResponse([scope], proto.QueryImpact(0, count))


# -- stacks ----------------------------------------------------------------------------------------


def merged(request: proto.SelectMergeStacktracesRequest, state: Any) -> Profile | None:
    """None where there is no sample."""
    kind = type_of(request.profile_typeID)
    if kind is None:
        return None
    chosen = selection([request.label_selector])
    for name, values in (
        ("span_id", request.span_selector),
        ("trace_id", request.trace_id_selector),
        ("profile_id", request.profile_id_selector),
    ):
        chosen = chosen.and_one_of(name, values)
    query = chosen.query(kind, *period(request.start, request.end, time.time_ns()))
    profile = _store(state).merge(query)
    selector = request.stack_trace_selector
    if selector is not None and selector.call_site:
        names = [one.name for one in selector.call_site]
        profile = below(profile, names[1:] if names[0] == "total" else names)
    return profile if profile.total else None


def _nodes(max_nodes: int | None) -> int:
    return min(max_nodes, _MOST_NODES) if max_nodes and max_nodes > 0 else _USUAL_NODES


def flame(profile: Profile, max_nodes: int | None) -> Levels:
    return levels(flame_tree([profile], _nodes(max_nodes), by_name=True))


def _flame_graph(profile: Profile, max_nodes: int | None) -> proto.FlameGraph:
    found = flame(profile, max_nodes)
    return proto.FlameGraph(found.names, _rows(found), found.totals[0], found.max_self)


def _rows(found: Levels) -> list[proto.Level]:
    return [proto.Level(row) for row in found.levels]  # type: ignore[arg-type]  # arrays are fine


def _stacktraces(
    request: proto.SelectMergeStacktracesRequest, state: Any
) -> proto.SelectMergeStacktracesResponse:
    profile = merged(request, state)
    answer = proto.SelectMergeStacktracesResponse()
    if profile is None:
        return answer
    if request.format == proto.ProfileFormat.PROFILE_FORMAT_TREE:
        tree = flame_tree([profile], _nodes(request.max_nodes), by_name=True)
        answer.tree = tree_bytes(tree)
    elif request.format == proto.ProfileFormat.PROFILE_FORMAT_DOT:
        most = request.max_nodes or _DOT_NODES
        answer.dot = dot(flame_tree([profile], by_name=True), profile.type.unit, most)
    elif request.format == proto.ProfileFormat.PROFILE_FORMAT_PPROF:
        answer.pprof = proto.PprofProfile(pprof.message(profile))
    else:
        answer.flamegraph = _flame_graph(profile, request.max_nodes)
    return answer


def _merge_profile(request: proto.SelectMergeProfileRequest, state: Any) -> pprof_messages.Profile:
    wanted = proto.SelectMergeStacktracesRequest(
        request.profile_typeID,
        request.label_selector,
        request.start,
        request.end,
        stack_trace_selector=request.stack_trace_selector,
        profile_id_selector=request.profile_id_selector,
        trace_id_selector=request.trace_id_selector,
    )
    profile = merged(wanted, state)
    return pprof.message(profile) if profile else pprof_messages.Profile()


def _span_profile(
    request: proto.SelectMergeSpanProfileRequest, state: Any
) -> proto.SelectMergeSpanProfileResponse:
    wanted = proto.SelectMergeStacktracesRequest(
        request.profile_typeID,
        request.label_selector,
        request.start,
        request.end,
        request.max_nodes,
        request.format,
        span_selector=request.span_selector,
    )
    found = _stacktraces(wanted, state)
    return proto.SelectMergeSpanProfileResponse(found.flamegraph, found.tree)


def flame_diff(
    left: proto.SelectMergeStacktracesRequest,
    right: proto.SelectMergeStacktracesRequest,
    state: Any,
) -> tuple[ProfileType | None, Levels | None]:
    """The left one is what is compared with. Raises CallError for different types."""
    kind = type_of(left.profile_typeID)
    if left.profile_typeID != right.profile_typeID:
        raise CallError("invalid_argument", "both profiles must be of the same type")
    both = [merged(left, state), merged(right, state)]
    there = next((profile for profile in both if profile), None)
    if there is None:
        return kind, None
    nothing = there.self_values * 0
    filled = [profile or _without_values(there, nothing) for profile in both]
    most = _nodes(max(left.max_nodes or 0, right.max_nodes or 0))
    return kind, levels(flame_tree(filled, most, by_name=True))


def _without_values(profile: Profile, nothing: Any) -> Profile:
    return Profile(profile.type, 0, 0, profile.locations, profile.parent, profile.location, nothing)


def _diff(request: proto.DiffRequest, state: Any) -> proto.DiffResponse:
    if request.left is None or request.right is None:
        raise CallError("invalid_argument", "left and right are both needed")
    _, found = flame_diff(request.left, request.right, state)
    if found is None:
        return proto.DiffResponse(proto.FlameGraphDiff())
    left, right = found.totals
    return proto.DiffResponse(
        proto.FlameGraphDiff(found.names, _rows(found), left + right, found.max_self, left, right)
    )


# -- over time -------------------------------------------------------------------------------------


def series(
    store: ProfileStore,
    kind: ProfileType,
    selector: str,
    start_ms: int,
    end_ms: int,
    step_ms: int,
    group_by: Sequence[str],
) -> list[ProfileSeries]:
    """Values of (start - step, start], (start, start + step], …, as Pyroscope cuts them."""
    if step_ms < 1:
        raise CallError("invalid_argument", "step must be at least 1 ms")
    start_ns, end_ns = period(start_ms, end_ms, time.time_ns())
    start_ns = max(start_ns - (step_ms - 1) * _MILLISECOND, 0)
    if (end_ns - start_ns) // (step_ms * _MILLISECOND) > _MOST_STEPS:
        raise CallError("invalid_argument", f"more than {_MOST_STEPS} steps; use a longer step")
    if len(group_by) > _MOST_LABELS:
        raise CallError("invalid_argument", f"more than {_MOST_LABELS} labels to group by")
    chosen = selection([selector])
    by = [to_stored(name) for name in group_by if name not in described(kind)]
    return store.series(chosen.query(kind, start_ns, end_ns), step_ms * _MILLISECOND, by)


def _labels_of(one: ProfileSeries, kind: ProfileType, group_by: Sequence[str]) -> dict[str, str]:
    known = described(kind) | {from_stored(name): value for name, value in one.labels.items()}
    return {name: known[name] for name in group_by if known.get(name)}


def _select_series(request: proto.SelectSeriesRequest, state: Any) -> proto.SelectSeriesResponse:
    """Sums, also where averages are asked for: there is one profile of each label set at a time."""
    kind = type_of(request.profile_typeID)
    if kind is None:
        return proto.SelectSeriesResponse()
    step_ms = round(request.step * 1000)
    found = series(
        _store(state), kind, request.label_selector, request.start, request.end, step_ms,
        request.group_by,
    )  # fmt: skip
    found.sort(key=lambda one: -int(one.values.sum()))
    limit = request.limit or len(found)
    shown = []
    for one in found[:limit]:
        steps = np.flatnonzero(one.values)
        times = (request.start + steps * step_ms).tolist()
        values = one.values[steps].astype(float).tolist()
        points = [proto.Point(value, at) for value, at in zip(values, times, strict=True)]
        shown.append(proto.Series(pairs(_labels_of(one, kind, request.group_by)), points))
    return proto.SelectSeriesResponse(shown)


def _select_heatmap(request: proto.SelectHeatmapRequest, state: Any) -> proto.SelectHeatmapResponse:
    kind = type_of(request.profile_typeID)
    if kind is None:
        return proto.SelectHeatmapResponse()
    store, step_ms = _store(state), round(request.step * 1000)
    if request.query_type == proto.HeatmapQueryType.HEATMAP_QUERY_TYPE_SPAN:
        inner = ["span_id"]
    else:
        inner = [SERVICE, "comm"]
    by = [*request.group_by, *(name for name in inner if name not in request.group_by)]
    found = series(store, kind, request.label_selector, request.start, request.end, step_ms, by)
    labelled = [
        (_labels_of(one, kind, request.group_by), one.values)
        for one in found
        if "span_id" not in inner or one.labels.get("span_id")
    ]
    return proto.SelectHeatmapResponse(
        heatmap(labelled, request.start, step_ms, request.limit or 0)
    )


_METHODS = {
    "ProfileTypes": Method(proto.ProfileTypesRequest, _profile_types),
    "LabelNames": Method(proto.LabelNamesRequest, _label_names),
    "LabelValues": Method(proto.LabelValuesRequest, _label_values),
    "Series": Method(proto.SeriesRequest, _series),
    "SelectMergeStacktraces": Method(proto.SelectMergeStacktracesRequest, _stacktraces),
    "SelectMergeSpanProfile": Method(proto.SelectMergeSpanProfileRequest, _span_profile),
    "SelectMergeProfile": Method(proto.SelectMergeProfileRequest, _merge_profile),
    "SelectSeries": Method(proto.SelectSeriesRequest, _select_series),
    "SelectHeatmap": Method(proto.SelectHeatmapRequest, _select_heatmap),
    "Diff": Method(proto.DiffRequest, _diff),
    "GetProfileStats": Method(proto.GetProfileStatsRequest, _stats),
    "AnalyzeQuery": Method(proto.AnalyzeQueryRequest, _analyze),
}

ROUTES = [
    Route("/querier.v1.QuerierService/{method}", connect_handler(_METHODS), methods=["POST"]),
]
