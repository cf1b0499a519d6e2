"""The text formats, read back by prometheus_client's parsers."""

from __future__ import annotations

import math
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from huatuo.export.exposition import openmetrics, text
from huatuo.model.meaning import MEANINGS, Role
from huatuo.model.metric import Column, Metric, edges

SLOTS = 27


def histogram(
    name: str = "huatuo_wait_seconds", containers: tuple[str, ...] = ("web", "db")
) -> Metric:
    slots = np.arange(SLOTS * len(containers), dtype=np.uint64).reshape(len(containers), SLOTS)
    sums = np.arange(len(containers)) + 0.25
    return Metric(name, Role.HISTOGRAM, "waiting", slots, {"container": Column(containers)}, sums)


def samples(metrics: list[Metric]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    found = {}
    for family in parse_text(text(metrics).decode()):
        for sample in family.samples:
            found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


def test_container_beside_a_pod_has_its_name_in_the_pod() -> None:
    rows = {("prod/shop/app", "shop", "prod"): 1.0, ("/batch/job", "", ""): 2.0}
    metric = Metric.of("huatuo_x", Role.GAUGE, "", rows, ["container", "pod", "namespace"])
    pair = Metric.of("huatuo_y", Role.GAUGE, "", {("prod/shop/app",): 3.0}, ["victim"])
    assert samples([metric, pair]) == {
        ("huatuo_x", (("container", "app"), ("namespace", "prod"), ("pod", "shop"))): 1.0,
        ("huatuo_x", (("container", "/batch/job"), ("namespace", ""), ("pod", ""))): 2.0,
        ("huatuo_y", (("victim", "prod/shop/app"),)): 3.0,
    }


def test_counters_and_gauges_read_back() -> None:
    metrics = [
        Metric.of("huatuo_kills_total", Role.COUNTER, "kills", {("web",): 3.0}, ["container"]),
        Metric.of("huatuo_load", Role.GAUGE, "load", {(): 0.25}),
    ]
    assert samples(metrics) == {
        ("huatuo_kills_total", (("container", "web"),)): 3.0,
        ("huatuo_load", ()): 0.25,
    }
    families = {f.name: f for f in parse_text(text(metrics).decode())}
    assert families["huatuo_kills"].type == "counter"
    assert families["huatuo_load"].type == "gauge"
    assert families["huatuo_load"].documentation == "load"


def test_histogram_is_cumulative_with_edges_in_seconds() -> None:
    metric = histogram()
    found = samples([metric])
    bounds = [*map(repr, edges(SLOTS)), "+Inf"]
    for row, container in enumerate(("web", "db")):
        cumulative = np.cumsum(metric.values[row]).tolist()
        for bound, count in zip(bounds, cumulative, strict=True):
            labels = (("container", container), ("le", bound))
            assert found["huatuo_wait_seconds_bucket", labels] == count
        labels = (("container", container),)
        assert found["huatuo_wait_seconds_count", labels] == cumulative[-1]
        assert found["huatuo_wait_seconds_sum", labels] == row + 0.25
    assert edges(SLOTS)[0] == 2**-20
    assert edges(SLOTS)[-1] == 32


def test_histogram_without_labels() -> None:
    metric = Metric(
        "h_seconds", Role.HISTOGRAM, "h", np.ones((1, 3), np.uint64), {}, np.array([1.5])
    )
    assert text([metric]).decode().splitlines()[2:] == [
        f'h_seconds_bucket{{le="{2.0**-20}"}} 1',
        f'h_seconds_bucket{{le="{2.0**-19}"}} 2',
        'h_seconds_bucket{le="+Inf"} 3',
        "h_seconds_sum 1.5",
        "h_seconds_count 3",
    ]


def test_two_probes_in_one_family_declare_it_once() -> None:
    parts = [
        Metric.of("huatuo_x_total", Role.COUNTER, "x", {("web",): 1.0}, ["container"]),
        Metric.of("huatuo_y", Role.GAUGE, "y", {(): 1.0}),
        Metric.of("huatuo_x_total", Role.COUNTER, "x", {("sda",): 2.0}, ["device"]),
    ]
    page = text(parts).decode()
    assert page.count("# TYPE huatuo_x_total") == 1
    assert page.index('device="sda"') < page.index("huatuo_y")


def test_conflicting_kinds_keep_the_first(caplog: pytest.LogCaptureFixture) -> None:
    parts = [
        Metric.of("huatuo_clash", Role.GAUGE, "x", {(): 1.0}),
        Metric.of("huatuo_clash", Role.COUNTER, "x", {(): 2.0}),
    ]
    assert samples(parts) == {("huatuo_clash", ()): 1.0}
    assert "huatuo_clash is both gauge and counter" in caplog.text


def test_empty_families_are_left_out() -> None:
    empty = Metric.of("huatuo_none", Role.GAUGE, "none", {}, ["device"])
    assert text([empty]) == b""
    assert openmetrics([empty]) == b"# EOF\n"


def test_labels_changing_between_scrapes_are_noticed() -> None:
    before = Metric.of("huatuo_z", Role.GAUGE, "z", {("a",): 1.0, ("b",): 2.0}, ["device"])
    after = Metric.of("huatuo_z", Role.GAUGE, "z", {("a",): 1.0, ("c",): 2.0}, ["device"])
    fewer = Metric.of("huatuo_z", Role.GAUGE, "z", {("c",): 2.0}, ["device"])
    renamed = Metric.of("huatuo_z", Role.GAUGE, "z", {("c",): 2.0}, ["disk"])
    for metric in (before, after, fewer, renamed, before):
        label = next(iter(metric.labels))
        values = metric.labels[label].values
        assert {key[1] for key in samples([metric])} == {((label, value),) for value in values}


def test_unresolved_identities_are_shown_as_numbers() -> None:
    column = Column(np.array([7, 9], np.uint64), MEANINGS["cgroup_id_t"])
    metric = Metric("huatuo_c", Role.GAUGE, "c", np.array([1.0, 2.0]), {"container": column})
    assert ("huatuo_c", (("container", "7"),)) in samples([metric])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (3.0, "3"),
        (-2.0, "-2"),
        (1e15, "1000000000000000"),
        (2.0**60, "1152921504606846976"),
        (1e22, "10000000000000000000000"),
        (0.1, "0.1"),
        (1e-9, "1e-09"),
        (math.nan, "NaN"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
    ],
)
@pytest.mark.parametrize("neighbour", [1.0, 0.5])
def test_numbers(value: float, shown: str, neighbour: float) -> None:
    metric = Metric.of("n", Role.GAUGE, "", {("a",): value, ("b",): neighbour}, ["l"])
    assert f'n{{l="a"}} {shown}\n' in text([metric]).decode()


@given(st.text(), st.text(), st.floats(allow_nan=False))
def test_any_text_and_value_reads_back(label: str, help_text: str, value: float) -> None:
    metric = Metric.of("m", Role.GAUGE, help_text, {(label,): value}, ["l"])
    (family,) = parse_text(text([metric]).decode())
    (sample,) = family.samples
    assert sample.labels == {"l": label}
    assert sample.value == value


def test_openmetrics_reads_back() -> None:
    metrics = [
        Metric.of(
            "huatuo_kills_total", Role.COUNTER, 'the "kills"', {("web",): 3.0}, ["container"]
        ),
        Metric.of("huatuo_odd", Role.COUNTER, "no suffix", {(): 1.0}),
        Metric.of("huatuo_load", Role.GAUGE, "load", {(): 0.25}),
        histogram(),
    ]
    families = {f.name: f for f in parse_openmetrics(openmetrics(metrics).decode())}
    assert families["huatuo_kills"].type == "counter"
    assert families["huatuo_kills"].documentation == 'the "kills"'
    assert families["huatuo_kills"].samples[0].value == 3
    assert families["huatuo_odd"].type == "unknown"
    assert families["huatuo_wait_seconds"].type == "histogram"
    assert len(families["huatuo_wait_seconds"].samples) == 2 * (SLOTS + 2)


def test_promtool_accepts_the_page() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    page = text(
        [
            Metric.of(
                "huatuo_kills_total", Role.COUNTER, "kills", {('we"b\n',): 3.0}, ["container"]
            ),
            histogram(),
        ]
    )
    subprocess.run([promtool, "check", "metrics"], input=page, check=True, timeout=30)
