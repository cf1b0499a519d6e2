"""Incidents and captures through the API."""

from __future__ import annotations

import pytest

from huatuo.model.incident import Capture, EvidenceMetric, FunctionShare, IncidentFile
from tests.contracts.incidents import incident
from tests.serve.conftest import Get, client_of
from tests.serve.fake_node import FakeNode

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def get() -> Get:
    node = FakeNode(empty=True)
    capture = Capture(1, "cpu", "web", "done", profiles={
        "cpu": [FunctionShare(HOSTILE, "prog", 0.9, 0.95, 0.1)]})  # fmt: skip
    metric = EvidenceMetric("rate(x)", "%", [1, 2, 3], [0.1, None, 0.9], 0.0, 0.2,
                            [False, False, True])  # fmt: skip
    node.store.incidents.put(
        incident(0, target=HOSTILE, capture=capture, metrics=[metric], summary="burn grew"),
        [IncidentFile("cpu.pb.gz", b"\x1f\x8b"), IncidentFile("cpu.svg", b"<svg>flames</svg>")],
    )
    node.store.incidents.put(incident(1))
    return client_of(node)


def test_incidents_newest_first_and_one_of_them(get: Get) -> None:
    listed = get("/api/v1/incidents?start=2023-11-14T22:00:00Z").json()
    assert [one["id"] for one in listed] == [2, 1]
    one = get("/api/v1/incidents/1").json()
    assert one["capture"]["profiles"]["cpu"][0]["own_ratio"] == 0.9
    assert one["files"] == ["cpu.pb.gz", "cpu.svg"]
    table = get("/api/v1/incidents?start=2023-11-14T22:00:00Z&format=csv").text
    assert len(table.splitlines()) == 3


@pytest.mark.parametrize(
    "path", ["/3", "/x", "/\u0661", "/99999999999999999999", "/1/files/passwd", "/1/files/..%2Fa"]
)
def test_what_is_not_there_is_404(get: Get, path: str) -> None:
    assert get(f"/api/v1/incidents{path}").status_code == 404


def test_files_and_the_report(get: Get) -> None:
    assert get("/api/v1/incidents/1/files/cpu.pb.gz").content == b"\x1f\x8b"
    page = get("/api/v1/incidents/1/report").text
    assert "<svg>flames</svg>" in page
    assert "burn grew" in page
    assert "<circle" in page
    assert HOSTILE not in page, "names from outside are escaped"
    assert "&lt;script&gt;" in page
    assert "http://" not in page.replace("http://www.w3.org/", "")


def test_captures_by_hand(get: Get) -> None:
    made = get("/api/v1/captures/start?plan=io&container=web", method="POST")
    assert made.status_code == 200
    assert (made.json()["plan"], made.json()["target"]) == ("io", "web")
    assert [job["id"] for job in get("/api/v1/captures").json()] == [1]
    assert get("/api/v1/captures/1/stop", method="POST").json() == {"stopped": True}
    assert get("/api/v1/captures/7/stop", method="POST").json() == {"stopped": False}
    assert get("/api/v1/captures/start?plan=rm", method="POST").status_code == 400


def test_captures_need_the_token_and_no_foreign_page() -> None:
    ask = client_of(FakeNode(empty=True), token="secret")
    path = "/api/v1/captures/start"
    assert ask(path, method="POST").status_code == 401
    assert ask(path, method="POST", authorization="Bearer secret").status_code == 200
    foreign = ask(path, method="POST", authorization="Bearer secret", origin="http://evil.example")
    assert foreign.status_code == 403


def test_incidents_of_a_container_are_those_it_suffered_or_is_suspected_of() -> None:
    """The made-up node has one: pg-0 suffered, etl-7 is suspected."""
    get = client_of(FakeNode())

    def found(name: str) -> list[str]:
        return [one["target"] for one in get(f"/api/v1/incidents?container={name}").json()]

    assert found("pg-0") == found("etl-7") == ["pg-0"]
    assert found("web-1") == []
