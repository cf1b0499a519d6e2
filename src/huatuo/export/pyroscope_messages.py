"""The messages of Pyroscope's public API: querier.v1, types.v1 and push.v1. Times are ms."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from huatuo.export import pprof_messages as pprof
from huatuo.export.message import Message

__all__ = [
    "AnalyzeQueryRequest",
    "AnalyzeQueryResponse",
    "DiffRequest",
    "DiffResponse",
    "FlameGraph",
    "FlameGraphDiff",
    "GetProfileStatsRequest",
    "GetProfileStatsResponse",
    "HeatmapQueryType",
    "HeatmapSeries",
    "HeatmapSlot",
    "LabelNamesRequest",
    "LabelNamesResponse",
    "LabelPair",
    "LabelValuesRequest",
    "LabelValuesResponse",
    "Labels",
    "Level",
    "Point",
    "PprofProfile",
    "ProfileFormat",
    "ProfileType",
    "ProfileTypesRequest",
    "ProfileTypesResponse",
    "PushRequest",
    "PushResponse",
    "QueryImpact",
    "QueryScope",
    "RawProfileSeries",
    "RawSample",
    "SelectHeatmapRequest",
    "SelectHeatmapResponse",
    "SelectMergeProfileRequest",
    "SelectMergeSpanProfileRequest",
    "SelectMergeSpanProfileResponse",
    "SelectMergeStacktracesRequest",
    "SelectMergeStacktracesResponse",
    "SelectSeriesRequest",
    "SelectSeriesResponse",
    "Series",
    "SeriesRequest",
    "SeriesResponse",
    "StackTraceLocation",
    "StackTraceSelector",
]


class ProfileFormat(IntEnum):
    PROFILE_FORMAT_UNSPECIFIED = 0
    PROFILE_FORMAT_FLAMEGRAPH = 1
    PROFILE_FORMAT_TREE = 2
    PROFILE_FORMAT_DOT = 3
    PROFILE_FORMAT_PPROF = 4


class HeatmapQueryType(IntEnum):
    HEATMAP_QUERY_TYPE_UNSPECIFIED = 0
    HEATMAP_QUERY_TYPE_INDIVIDUAL = 1
    HEATMAP_QUERY_TYPE_SPAN = 2


class Aggregation(IntEnum):
    TIME_SERIES_AGGREGATION_TYPE_SUM = 0
    TIME_SERIES_AGGREGATION_TYPE_AVERAGE = 1


# -- types.v1 --------------------------------------------------------------------------------------


class LabelPair(Message):
    name: Annotated[str, 1] = ""
    value: Annotated[str, 2] = ""


class Labels(Message):
    labels: Annotated[list[LabelPair], 1] = []


class ProfileType(Message):
    ID: Annotated[str, 1] = ""
    name: Annotated[str, 2] = ""
    sample_type: Annotated[str, 4] = ""
    sample_unit: Annotated[str, 5] = ""
    period_type: Annotated[str, 6] = ""
    period_unit: Annotated[str, 7] = ""


class Point(Message):
    value: Annotated[float, 1] = 0.0
    timestamp: Annotated[int, 2] = 0


class Series(Message):
    labels: Annotated[list[LabelPair], 1] = []
    points: Annotated[list[Point], 2] = []


class LabelValuesRequest(Message):
    name: Annotated[str, 1] = ""
    matchers: Annotated[list[str], 2] = []
    start: Annotated[int, 3] = 0
    end: Annotated[int, 4] = 0


class LabelValuesResponse(Message):
    names: Annotated[list[str], 1] = []


class LabelNamesRequest(Message):
    matchers: Annotated[list[str], 1] = []
    start: Annotated[int, 2] = 0
    end: Annotated[int, 3] = 0


class LabelNamesResponse(Message):
    names: Annotated[list[str], 1] = []


class GetProfileStatsRequest(Message):
    pass


class GetProfileStatsResponse(Message):
    data_ingested: Annotated[bool, 1] = False
    oldest_profile_time: Annotated[int, 2] = 0
    newest_profile_time: Annotated[int, 3] = 0


class HeatmapSlot(Message):
    """`counts` of values from `y_min` up to the next one."""

    timestamp: Annotated[int, 1] = 0
    y_min: Annotated[list[float], 2] = []
    counts: Annotated[list[int], 3, "int32"] = []


class HeatmapSeries(Message):
    labels: Annotated[list[LabelPair], 1] = []
    slots: Annotated[list[HeatmapSlot], 2] = []


class StackTraceLocation(Message):
    name: Annotated[str, 1] = ""


class StackTraceSelector(Message):
    """`call_site`: functions from the outermost on."""

    call_site: Annotated[list[StackTraceLocation], 1] = []


# -- querier.v1 ------------------------------------------------------------------------------------


class ProfileTypesRequest(Message):
    start: Annotated[int, 1] = 0
    end: Annotated[int, 2] = 0


class ProfileTypesResponse(Message):
    profile_types: Annotated[list[ProfileType], 1] = []


class SeriesRequest(Message):
    matchers: Annotated[list[str], 1] = []
    label_names: Annotated[list[str], 2] = []
    start: Annotated[int, 3] = 0
    end: Annotated[int, 4] = 0


class SeriesResponse(Message):
    labels_set: Annotated[list[Labels], 2] = []


class SelectMergeStacktracesRequest(Message):
    profile_typeID: Annotated[str, 1] = ""  # noqa: N815  (the name in the .proto file)
    label_selector: Annotated[str, 2] = ""
    start: Annotated[int, 3] = 0
    end: Annotated[int, 4] = 0
    max_nodes: Annotated[int | None, 5] = None
    format: Annotated[int, 6, ProfileFormat] = 0
    stack_trace_selector: Annotated[StackTraceSelector | None, 7] = None
    profile_id_selector: Annotated[list[str], 8] = []
    trace_id_selector: Annotated[list[str], 10] = []
    span_selector: Annotated[list[str], 11] = []


class Level(Message):
    """See export/flamebearer.py."""

    values: Annotated[list[int], 1] = []


class FlameGraph(Message):
    names: Annotated[list[str], 1] = []
    levels: Annotated[list[Level], 2] = []
    total: Annotated[int, 3] = 0
    max_self: Annotated[int, 4] = 0


class PprofProfile(Message):
    profile: Annotated[pprof.Profile | None, 1] = None


class SelectMergeStacktracesResponse(Message):
    flamegraph: Annotated[FlameGraph | None, 1] = None
    tree: Annotated[bytes, 2] = b""
    dot: Annotated[str, 3] = ""
    pprof: Annotated[PprofProfile | None, 5] = None


class SelectMergeSpanProfileRequest(Message):
    profile_typeID: Annotated[str, 1] = ""  # noqa: N815
    label_selector: Annotated[str, 2] = ""
    span_selector: Annotated[list[str], 3] = []
    start: Annotated[int, 4] = 0
    end: Annotated[int, 5] = 0
    max_nodes: Annotated[int | None, 6] = None
    format: Annotated[int, 7, ProfileFormat] = 0


class SelectMergeSpanProfileResponse(Message):
    flamegraph: Annotated[FlameGraph | None, 1] = None
    tree: Annotated[bytes, 2] = b""


class DiffRequest(Message):
    left: Annotated[SelectMergeStacktracesRequest | None, 1] = None
    right: Annotated[SelectMergeStacktracesRequest | None, 2] = None


class FlameGraphDiff(Message):
    names: Annotated[list[str], 1] = []
    levels: Annotated[list[Level], 2] = []
    total: Annotated[int, 3] = 0
    max_self: Annotated[int, 4] = 0
    leftTicks: Annotated[int, 5] = 0  # noqa: N815
    rightTicks: Annotated[int, 6] = 0  # noqa: N815


class DiffResponse(Message):
    flamegraph: Annotated[FlameGraphDiff | None, 1] = None


class SelectMergeProfileRequest(Message):
    profile_typeID: Annotated[str, 1] = ""  # noqa: N815
    label_selector: Annotated[str, 2] = ""
    start: Annotated[int, 3] = 0
    end: Annotated[int, 4] = 0
    max_nodes: Annotated[int | None, 5] = None
    stack_trace_selector: Annotated[StackTraceSelector | None, 6] = None
    profile_id_selector: Annotated[list[str], 7] = []
    trace_id_selector: Annotated[list[str], 8] = []


class SelectSeriesRequest(Message):
    """`step` in seconds."""

    profile_typeID: Annotated[str, 1] = ""  # noqa: N815
    label_selector: Annotated[str, 2] = ""
    start: Annotated[int, 3] = 0
    end: Annotated[int, 4] = 0
    group_by: Annotated[list[str], 5] = []
    step: Annotated[float, 6] = 0.0
    aggregation: Annotated[int | None, 7, Aggregation] = None
    stack_trace_selector: Annotated[StackTraceSelector | None, 8] = None
    limit: Annotated[int | None, 9] = None


class SelectSeriesResponse(Message):
    series: Annotated[list[Series], 1] = []


class SelectHeatmapRequest(Message):
    """`step` in seconds."""

    profile_typeID: Annotated[str, 1] = ""  # noqa: N815
    label_selector: Annotated[str, 2] = ""
    start: Annotated[int, 3] = 0
    end: Annotated[int, 4] = 0
    step: Annotated[float, 5] = 0.0
    group_by: Annotated[list[str], 6] = []
    query_type: Annotated[int, 7, HeatmapQueryType] = 0
    limit: Annotated[int | None, 9] = None


class SelectHeatmapResponse(Message):
    series: Annotated[list[HeatmapSeries], 1] = []


class AnalyzeQueryRequest(Message):
    start: Annotated[int, 2] = 0
    end: Annotated[int, 3] = 0
    query: Annotated[str, 4] = ""


class QueryScope(Message):
    component_type: Annotated[str, 1] = ""
    component_count: Annotated[int, 2, "uint64"] = 0
    series_count: Annotated[int, 4, "uint64"] = 0
    sample_count: Annotated[int, 6, "uint64"] = 0


class QueryImpact(Message):
    total_bytes_in_time_range: Annotated[int, 2, "uint64"] = 0
    total_queried_series: Annotated[int, 3, "uint64"] = 0


class AnalyzeQueryResponse(Message):
    query_scopes: Annotated[list[QueryScope], 1] = []
    query_impact: Annotated[QueryImpact | None, 2] = None


# -- push.v1 ---------------------------------------------------------------------------------------


class RawSample(Message):
    """`raw_profile`: pprof, gzip'd or not."""

    raw_profile: Annotated[bytes, 1] = b""
    ID: Annotated[str, 2] = ""


class RawProfileSeries(Message):
    labels: Annotated[list[LabelPair], 1] = []
    samples: Annotated[list[RawSample], 2] = []


class PushRequest(Message):
    series: Annotated[list[RawProfileSeries], 1] = []


class PushResponse(Message):
    pass
