from __future__ import annotations

import csv
import io
import json

import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from huatuo.model.event import Event
from huatuo.serve.answers import ContainerRow, MetricAnswer, Overview, Problem
from huatuo.serve.endpoint import Endpoint, File
from huatuo.serve.openapi import document
from huatuo.serve.routes import all_endpoints
from tests.serve.conftest import Get, client_of
from tests.serve.fake_node import FakeNode

WAIT = "huatuo_cpu_sched_wait_seconds"
NAMED = {"/metrics/query": f"?name={WAIT}", "/containers/application": "?name=pg-0"}
QUERY = "/api/v1/metrics/query?start=-15m&name="


@pytest.mark.parametrize("endpoint", all_endpoints(), ids=lambda endpoint: endpoint.path)
def test_every_endpoint_answers_its_type(endpoint, get: Get) -> None:  # type: ignore[no-untyped-def]
    answer = asked(endpoint, get)
    assert answer.status_code == 200, answer.text
    if endpoint.answer is File:
        assert answer.headers["content-disposition"].startswith("attachment; filename=")
        return
    msgspec.json.decode(answer.content, type=endpoint.answer)
    assert answer.headers["content-type"] == "application/json"


def asked(endpoint: Endpoint, get: Get) -> httpx.Response:
    path = "/api/v1" + endpoint.path.replace("{id}", "1").replace("{name}", "cpu.pb.gz")
    return get(
        path + NAMED.get(endpoint.path, ""), method=endpoint.method, content=b"main;work 42\n"
    )


@pytest.mark.parametrize("endpoint", all_endpoints(), ids=lambda endpoint: endpoint.path)
def test_every_endpoint_answers_an_empty_node(endpoint, get_empty: Get) -> None:  # type: ignore[no-untyped-def]
    answer = asked(endpoint, get_empty)
    assert answer.status_code in (200, 404)
    if answer.status_code == 404:
        assert msgspec.json.decode(answer.content, type=Problem).hint


@pytest.mark.parametrize(
    "path", [e.path for e in all_endpoints() if e.table and "query" not in e.path]
)
def test_tables_come_as_csv(path: str, get: Get) -> None:
    answer = get(f"/api/v1{path}{NAMED.get(path, '?')}&format=csv")
    rows = list(csv.reader(io.StringIO(answer.text)))
    assert answer.headers["content-type"].startswith("text/csv")
    assert len(rows) > 1
    assert {len(row) for row in rows} == {len(rows[0])}


@pytest.mark.parametrize("form", ["raw", "rate", "quantiles", "heatmap"])
def test_a_histogram_in_every_form(form: str, get: Get) -> None:
    answer = get(f"{QUERY}{WAIT}&as={form}&points=50")
    found = msgspec.json.decode(answer.content, type=MetricAnswer)
    column = {"raw": "values", "rate": "values", "quantiles": "p99", "heatmap": "slots"}[form]
    assert all(len(getattr(series, column)) == len(found.times) for series in found.series)
    assert list(csv.reader(io.StringIO(get(f"{QUERY}{WAIT}&as={form}&format=csv").text)))[1]


def test_a_heatmap_counts_every_observation(get: Get) -> None:
    found = msgspec.json.decode(get(f"{QUERY}{WAIT}&as=heatmap").content, type=MetricAnswer)
    counted = sum(sum(row) for row in found.series[0].slots if row)
    assert counted == 300 * 6 * len(found.times)


def test_a_rate_is_per_second(get: Get) -> None:
    name = "huatuo_cpu_sched_delay_seconds_total"
    answer = get(f"{QUERY}{name}&label.victim=redis-2")
    found = msgspec.json.decode(answer.content, type=MetricAnswer)
    assert found.unit == "seconds/second"
    (series,) = found.series
    assert series.labels == {"victim": "redis-2", "culprit": "pg-0"}
    assert all(value == pytest.approx(0.01, rel=0.01) for value in series.values)


def test_grouping_and_top(get: Get) -> None:
    name = "huatuo_cpu_sched_delay_seconds_total"
    answer = get(f"{QUERY}{name}&by=victim&top=1")
    found = msgspec.json.decode(answer.content, type=MetricAnswer)
    assert [series.labels for series in found.series] == [{"victim": "pg-0"}]
    assert found.dropped == 2


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/nope", 404, "not_found"),
        ("/api/v1/events/99999999", 404, "no_such_event"),
        ("/api/v1/events/first", 404, "no_such_event"),
        ("/api/v1/events?start=foo", 400, "bad_parameter"),
        ("/api/v1/events?limit=0", 400, "bad_parameter"),
        ("/api/v1/events?contaner=x", 400, "unknown_parameter"),
        ("/api/v1/metrics/query", 400, "bad_parameter"),
        ("/api/v1/metrics/query?name=nope", 404, "no_such_metric"),
        (QUERY + "huatuo_net_drop_packets_total&as=heatmap", 400, "bad_parameter"),
        ("/api/v1/probes?format=xml", 400, "bad_parameter"),
        ("/api/v1/events/stream?last_id=x", 400, "bad_parameter"),
        ("/ui/x/nope.js", 404, "no_such_file"),
    ],
)
def test_errors_say_what_and_what_to_do(path: str, status: int, error: str, get: Get) -> None:
    answer = get(path)
    problem = msgspec.json.decode(answer.content, type=Problem)
    assert (answer.status_code, problem.error) == (status, error)
    assert problem.what


def test_event_filters_and_pages(get: Get) -> None:
    first = get("/api/v1/events?limit=3&probe=net.drop").json()
    assert {event["probe"] for event in first["events"]} == {"net.drop"}
    second = get(f"/api/v1/events?limit=3&probe=net.drop&before={first['next_before']}").json()
    assert second["events"][0]["id"] < first["events"][-1]["id"]
    by_field = get("/api/v1/events?field.reason=NO_SOCKET&limit=1").json()
    assert by_field["events"][0]["fields"]["reason"] == "NO_SOCKET"


def test_facets_and_histogram_agree(get: Get) -> None:
    facets = get("/api/v1/events/facets?fields=probe").json()["facets"]["probe"]
    counts = get("/api/v1/events/histogram?buckets=10").json()["counts"]
    assert {one["value"]: one["count"] for one in facets} == {k: sum(v) for k, v in counts.items()}


def test_containers_carry_what_they_suffer(get: Get) -> None:
    rows = msgspec.json.decode(
        get("/api/v1/containers?start=-15m").content, type=list[ContainerRow]
    )
    assert {row.container.name for row in rows[:2]} == {"pg-0", "etl-7"}  # victim and culprit
    (worst,) = [row for row in rows if row.container.name == "pg-0"]
    assert worst.suffered_ratio is not None
    assert worst.memory_bytes is None  # no such family here: empty, not wrong
    assert worst.cpu_cores == pytest.approx(0.2, rel=0.5)


def test_the_verdict_names_victim_and_culprit(get: Get) -> None:
    found = msgspec.json.decode(get("/api/v1/overview?start=-15m").content, type=Overview)
    assert found.status == "bad"
    assert any("`pg-0` waits" in f.text and "`etl-7` causes" in f.text for f in found.findings)
    (softirq,) = [row for row in found.rows if row.subsystem == "interrupts"]
    assert "cpu.softirq shed: over budget" in softirq.missing[0]


def test_an_unmeasured_node_is_unknown_not_well(get_empty: Get) -> None:
    found = msgspec.json.decode(get_empty("/api/v1/overview").content, type=Overview)
    assert found.status == "unknown"
    assert {row.status for row in found.rows} == {"unavailable"}


def test_prometheus_reads_the_metrics(get: Get) -> None:
    answer = get("/metrics")
    families = {family.name for family in text_string_to_metric_families(answer.text)}
    assert WAIT in families


def test_healthz(get: Get) -> None:
    assert get("/healthz").json() == {"status": "ok"}


def test_openapi_describes_every_endpoint(get: Get) -> None:
    found = get("/api/v1/openapi.json").json()
    assert set(found["paths"]) >= {"/api/v1" + e.path for e in all_endpoints()}
    assert "/api/v1/events/stream" in found["paths"]
    text = json.dumps(found)
    names = set(found["components"]["schemas"])
    for part in text.split('"#/components/schemas/')[1:]:
        assert part.split('"')[0] in names
    assert "Event" in names
    assert document(all_endpoints(), all_endpoints()[0])["openapi"] == "3.1.0"
    taken = found["paths"]["/api/v1/profiles/import"]["post"]
    assert "application/octet-stream" in taken["requestBody"]["content"]
    file = found["paths"]["/api/v1/profiles/export"]["get"]["responses"]["200"]["content"]
    assert file == {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


def test_the_api_page_is_for_people(get: Get) -> None:
    answer = get("/api")
    assert "GET" in answer.text
    assert "/api/v1/events/stream" in answer.text


def test_a_fault_of_ours_is_answered_in_form() -> None:
    class Broken(FakeNode):
        def health(self):  # type: ignore[no-untyped-def]
            raise ZeroDivisionError

    answer = client_of(Broken(empty=True))("/api/v1/health")
    assert answer.status_code == 500
    assert msgspec.json.decode(answer.content, type=Problem).error == "fault"


def test_an_event_survives_the_wire(node: FakeNode, get: Get) -> None:
    found = msgspec.json.decode(get("/api/v1/events/1").content, type=Event)
    assert found == node.store.event(1)
