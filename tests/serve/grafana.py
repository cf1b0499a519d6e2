"""Grafana's side of Pyroscope's API, as its source sends it.

`DataSource`: Grafana's Pyroscope data source, pkg/tsdb/grafana-pyroscope-datasource/
(pyroscopeClient.go, query.go, instance.go) through connect-go's unary client: protobuf, header
Connect-Protocol-Version: 1, gzip accepted. `Explore`: the app Explore Profiles, src/**/
(SeriesApiClient.ts, LabelsApiClient.ts, ProfileApiClient.ts, DiffProfileApiClient.ts,
PprofApiClient.ts, statsApiClient.ts, queryAnalysisApiClient.ts): JSON with the same paths, and
/pyroscope/render. Message classes are made here from the .proto files' fields, by google's
protobuf package; nothing of ours is used.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import httpx

from tests.export.descriptors import PPROF, messages
from tests.serve.conftest import Get

# querier.proto and types.proto of grafana/pyroscope
T = messages(
    "querier.v1",
    **PPROF,
    LabelPair="name:string:1 value:string:2",
    Labels="labels:LabelPair[]:1",
    ProfileType="ID:string:1 name:string:2 sample_type:string:4 sample_unit:string:5 "
    "period_type:string:6 period_unit:string:7",
    Point="value:double:1 timestamp:int64:2",
    Series="labels:LabelPair[]:1 points:Point[]:2",
    ProfileTypesRequest="start:int64:1 end:int64:2",
    ProfileTypesResponse="profile_types:ProfileType[]:1",
    LabelNamesRequest="matchers:string[]:1 start:int64:2 end:int64:3",
    LabelNamesResponse="names:string[]:1",
    LabelValuesRequest="name:string:1 matchers:string[]:2 start:int64:3 end:int64:4",
    LabelValuesResponse="names:string[]:1",
    SeriesRequest="matchers:string[]:1 label_names:string[]:2 start:int64:3 end:int64:4",
    SeriesResponse="labels_set:Labels[]:2",
    StackTraceLocation="name:string:1",
    StackTraceSelector="call_site:StackTraceLocation[]:1",
    SelectMergeStacktracesRequest="profile_typeID:string:1 label_selector:string:2 start:int64:3 "
    "end:int64:4 max_nodes:int64?:5 format:int32:6 stack_trace_selector:StackTraceSelector:7 "
    "profile_id_selector:string[]:8 trace_id_selector:string[]:10 span_selector:string[]:11",
    Level="values:int64[]:1",
    FlameGraph="names:string[]:1 levels:Level[]:2 total:int64:3 max_self:int64:4",
    PprofProfile="profile:Profile:1",
    SelectMergeStacktracesResponse="flamegraph:FlameGraph:1 tree:bytes:2 dot:string:3 "
    "pprof:PprofProfile:5",
    SelectMergeSpanProfileRequest="profile_typeID:string:1 label_selector:string:2 "
    "span_selector:string[]:3 start:int64:4 end:int64:5 max_nodes:int64?:6 format:int32:7",
    SelectMergeSpanProfileResponse="flamegraph:FlameGraph:1 tree:bytes:2",
    SelectMergeProfileRequest="profile_typeID:string:1 label_selector:string:2 start:int64:3 "
    "end:int64:4 max_nodes:int64?:5 stack_trace_selector:StackTraceSelector:6",
    SelectSeriesRequest="profile_typeID:string:1 label_selector:string:2 start:int64:3 end:int64:4 "
    "group_by:string[]:5 step:double:6 aggregation:int32?:7 limit:int64?:9 exemplar_type:int32:10",
    SelectSeriesResponse="series:Series[]:1",
    HeatmapSlot="timestamp:int64:1 y_min:double[]:2 counts:int32[]:3",
    HeatmapSeries="labels:LabelPair[]:1 slots:HeatmapSlot[]:2",
    SelectHeatmapRequest="profile_typeID:string:1 label_selector:string:2 start:int64:3 "
    "end:int64:4 step:double:5 group_by:string[]:6 query_type:int32:7 exemplar_type:int32:8 "
    "limit:int64?:9",
    SelectHeatmapResponse="series:HeatmapSeries[]:1",
    DiffRequest="left:SelectMergeStacktracesRequest:1 right:SelectMergeStacktracesRequest:2",
    FlameGraphDiff="names:string[]:1 levels:Level[]:2 total:int64:3 max_self:int64:4 "
    "leftTicks:int64:5 rightTicks:int64:6",
    DiffResponse="flamegraph:FlameGraphDiff:1",
    GetProfileStatsRequest="",
    GetProfileStatsResponse="data_ingested:bool:1 oldest_profile_time:int64:2 "
    "newest_profile_time:int64:3",
)
PUSH = messages(
    "push.v1",
    LabelPair="name:string:1 value:string:2",
    RawSample="raw_profile:bytes:1 ID:string:2",
    RawProfileSeries="labels:LabelPair[]:1 samples:RawSample[]:2",
    PushRequest="series:RawProfileSeries[]:1",
    PushResponse="",
)
SERVICE = "/querier.v1.QuerierService/"
_CONNECT = {"content_type": "application/proto", "connect_protocol_version": "1",
            "accept_encoding": "gzip", "user_agent": "connect-go/1.18.1 (go1.24)"}  # fmt: skip


class RpcError(Exception):
    """As connect-go sees it: the code of the JSON body, or the one that goes with the status."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        document = json.loads(response.content) if response.content else {}
        self.code = document.get("code", "")
        super().__init__(document.get("message", response.text))


def call(get: Get, method: str, request: Any, answer: Any, path: str = SERVICE) -> Any:
    response = get(path + method, method="POST", content=request.SerializeToString(), **_CONNECT)
    if response.status_code != 200:
        raise RpcError(response)
    assert response.headers["content-type"] == "application/proto"
    found = answer.FromString(response.content)
    known = answer.FromString(response.content)
    known.DiscardUnknownFields()
    assert known.ByteSize() == found.ByteSize(), "a field that the .proto files do not have"
    return found


class DataSource:
    """The calls of PyroscopeClient; `start` and `end` in ms."""

    def __init__(self, get: Get) -> None:
        self.get = get

    def _call(self, method: str, **fields: Any) -> Any:
        names = {"LabelNames": "LabelNames", "LabelValues": "LabelValues"}
        name = names.get(method, method)
        answer = T["Profile"] if method == "SelectMergeProfile" else T[f"{name}Response"]
        return call(self.get, method, T[f"{name}Request"](**fields), answer)

    def profile_types(self, start: int, end: int) -> list[tuple[str, str]]:
        """(id, label), as the query editor shows them."""
        found = self._call("ProfileTypes", start=start, end=end)
        return [(one.ID, f"{one.name} - {one.sample_type}") for one in found.profile_types]

    def label_names(self, selector: str, start: int, end: int) -> list[str]:
        found = self._call("LabelNames", matchers=[selector], start=start, end=end).names
        return [name for name in found if not name.startswith("__")]

    def label_values(self, name: str, selector: str, start: int, end: int) -> list[str]:
        found = self._call("LabelValues", name=name, matchers=[selector], start=start, end=end)
        return list(found.names)

    def get_series(
        self, type_id: str, selector: str, start: int, end: int, group_by: list[str], step: float,
        limit: int | None = None,
    ) -> dict[tuple[tuple[str, str], ...], list[tuple[int, float]]]:  # fmt: skip
        found = self._call(
            "SelectSeries", profile_typeID=type_id, label_selector=selector, start=start, end=end,
            step=step, group_by=group_by, limit=limit, exemplar_type=1,
        )  # fmt: skip
        return {
            tuple((pair.name, pair.value) for pair in one.labels): [
                (point.timestamp, point.value) for point in one.points
            ]
            for one in found.series
        }

    def get_profile(
        self, type_id: str, selector: str, start: int, end: int, max_nodes: int | None = None
    ) -> Any:
        """The flame graph; None if there is none, which Grafana shows as no data."""
        found = self._call(
            "SelectMergeStacktraces", profile_typeID=type_id, label_selector=selector, start=start,
            end=end, max_nodes=max_nodes,
        )  # fmt: skip
        return found.flamegraph if found.HasField("flamegraph") else None

    def get_span_profile(
        self, type_id: str, selector: str, spans: list[str], start: int, end: int
    ) -> Any:
        found = self._call(
            "SelectMergeSpanProfile", profile_typeID=type_id, label_selector=selector,
            span_selector=spans, start=start, end=end,
        )  # fmt: skip
        return found.flamegraph if found.HasField("flamegraph") else None

    def get_heatmap(
        self, type_id: str, selector: str, start: int, end: int, step: float, group_by: list[str]
    ) -> Any:
        return self._call(
            "SelectHeatmap", profile_typeID=type_id, label_selector=selector, start=start, end=end,
            step=step, group_by=group_by, query_type=1, exemplar_type=1,
        ).series  # fmt: skip


class Explore:
    """What the app asks through Grafana's proxy: JSON, numbers as JavaScript has them."""

    def __init__(self, get: Get) -> None:
        self.get = get

    def post(self, method: str, body: dict[str, Any]) -> Any:
        response = self.get(
            SERVICE + method, method="POST", content=json.dumps(body).encode(),
            content_type="application/json",
        )  # fmt: skip
        if response.status_code != 200:
            raise RpcError(response)
        assert response.headers["content-type"] == "application/json"
        return response.json()

    def list(self, start: int, end: int) -> set[tuple[str, str]]:
        """(service, profile type), as formatSeriesResponse.ts takes them."""
        body = {"start": start, "end": end, "matchers": [],
                "labelNames": ["service_name", "__profile_type__"]}  # fmt: skip
        sets = self.post("Series", body)["labelsSet"]
        found = [{pair["name"]: pair["value"] for pair in one["labels"]} for one in sets]
        return {(one["service_name"], one["__profile_type__"]) for one in found}

    def labels(self, query: str, start: int, end: int) -> list[str]:
        """queryToMatchers puts the type before the braces among the labels."""
        body = {"matchers": self.matchers(query), "start": start, "end": end}
        return self.post("LabelNames", body)["names"]  # type: ignore[no-any-return]

    def label_values(self, label: str, query: str, start: int, end: int) -> list[str]:
        body = {"name": label, "matchers": self.matchers(query), "start": start, "end": end}
        return self.post("LabelValues", body).get("names", [])  # type: ignore[no-any-return]

    @staticmethod
    def matchers(query: str) -> list[str]:
        at = query.index("{")
        return ['{__profile_type__="' + query[:at] + '", ' + query[at + 1 :]]

    def pprof(self, type_id: str, selector: str, start: int, end: int) -> Any:
        """PprofRequest.ts: protobuf out, protobuf in."""
        request = T["SelectMergeProfileRequest"](
            profile_typeID=type_id, label_selector=selector, start=start, end=end, max_nodes=16384
        )
        response = self.get(
            SERVICE + "SelectMergeProfile", method="POST", content=request.SerializeToString(),
            content_type="application/proto",
        )  # fmt: skip
        assert response.status_code == 200
        return T["Profile"].FromString(response.content)

    def pprof_json(
        self, type_id: str, selector: str, start: int, end: int, stack: list[str]
    ) -> Any:
        body = {"profile_typeID": type_id, "label_selector": selector, "start": start, "end": end,
                "stackTraceSelector": {"call_site": [{"name": name} for name in stack]},
                "maxNodes": 500}  # fmt: skip
        return self.post("SelectMergeProfile", body)

    def render(self, **parameters: object) -> httpx.Response:
        return self.get("/pyroscope/render?" + urlencode(parameters))

    def render_diff(self, **parameters: object) -> httpx.Response:
        return self.get("/pyroscope/render-diff?" + urlencode(parameters))
