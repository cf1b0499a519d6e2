"""querier.v1 and render, asked as Grafana asks (tests/serve/grafana.py), over known samples."""

from __future__ import annotations

import gzip
import json
from collections import Counter

import pytest

from huatuo.model.profile import PROFILE_TYPES
from tests.export.profiles import NS, STACKS, START, TOTAL, rows
from tests.export.test_flamebearer import expected, positive, read_tree
from tests.serve.conftest import Get, client_of
from tests.serve.fake_node import FakeNode
from tests.serve.grafana import SERVICE, DataSource, Explore, RpcError, T, call
from tests.serve.memory_profiles import samples_of

CPU, RESIDENT = PROFILE_TYPES["cpu"].id, PROFILE_TYPES["resident"].id
FROM = START // 1_000_000
TO = FROM + 60_000
SPAN = "9a517183f26a089d"


def node() -> FakeNode:
    """`web` runs all stacks within 5 s, `db` two of them 20 s later; one sample has a span."""
    found = FakeNode(empty=True)
    web = [(*row[:3], {"container": "web", "comm": "nginx"}) for row in rows()]
    web[0][3]["span_id"] = SPAN
    later = {"container": "db"}
    db = [(at + 20 * NS, 2 * value, stack, later) for at, value, stack, _ in rows()[:2]]
    found.store.profiles.append(samples_of("cpu", web + db))
    memory = [(START, 1 << 20, STACKS[0][0], {"container": "web"})]
    found.store.profiles.append(samples_of("resident", memory))
    return found


@pytest.fixture(scope="module")
def get() -> Get:
    return client_of(node())


@pytest.fixture(scope="module")
def source(get: Get) -> DataSource:
    return DataSource(get)


@pytest.fixture(scope="module")
def explore(get: Get) -> Explore:
    return Explore(get)


def stacks_of(flamegraph) -> dict[tuple[str, ...], int]:  # type: ignore[no-untyped-def]
    """Path → self, put together as Grafana's levelsToTree does it."""
    found: Counter[tuple[str, ...]] = Counter()
    above: list[tuple[int, int, tuple[str, ...]]] = []
    for depth, level in enumerate(flamegraph.levels):
        values, end, at = list(level.values), 0, 0
        bars = []
        for i in range(0, len(values), 4):
            offset, total, own, name = values[i : i + 4]
            start, end = end + offset, end + offset + total
            path: tuple[str, ...] = ()
            if depth:
                while not (above[at][0] <= start and end <= above[at][1]):
                    at += 1
                path = (*above[at][2], flamegraph.names[name])
            found[path] += own
            bars.append((start, end, path))
        above = bars
    return {path: value for path, value in found.items() if value}


WEB = positive(expected(STACKS)[0])


# -- Grafana's data source -------------------------------------------------------------------------


def test_the_test_button_and_the_list_of_types(source: DataSource) -> None:
    assert source.profile_types(1000, 4000) == []  # CheckHealth: any answer will do
    types = source.profile_types(FROM - 3_600_000, TO)
    assert types == [
        (RESIDENT, "memory - inuse_space"), (CPU, "process_cpu - cpu"),
    ]  # fmt: skip
    assert source.profile_types(0, 0) == types


def test_labels_for_the_query_editor(source: DataSource) -> None:
    assert source.label_names("{}", FROM, TO) == ["comm", "service_name", "span_id"]
    assert source.label_names('{service_name="db"}', FROM, TO) == ["service_name"]
    assert source.label_values("service_name", "{}", FROM, TO) == ["db", "web"]
    assert source.label_values("comm", '{service_name=~"w.*"}', FROM, TO) == ["nginx"]
    assert source.label_values("comm", '{service_name="db"}', FROM, TO) == []
    assert source.label_values("service_name", "{}", FROM - 9000, FROM - 5000) == []


def test_the_flame_graph(source: DataSource) -> None:
    found = source.get_profile(CPU, '{service_name="web"}', FROM, TO)
    assert stacks_of(found) == WEB
    assert (found.total, found.max_self) == (TOTAL, 7_000_000)
    assert found.names[0] == "total"
    assert source.get_profile(CPU, '{service_name="nobody"}', FROM, TO) is None
    assert source.get_profile("goroutine:goroutine:count:goroutine:count", "{}", FROM, TO) is None


def test_the_flame_graph_is_pruned(source: DataSource) -> None:
    found = source.get_profile(CPU, "{}", FROM, TO, max_nodes=4)
    assert sum(stacks_of(found).values()) == TOTAL + 16_000_000
    assert "other" in found.names


def test_a_profile_of_spans(source: DataSource) -> None:
    found = source.get_span_profile(CPU, '{service_name="web"}', [SPAN, "00"], FROM, TO)
    assert stacks_of(found) == {("main", "work", "std::min<int>(int, int)"): 5_000_000}
    assert source.get_span_profile(CPU, "{}", ["00"], FROM, TO) is None


def test_values_over_time(source: DataSource) -> None:
    """Points stand at the ends of their steps: (start, start + step] is at start + step."""
    found = source.get_series(CPU, "{}", FROM, TO, ["service_name"], 15)
    first, rest = STACKS[0][1], TOTAL - STACKS[0][1]
    assert found == {
        (("service_name", "web"),): [(FROM, first), (FROM + 15_000, rest)],
        (("service_name", "db"),): [(FROM + 30_000, 16_000_000)],
    }
    whole = source.get_series(CPU, "{}", FROM, TO, [], 15)
    assert whole == {(): [(FROM, first), (FROM + 15_000, rest), (FROM + 30_000, 16_000_000)]}


def test_the_largest_series(source: DataSource) -> None:
    found = source.get_series(CPU, "{}", FROM, TO, ["service_name"], 60, limit=1)
    assert list(found) == [(("service_name", "web"),)]
    meta = source.get_series(CPU, "{}", FROM, TO, ["__profile_type__", "comm"], 60)
    assert (("__profile_type__", CPU), ("comm", "nginx")) in meta


def test_heatmap(source: DataSource) -> None:
    """web has two values (5 ms, 17 ms), db one (16 ms); 20 bands from smallest to largest."""
    first, rest = STACKS[0][1], TOTAL - STACKS[0][1]
    series = source.get_heatmap(CPU, "{}", FROM, TO, 15, ["service_name"])
    found = {one.labels[0].value: one for one in series}
    assert set(found) == {"web", "db"}
    slots = {slot.timestamp: slot for slot in found["web"].slots}
    assert list(slots) == [FROM, FROM + 15_000]
    edges = list(slots[FROM].y_min)
    assert len(edges) == 20
    assert edges[0] == first
    assert edges[1] == pytest.approx(first + (rest - first) / 20)
    assert list(slots[FROM].counts) == [1] + [0] * 19
    assert list(slots[FROM + 15_000].counts) == [0] * 19 + [1]
    assert sum(found["db"].slots[0].counts) == 1


# -- Explore Profiles ------------------------------------------------------------------------------


def test_the_list_of_services(explore: Explore) -> None:
    assert explore.list(FROM, TO) == {("web", CPU), ("web", RESIDENT), ("db", CPU)}


def test_labels_of_a_service(explore: Explore) -> None:
    query = CPU + '{service_name="web"}'
    assert explore.labels(query, FROM, TO) == [
        "__name__", "__period_type__", "__period_unit__", "__profile_type__", "__type__",
        "__unit__", "comm", "service_name", "span_id",
    ]  # fmt: skip
    assert explore.label_values("comm", query, FROM, TO) == ["nginx"]
    assert explore.label_values("comm", CPU + '{service_name="db",}', FROM, TO) == []
    assert explore.label_values("__profile_type__", RESIDENT + "{}", FROM, TO) == [RESIDENT]


def test_a_download_as_pprof(explore: Explore) -> None:
    found = explore.pprof(CPU, '{service_name="web"}', FROM, TO)
    assert sum(sample.value[0] for sample in found.sample) == TOTAL
    assert "std::min<int>(int, int)" in found.string_table
    assert found.time_nanos == START


def test_the_lines_of_one_function(explore: Explore) -> None:
    """The panel that shows source code: pprof as JSON, only below a call site."""
    found = explore.pprof_json(CPU, '{service_name="web"}', FROM, TO, ["total", "main", "work"])
    values = [int(sample["value"][0]) for sample in found["sample"]]
    assert sorted(values) == [3_000_000, 5_000_000]
    texts = found["stringTable"]
    files = {texts[int(one["filename"])] for one in found["function"] if "filename" in one}
    assert "app.c" in files
    none = explore.pprof_json(CPU, '{service_name="web"}', FROM, TO, ["work"])
    assert none.get("sample", []) == []


def test_stats_and_analysis(explore: Explore) -> None:
    stats = explore.post("GetProfileStats", {})
    assert stats["dataIngested"] is True
    assert abs(int(stats["oldestProfileTime"]) - FROM) <= 60_000
    assert abs(int(stats["newestProfileTime"]) - FROM - 21_000) <= 120_000
    assert Explore(client_of(FakeNode(empty=True))).post("GetProfileStats", {}) == {}
    found = explore.post("AnalyzeQuery", {"start": FROM, "end": TO, "query": CPU + "{}"})
    assert found["queryScopes"][0]["sampleCount"] == "8"
    assert found["queryImpact"] == {"totalQueriedSeries": "3"}


def test_render_as_json(explore: Explore) -> None:
    query = CPU + '{service_name="web"}'
    shown = explore.render(query=query, **{"from": FROM, "until": TO}, format="json").json()
    flame = shown["flamebearer"]
    assert shown["version"] == 1
    assert flame["numTicks"] == TOTAL
    assert flame["levels"][0] == [0, TOTAL, 0, 0]
    assert shown["metadata"] == {
        "format": "single", "units": "samples", "name": "cpu", "sampleRate": 1_000_000_000,
        "spyName": "",
    }  # fmt: skip
    timeline = shown["timeline"]
    assert timeline["durationDelta"] == 15
    assert sum(timeline["samples"]) == TOTAL
    assert timeline["samples"][0] == TOTAL
    assert timeline["startTime"] == FROM // 1000


def test_render_by_label_and_relative_time() -> None:
    one = FakeNode(empty=True)
    import time

    at = time.time_ns() - 300 * NS
    one.store.profiles.append(
        samples_of("cpu", [(at, 5, STACKS[0][0], {"container": name}) for name in ("a", "b")])
    )
    shown = Explore(client_of(one)).render(
        query=CPU + "{}", **{"from": "now-1h", "until": "now"}, groupBy="service_name"
    )
    groups = shown.json()["groups"]
    assert {name: sum(group["samples"]) for name, group in groups.items()} == {"a": 5, "b": 5}


def test_render_as_dot_for_the_assistant(explore: Explore) -> None:
    query = CPU + '{service_name="web"}'
    answer = explore.render(query=query, **{"from": FROM, "until": TO}, format="dot")
    assert answer.text.startswith("digraph")
    assert 'label="main\\n' in answer.text
    assert explore.render(query=CPU + "{}", **{"from": 1, "until": 2}, format="dot").text == ""


def test_render_diff(explore: Explore) -> None:
    sides = {"leftQuery": CPU + '{service_name="web"}', "rightQuery": CPU + '{service_name="db"}'}
    times = {"leftFrom": FROM, "leftUntil": TO, "rightFrom": FROM, "rightUntil": TO}
    shown = explore.render_diff(**sides, **times, **{"max-nodes": 100}).json()
    assert (shown["leftTicks"], shown["rightTicks"]) == (TOTAL, 16_000_000)
    assert shown["metadata"]["format"] == "double"
    assert all(len(row) % 7 == 0 for row in shown["flamebearer"]["levels"])
    assert shown["flamebearer"]["levels"][0] == [0, TOTAL, 0, 0, 16_000_000, 0, 0]
    other = {**sides, "rightQuery": RESIDENT + "{}"}
    answer = explore.render_diff(**other, **times)
    assert answer.status_code == 400
    assert "same type" in answer.json()["what"]


def test_render_of_nothing_is_still_a_flame_graph(explore: Explore) -> None:
    shown = explore.render(query=CPU + '{a="b"}', **{"from": FROM, "until": TO}).json()
    assert shown["flamebearer"] == {
        "names": ["total"], "levels": [[0, 0, 0, 0]], "numTicks": 0, "maxSelf": 0,
    }  # fmt: skip


def test_label_values_of_the_older_api(get: Get) -> None:
    assert get("/pyroscope/label-values?label=__name__").json() == [RESIDENT, CPU]
    assert get("/pyroscope/label-values?label=service_name").json() == ["db", "web"]
    assert get("/pyroscope/label-values").status_code == 400


# -- other calls of the .proto file ----------------------------------------------------------------


def test_every_form_of_stacks(get: Get) -> None:
    def ask(form: int):  # type: ignore[no-untyped-def]
        request = T["SelectMergeStacktracesRequest"](
            profile_typeID=CPU, label_selector='{service_name="web"}', start=FROM, end=TO,
            format=form,
        )  # fmt: skip
        return call(get, "SelectMergeStacktraces", request, T["SelectMergeStacktracesResponse"])

    own, _ = read_tree(ask(2).tree)
    assert positive(own) == WEB
    assert ask(3).dot.startswith("digraph")
    assert sum(sample.value[0] for sample in ask(4).pprof.profile.sample) == TOTAL
    assert stacks_of(ask(1).flamegraph) == WEB


def test_diff(get: Get) -> None:
    def side(service: str):  # type: ignore[no-untyped-def]
        return T["SelectMergeStacktracesRequest"](
            profile_typeID=CPU, label_selector=f'{{service_name="{service}"}}', start=FROM, end=TO
        )

    request = T["DiffRequest"](left=side("web"), right=side("nobody"))
    found = call(get, "Diff", request, T["DiffResponse"]).flamegraph
    assert (found.leftTicks, found.rightTicks, found.total) == (TOTAL, 0, TOTAL)
    assert sum(value for level in found.levels for value in list(level.values)[2::7]) == TOTAL


# -- the protocol ----------------------------------------------------------------------------------


def test_requests_and_answers_may_be_compressed(get: Get) -> None:
    body = json.dumps({"start": FROM, "end": TO}).encode()
    plain = get(SERVICE + "Series", method="POST", content=body, content_type="application/json")
    packed = get(
        SERVICE + "Series", method="POST", content=gzip.compress(body),
        content_type="application/json; charset=utf-8", content_encoding="gzip",
        accept_encoding="gzip",
    )  # fmt: skip
    assert packed.json() == plain.json()
    assert packed.headers["content-encoding"] == "gzip"  # httpx has expanded it
    assert "content-encoding" not in get(
        SERVICE + "Series", method="POST", content=body, content_type="application/json",
        accept_encoding="identity",
    ).headers  # fmt: skip


@pytest.mark.parametrize(
    ("method", "body", "code", "status", "message"),
    [
        ("SelectSeries", {"profileTypeID": "cpu"}, "invalid_argument", 400, "expected name:sample"),
        ("SelectSeries", {"profileTypeID": CPU, "start": "9", "end": "5", "step": 1},
         "invalid_argument", 400, "must be before"),
        ("SelectSeries", {"profileTypeID": CPU, "end": FROM}, "invalid_argument", 400, "1 ms"),
        ("SelectSeries", {"profileTypeID": CPU, "step": 15},
         "invalid_argument", 400, "20000 steps"),
        ("SelectSeries", {"profileTypeID": CPU, "step": 1e7, "groupBy": ["a"] * 50},
         "invalid_argument", 400, "more than 32 labels"),
        ("SelectMergeStacktraces", {"profileTypeID": CPU, "labelSelector": "{a=b}"},
         "invalid_argument", 400, "a quoted text"),
        ("LabelValues", {}, "invalid_argument", 400, "name is missing"),
        ("LabelNames", {"matchers": "x"}, "invalid_argument", 400, "matchers"),
        ("LabelNames", [], "invalid_argument", 400, "expected an object"),
        ("Diff", {}, "invalid_argument", 400, "both needed"),
        ("Nothing", {}, "unimplemented", 404, "is not known"),
    ],
)  # fmt: skip
def test_errors_have_connects_form(
    method: str, body: object, code: str, status: int, message: str, explore: Explore
) -> None:
    with pytest.raises(RpcError, match=message) as refused:
        explore.post(method, body)  # type: ignore[arg-type]
    assert (refused.value.code, refused.value.status) == (code, status)


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"{", {"content_type": "application/json"}, 400, "invalid_argument"),
        (b"\x0a\x7f", {"content_type": "application/proto"}, 400, "invalid_argument"),
        (b"", {"content_type": "application/grpc"}, 415, ""),
        (b"", {"content_type": "application/connect+proto"}, 415, ""),
        (b"", {"content_type": "application/proto", "content_encoding": "zstd"},
         501, "unimplemented"),
        (b"x", {"content_type": "application/proto", "content_encoding": "gzip"},
         400, "invalid_argument"),
        (b"", {"content_type": "application/proto", "connect_protocol_version": "2"},
         400, "invalid_argument"),
        (bytes(17 << 20), {"content_type": "application/proto"}, 429, "resource_exhausted"),
    ],
)  # fmt: skip
def test_what_the_protocol_refuses(
    content: bytes, headers: dict[str, str], status: int, code: str, get: Get
) -> None:
    answer = get(SERVICE + "LabelNames", method="POST", content=content, **headers)
    assert answer.status_code == status
    assert (answer.json()["code"] if answer.content else "") == code


def test_reading_by_post_needs_no_token_on_loopback() -> None:
    with_token = client_of(node(), token="s3cret")
    assert DataSource(with_token).profile_types(FROM, TO)
    answer = with_token("/push.v1.PusherService/Push", method="POST")
    assert answer.status_code == 401
    beyond = client_of(node(), token="s3cret", require_token=True)
    with pytest.raises(RpcError):
        DataSource(beyond).profile_types(FROM, TO)
