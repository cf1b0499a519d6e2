"""Containers that are not watched: no records of theirs, and totals of metrics that stay right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.enricher import Enricher
from huatuo.enrich.watched import Watched
from huatuo.errors import ConfigError
from huatuo.model.meaning import Role
from huatuo.model.metric import Column, Metric
from huatuo.model.record import RecordBatch
from huatuo.probes.block.latency import Latency
from huatuo.probes.net.drop import Drop
from tests.enrich.conftest import Layout
from tests.enrich.test_families import counter, ids, table

A, B, C = "a" * 64, "b" * 64, "c" * 64
Drop.name, Latency.name = "net.drop", "block.latency"


@pytest.fixture
def layout(make_layout: Callable[[str], Layout]) -> Layout:
    return make_layout("v2")


def enricher_of(layout: Layout, watched: Watched) -> Enricher:
    inventory = Inventory(layout.host)
    watched.follow(inventory)
    return Enricher(layout.host, inventory, watched)


def drops(*cgroups: int, netns: int = 0) -> RecordBatch:
    (ring, schema), *_ = Drop.event_schemas().items()
    rows = np.zeros(len(cgroups), schema.dtype)
    rows["cgroup"] = cgroups
    rows["netns"] = netns
    return RecordBatch("net.drop", ring, schema, rows)


def test_what_others_use_is_summed_as_other(layout: Layout) -> None:
    a, b = layout.cgroup(f"/docker/{A}"), layout.cgroup(f"/docker/{B}")
    ssh = layout.cgroup("/system.slice/ssh.service")
    enricher = enricher_of(layout, Watched(include="name=aaaa*"))
    (found,) = enricher.metrics([counter([1, 2, 4, 8], container=ids(a, b, ssh, 0))])
    assert table(found) == {(A[:12],): 1.0, ("other",): 10.0, ("ssh.service",): 4.0}
    (pair,) = enricher.metrics([counter([3], victim=ids(a), culprit=ids(b))])
    assert table(pair) == {(A[:12], "other"): 3.0}


def test_what_does_not_add_up_is_left_out(layout: Layout) -> None:
    a, b, c = (layout.cgroup(f"/docker/{name}") for name in (A, B, C))
    enricher = enricher_of(layout, Watched(exclude="name=bbb*|ccc*"))
    labels = {"container": ids(a, b, c)}
    values = np.array([1.0, 2.0, 4.0])
    found = enricher.metrics(
        Metric(f"huatuo_memory_cgroup_{name}", Role.GAUGE, "", values.copy(), labels)
        for name in ("used_bytes", "limit_bytes", "busy_ratio", "peak_bytes")
    )
    used, *others = map(table, found)
    assert used == {(A[:12],): 1.0, ("other",): 6.0}
    assert others == [{(A[:12],): 1.0}] * 3


def test_a_probe_of_its_own_rules(layout: Layout) -> None:
    a, b = layout.cgroup(f"/docker/{A}"), layout.cgroup(f"/docker/{B}")
    watched = Watched(exclude="name=ccc*", by_probe={"net.drop": "name=aaa*"})
    enricher = enricher_of(layout, watched)
    families = [
        Metric(name, Role.COUNTER, "", np.array([1.0, 2.0]), {"container": ids(a, b)})
        for name in ("huatuo_net_drop_packets_total", "huatuo_net_drops_total")
    ]
    own, others = enricher.metrics(families)
    assert table(own) == {(A[:12],): 1.0, ("other",): 2.0}
    assert table(others) == {(A[:12],): 1.0, (B[:12],): 2.0}
    assert len(watched.kept(drops(a, b, b), Drop)) == 1
    assert set(watched.excluded(Drop) or ()) == {b}
    assert watched.excluded(Latency) == frozenset()


def test_records_are_left_out_whoever_says_whose_they_are(layout: Layout) -> None:
    a, b = layout.cgroup(f"/docker/{A}"), layout.cgroup(f"/docker/{B}")
    layout.process(7, f"/docker/{B}", 4026532999)
    watched = Watched(exclude="name=bbb*")
    enricher_of(layout, watched)
    assert watched.kept(drops(a, b, 0, a), Drop).rows["cgroup"].tolist() == [a, 0, a]
    assert len(watched.kept(drops(0, netns=4026532999), Drop)) == 0  # its network namespace does
    assert len(watched.kept(drops(0, netns=4026531840), Drop)) == 1  # the host's


def test_without_rules_nothing_is_asked(layout: Layout) -> None:
    watched = Watched()
    watched.follow(Inventory(layout.host))
    batch = drops(1, 2)
    assert watched.kept(batch, Drop) is batch
    assert watched.excluded(Drop) is None


def test_the_kernel_gets_ids_of_the_hierarchy_that_it_counts_in(
    make_layout: Callable[[str], Layout],
) -> None:
    layout = make_layout("hybrid")
    memory, block = layout.cgroup(f"/docker/{A}"), layout.cgroup(f"/docker/{A}", "blkio")
    layout.cgroup(f"/docker/{B}")
    inventory = Inventory(layout.host)
    watched = Watched(exclude="name=aaa*")
    watched.follow(inventory)
    inventory.refresh()
    inventory.owner_of_blkcg(block)
    assert memory != block
    assert watched.excluded(Drop) == {memory}
    assert watched.excluded(Latency) == {block}


def test_rules_are_asked_again_when_more_is_known(layout: Layout) -> None:
    a = layout.cgroup(f"/docker/{A}")
    inventory = Inventory(layout.host)
    watched = Watched(include="image=*nginx*")
    watched.follow(inventory)
    inventory.refresh()
    assert watched.excluded(Drop) == {a}
    layout.file(
        f"var/lib/docker/containers/{A}/config.v2.json",
        {"Name": "/web", "Config": {"Image": "nginx:1"}, "State": {"StartedAt": "2026-01-01"}},
    )
    layout.host.pass_seconds(1)
    inventory.refresh()
    assert inventory.owner(a).image == "nginx:1"
    assert watched.excluded(Drop) == frozenset()


def test_mistakes_name_where_they_are() -> None:
    with pytest.raises(ConfigError, match=r"\[containers\] exclude: \"nam\": unknown"):
        Watched(exclude="nam=x")
    with pytest.raises(ConfigError, match=r"\[net.drop\] containers: \"nam\""):
        Watched(by_probe={"net.drop": "nam=x"})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    rows=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1000)), min_size=1, max_size=20),
    included=st.sets(st.sampled_from("abcd")),
    later=st.integers(0, 1000),
)
def test_totals_do_not_depend_on_the_rules(
    layout: Layout, rows: list[tuple[int, int]], included: set[str], later: int
) -> None:
    """Whatever is watched, the sum over all labels is what the kernel counted, and only names of
    watched containers stand there."""
    cgroups = [layout.cgroup(f"/docker/{letter * 64}") for letter in "abcd"]
    cgroups.append(layout.cgroup("/system.slice/ssh.service"))
    rules = " or ".join(f"name={letter}*" for letter in sorted(included)) or "name=nobody"
    enricher = enricher_of(layout, Watched(include=rules))
    column = Column(np.array([cgroups[at] for at, _ in rows], np.uint64), ids(1).meaning)
    values = np.array([value for _, value in rows], np.float64)
    for growth in (0, later):
        metric = Metric("huatuo_x_total", Role.COUNTER, "", values + growth, {"container": column})
        (found,) = enricher.metrics([metric])
        assert found.values.sum() == (values + growth).sum()
    allowed = {letter * 12 for letter in included} | {"other", "ssh.service"}
    assert set(found.labels["container"].values) <= allowed
