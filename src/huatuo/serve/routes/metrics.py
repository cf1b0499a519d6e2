"""Stored metrics: which there are, and one of them over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from huatuo.serve.answers import MetricAnswer, MetricFamily
from huatuo.serve.endpoint import END, START, Context, Endpoint, Table
from huatuo.serve.params import Param, rfc3339
from huatuo.serve.reader import FORMS, answer, unit_of
from huatuo.serve.refusal import Refusal
from huatuo.store.base import MetricQuery

__all__ = ["ENDPOINTS"]


def _families(context: Context) -> list[MetricFamily]:
    return [
        MetricFamily(name, kind, unit_of(name), text, labels)
        for name, kind, text, labels in sorted(context.store.metric_names())
    ]


def _family_table(families: list[MetricFamily]) -> Table:
    return ("name", "kind", "unit", "help", "labels"), (
        (f.name, f.kind, f.unit, f.help, " ".join(f.labels)) for f in families
    )


def _query(context: Context) -> MetricAnswer:
    query = context.query
    if not query.text("name"):
        hint = "for example name=huatuo_cpu_sched_wait_seconds; see /api/v1/metrics"
        raise Refusal(400, "bad_parameter", "name is missing", hint)
    start_ns, end_ns = query.period_ns()
    points = query.integer("points")
    wanted = MetricQuery(query.text("name"), start_ns, end_ns, query.prefixed("label"), points)
    return answer(context.store, wanted, query.choice("as"), query.text("by"), query.integer("top"))


def _query_table(found: MetricAnswer) -> Table:
    """One line per time and series; of heatmaps one line per time, series and slot."""
    columns = {
        "quantiles": ("p50", "p99", "max", "count"),
        "heatmap": ("slot_upper_edge", "count"),
    }.get(found.form, ("value",))

    def rows() -> Iterator[Sequence[object]]:
        for series in found.series:
            for i, time in enumerate(found.times):
                head = (rfc3339(int(time * 1e9)), series.labels)
                if found.form == "quantiles":
                    values = (series.p50[i], series.p99[i], series.max[i], series.count[i])
                    yield (*head, *(None if v is None or v != v else v for v in values))
                elif found.form == "heatmap":
                    for offset, count in enumerate(series.slots[i] or ()):
                        slot = series.first_slot + offset
                        edge = found.edges[slot] if slot < len(found.edges) else "inf"
                        if count:
                            yield (*head, edge, count)
                else:
                    value = series.values[i]
                    yield (*head, None if value is None or value != value else value)

    return ("time", "labels", *columns), rows()


_PARAMS = (
    Param("name", "the family", example="huatuo_cpu_sched_wait_seconds"),
    START,
    END,
    Param("label.*", "only series with this label value", example="pg-0"),
    Param("points", "at most so many times", "integer", "300", "600", minimum=2, maximum=5000),
    Param("as", "what is made of the stored values", "choice", "auto", "rate", FORMS),
    Param("by", "sum over all other labels; * keeps all, none sums all", example="container"),
    Param("top", "only the so many largest series; 0 all", "integer", "0", "10", maximum=10_000),
)

ENDPOINTS = [
    Endpoint(
        "/metrics",
        "Every metric family that is stored",
        list[MetricFamily],
        _families,
        table=_family_table,
    ),
    Endpoint(
        "/metrics/query",
        "One family over time: raw, as a rate, as quantiles or as a heatmap",
        MetricAnswer,
        _query,
        _PARAMS,
        _query_table,
    ),
]
