"""Two pods whose containers have the same name are two rows, with their own numbers and events."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
import pytest

from huatuo.model.event import Container, Event
from huatuo.model.meaning import Role
from huatuo.model.metric import Metric
from huatuo.serve.answers import ContainerRow
from huatuo.serve.stream import matches
from huatuo.store.base import EventQuery
from huatuo.store.block import flatten
from tests.serve.conftest import Get, client_of
from tests.serve.fake_node import FakeNode, rfc3339

A = Container("app", "container", "/kubepods/a", pod="web-a", namespace="shop")
B = Container("app", "container", "/kubepods/b", pod="web-b", namespace="shop")
GONE = Container("app", "container", "/old", pod="web-a", namespace="shop", gone="2026-01-02")
LABELS = ("container", "pod", "namespace")


class Pods(FakeNode):
    def __init__(self) -> None:
        super().__init__(empty=True)
        now = time.time_ns()
        for back in (30, 20, 10):
            cores = {(A.full_name, "web-a", "shop"): 1.0, (B.full_name, "web-b", "shop"): 0.25}
            used = {key: value * (100 - back) for key, value in cores.items()}
            run = Metric.of("huatuo_cpu_sched_run_seconds_total", Role.COUNTER, "", used, LABELS)
            self.store.append_metrics(now - back * 1_000_000_000, [run])
        event = Event(rfc3339(now - 1_000_000_000), "memory.oom", "kills", "killed", container=B)
        self.store.append_events([event])

    def containers(self) -> list[Container]:
        return [A, B, GONE]


@pytest.fixture
def get() -> Iterator[Get]:
    yield client_of(Pods())


def test_rows(get: Get) -> None:
    answer = get("/api/v1/containers?start=-15m").content
    rows = {row.container.pod: row for row in msgspec.json.decode(answer, type=list[ContainerRow])}
    assert sorted(rows) == ["web-a", "web-b"]
    assert rows["web-a"].cpu_cores == pytest.approx(1.0)
    assert rows["web-b"].cpu_cores == pytest.approx(0.25)
    assert (rows["web-a"].events, rows["web-b"].events) == (0, 1)
    assert not rows["web-a"].container.gone  # its predecessor of the same name is


def test_one_of_them_by_name(get: Get) -> None:
    (row,) = get("/api/v1/containers?start=-15m&name=shop/web-b/app").json()
    assert row["container"]["pod"] == "web-b"
    events = "/api/v1/events?start=-15m&container="
    assert len(get(f"{events}shop/web-b/app").json()["events"]) == 1
    assert get(f"{events}shop/web-a/app").json()["events"] == []


def test_stored_and_live_events_have_the_same_key() -> None:
    event = Event("2026-01-02T03:04:05Z", "memory.oom", "kills", "killed", container=A)
    flat = flatten(msgspec.to_builtins(event))
    assert flat["container"] == A.full_name == "shop/web-a/app"
    assert flat["container.name"] == "app"
    assert matches(EventQuery(0, 0, container="shop/web-a/app"), event)
    assert not matches(EventQuery(0, 0, container="app"), event)
