"""huatuo_events_total: counts by probe, kind and container, of which there are only so many."""

from __future__ import annotations

from huatuo.enrich.event_counts import EventCounts
from huatuo.model.event import Container, Event


def event(name: str, probe: str = "net.drop") -> Event:
    owner = Container(name, "container", f"/{name}", pod="p", namespace="n") if name else None
    return Event("2026-01-01T00:00:00Z", probe, "drops", "a title", container=owner)


def counts(found: EventCounts) -> dict[tuple[str, ...], float]:
    metric = found.metric()
    labels = [metric.labels[name].values for name in ("probe", "kind", "container")]
    return dict(zip(zip(*labels, strict=True), metric.values.tolist(), strict=True))


def test_by_probe_kind_and_container() -> None:
    found = EventCounts()
    found.add([event("web"), event("web"), event("")])
    found.add([event("web", "net.retransmit")])
    assert counts(found) == {
        ("net.drop", "drops", "n/p/web"): 2,
        ("net.drop", "drops", ""): 1,
        ("net.retransmit", "drops", "n/p/web"): 1,
    }


def test_containers_without_events_for_longest_become_other() -> None:
    found = EventCounts(series=4)
    for number in range(10):
        found.add([event("busy"), event(f"c{number}")])
    kept = {key[2].rpartition("/")[2]: count for key, count in counts(found).items()}
    assert kept == {"busy": 10, "other": 8, "c8": 1, "c9": 1}
