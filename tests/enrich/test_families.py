"""Metric families: ids become names, rows of one owner are summed, counters never go back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from huatuo.enrich.enricher import Enricher
from huatuo.model.meaning import MEANINGS, Role
from huatuo.model.metric import Column, Metric
from tests.enrich.conftest import Layout

A, B = "a" * 64, "b" * 64
CGROUP, BLKCG = MEANINGS["cgroup_id_t"], MEANINGS["blkcg_id_t"]


@pytest.fixture
def layout(make_layout: Callable[[str], Layout]) -> Layout:
    return make_layout("v2")


@pytest.fixture
def enricher(layout: Layout) -> Enricher:
    return Enricher(layout.host)


def counter(values: Sequence[float], **labels: Column) -> Metric:
    return Metric("huatuo_x_total", Role.COUNTER, "help", np.array(values, np.float64), labels)


def ids(*values: int) -> Column:
    return Column(np.array(values, np.uint64), CGROUP)


def table(metric: Metric) -> dict[tuple[str, ...], Any]:
    """Label values → value."""
    columns = [column.values for column in metric.labels.values()]
    keys = [tuple(str(value) for value in key) for key in zip(*columns, strict=True)]
    assert len(set(keys)) == len(keys), "the same labels twice"
    return dict(zip(keys, metric.values.tolist(), strict=True))


def test_cgroups_of_one_owner_are_summed(layout: Layout, enricher: Enricher) -> None:
    outer, inner = layout.cgroup(f"/docker/{A}"), layout.cgroup(f"/docker/{A}/inner")
    ssh = layout.cgroup("/system.slice/ssh.service")
    (found,) = enricher.metrics([counter([1, 2, 4], container=ids(inner, ssh, outer))])
    assert list(found.labels) == ["container"]
    assert table(found) == {(A[:12],): 5.0, ("ssh.service",): 2.0}


def test_pod_and_namespace_only_where_there_are_any(layout: Layout, enricher: Enricher) -> None:
    annotations = {
        "io.kubernetes.cri.sandbox-name": "shop",
        "io.kubernetes.cri.sandbox-namespace": "prod",
        "io.kubernetes.cri.container-name": "app",
    }
    state = f"run/containerd/io.containerd.runtime.v2.task/k8s.io/{A}/config.json"
    layout.file(state, {"annotations": annotations})
    app = layout.cgroup(f"/kubepods/pod1/{A}")
    ssh = layout.cgroup("/system.slice/ssh.service")
    (found,) = enricher.metrics([counter([1, 2], container=ids(app, ssh))])
    assert list(found.labels) == ["container", "pod", "namespace"]
    assert table(found) == {("prod/shop/app", "shop", "prod"): 1.0, ("ssh.service", "", ""): 2.0}
    (pair,) = enricher.metrics([counter([3], victim=ids(app), culprit=ids(ssh))])
    assert table(pair) == {("prod/shop/app", "ssh.service"): 3.0}


def test_histograms_and_gauges_are_summed_too(layout: Layout, enricher: Enricher) -> None:
    outer, inner = layout.cgroup(f"/docker/{A}"), layout.cgroup(f"/docker/{A}/inner")
    labels = {"container": ids(outer, inner)}
    slots = np.array([[1, 0, 2], [0, 5, 1]], np.uint64)
    histogram = Metric("h", Role.HISTOGRAM, "", slots, labels, np.array([0.5, 1.5]))
    gauge = Metric("g", Role.GAUGE, "", np.array([7.0, 1.0]), labels)
    summed, added = enricher.metrics([histogram, gauge])
    assert summed.values.tolist() == [[1, 5, 3]]
    assert summed.values.dtype == np.uint64
    assert summed.sums is not None
    assert summed.sums.tolist() == [2.0]
    assert table(added) == {(A[:12],): 8.0}


def test_zero_and_unseen_ids_are_other(enricher: Enricher) -> None:
    (found,) = enricher.metrics([counter([1, 2, 4], container=ids(0, 999_999_999, 999_999_998))])
    assert table(found) == {("other",): 7.0}


def test_plain_labels_and_devices(layout: Layout, enricher: Enricher) -> None:
    layout.file("sys/devices/virtual/block/vda/uevent", "")
    (layout.host.sys / "dev/block").mkdir(parents=True)
    (layout.host.sys / "dev/block/253:5").symlink_to("../../devices/virtual/block/vda")
    layout.file("sys/class/net/eth0/ifindex", "7\n")
    disks = Column(np.array([253 << 20 | 5, 8 << 20], np.uint32), MEANINGS["disk_t"])
    interfaces = Column(np.array([7, 9], np.uint32), MEANINGS["ifindex_t"])
    numbers = Column(np.array([3, 4], np.uint32))
    (found,) = enricher.metrics(
        [counter([1, 2], device=disks, dev=interfaces, cpu=numbers, operation=Column(["r", "w"]))]
    )
    assert table(found) == {("vda", "eth0", "3", "r"): 1.0, ("8:0", "if9", "4", "w"): 2.0}


def test_no_labels_and_no_rows(enricher: Enricher) -> None:
    plain = Metric.of("up", Role.GAUGE, "", {(): 1.0})
    empty = counter([], container=ids())
    nothing = Metric(
        "h", Role.HISTOGRAM, "", np.zeros((0, 3), np.uint64), empty.labels, np.zeros(0)
    )
    found = enricher.metrics([plain, empty, nothing])
    assert [len(metric) for metric in found] == [1, 0, 0]
    assert found[0] is plain
    assert list(found[1].labels) == ["container"]


def test_packet_without_socket_counts_for_its_network_namespace(
    layout: Layout, enricher: Enricher
) -> None:
    layout.cgroup(f"/docker/{A}")
    layout.process(100, f"/docker/{A}", 4026532100)
    cgroup = layout.cgroup(f"/docker/{B}")
    spaces = Column(
        np.array([4026532100, 4026531840, 4026539999, 0], np.uint32), MEANINGS["netns_t"]
    )
    enricher._inventory.refresh()
    (found,) = enricher.metrics(
        [counter([1, 2, 4, 8], container=ids(0, 0, 0, cgroup), netns=spaces)]
    )
    assert list(found.labels) == ["container"]
    assert table(found) == {(A[:12],): 1.0, ("/",): 2.0, ("other",): 4.0, (B[:12],): 8.0}


def test_total_keeps_what_a_vanished_cgroup_had_counted(layout: Layout, enricher: Enricher) -> None:
    outer, inner = layout.cgroup(f"/docker/{A}"), layout.cgroup(f"/docker/{A}/inner")
    enricher.metrics([counter([10, 5], container=ids(outer, inner))])
    (gone,) = enricher.metrics([counter([11], container=ids(outer))])
    assert table(gone) == {(A[:12],): 16.0}
    (new,) = enricher.metrics([counter([12, 3], container=ids(outer, inner))])
    assert table(new) == {(A[:12],): 20.0}


def test_total_survives_a_probe_that_starts_anew(layout: Layout, enricher: Enricher) -> None:
    outer = layout.cgroup(f"/docker/{A}")
    enricher.metrics([counter([10], container=ids(outer))])
    (found,) = enricher.metrics([counter([2], container=ids(outer))])
    assert table(found) == {(A[:12],): 12.0}


def test_owner_whose_rows_are_gone_is_not_reported(layout: Layout, enricher: Enricher) -> None:
    a, b = layout.cgroup(f"/docker/{A}"), layout.cgroup(f"/docker/{B}")
    enricher.metrics([counter([10, 5], container=ids(a, b))])
    (found,) = enricher.metrics([counter([11], container=ids(a))])
    assert table(found) == {(A[:12],): 11.0}


def test_rows_of_owners_forgotten_long_ago_are_left_out(layout: Layout, enricher: Enricher) -> None:
    a, b = layout.cgroup(f"/docker/{A}"), layout.cgroup(f"/docker/{B}")
    enricher.metrics([counter([10, 5], container=ids(a, b))])
    layout.remove(f"/docker/{B}")
    for seconds in (1, 601):
        layout.host.pass_seconds(seconds)
        enricher._inventory.refresh()
    (found,) = enricher.metrics([counter([11, 5], container=ids(a, b))])
    assert table(found) == {(A[:12],): 11.0}
    histogram = Metric(
        "h", Role.HISTOGRAM, "", np.ones((2, 3), np.uint64), {"container": ids(a, b)}, np.ones(2)
    )
    (found,) = enricher.metrics([histogram])
    assert table(found) == {(A[:12],): [1, 1, 1]}


STEPS = st.lists(
    st.dictionaries(st.integers(0, 4), st.integers(1, 9), max_size=5), min_size=2, max_size=8
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=STEPS, start_anew=st.sets(st.integers(0, 7)))
def test_counters_never_go_backwards(
    make_layout: Callable[[str], Layout], steps: list[dict[int, int]], start_anew: set[int]
) -> None:
    """Rows come, grow, vanish and restart; an owner's total is all that was ever counted."""
    layout = _shared_layout(make_layout)
    paths = [f"/docker/{A}", f"/docker/{A}/x", f"/docker/{A}/y", f"/docker/{B}", "/batch"]
    inodes = [layout.cgroup(path) for path in paths]
    owners = [A[:12], A[:12], A[:12], B[:12], "/batch"]
    enricher = Enricher(layout.host)
    rows: dict[int, float] = {}
    counted: dict[str, float] = {}
    for at, step in enumerate(steps):
        if at in start_anew:
            rows.clear()
        rows = {key: rows.get(key, 0.0) for key in step}  # rows not named vanish
        for key, growth in step.items():
            # a row that starts anew is noticed if it is lower than before
            rows[key] += growth + (1000 if rows[key] else 0)
            counted[owners[key]] = counted.get(owners[key], 0.0)
        found = enricher.metrics(
            [counter(list(rows.values()), container=ids(*(inodes[key] for key in rows)))]
        )
        for (owner,), total in table(found[0]).items():
            assert total >= counted[owner]
            counted[owner] = total


_LAYOUTS: list[Layout] = []


def _shared_layout(make_layout: Callable[[str], Layout]) -> Layout:
    """One tree for all examples of a property."""
    if not _LAYOUTS or not _LAYOUTS[0].host.root.exists():
        _LAYOUTS[:] = [make_layout("v2")]
    return _LAYOUTS[0]
