"""Events: history, one record, facets, histogram over time. The live stream is in stream.py."""

from __future__ import annotations

from collections.abc import Sequence

from huatuo.model.event import Event
from huatuo.serve.answers import EventHistogram, EventPage, Facets, Value
from huatuo.serve.endpoint import END, START, Context, Endpoint, Table
from huatuo.serve.params import Param, Query
from huatuo.serve.refusal import Refusal
from huatuo.store.base import EventQuery

__all__ = ["ENDPOINTS", "FILTERS", "event_query"]

FILTERS = (
    Param("probe", "only of this probe", example="memory.oom"),
    Param("kind", "only of this kind (the probe's ring)", example="kills"),
    Param("container", "only about this container", example="pg-0"),
    Param("text", "only with this text anywhere in the record", example="postgres"),
    Param("field.*", "only with this value of that field, process.comm too", example="4242"),
)
_FACET_FIELDS = "probe,kind,container,process.comm"


def event_query(query: Query, limit: int = 100, before: int = 0) -> EventQuery:
    """The filters of a request; without `start` and `end` among its parameters, of all times."""
    start_ns, end_ns = query.period_ns()
    return EventQuery(
        start_ns=start_ns,
        end_ns=end_ns,
        probe=query.text("probe"),
        kind=query.text("kind"),
        container=query.text("container"),
        text=query.text("text"),
        fields=query.prefixed("field"),
        before_id=before,
        limit=limit,
    )


def _events(context: Context) -> EventPage:
    limit = context.query.integer("limit")
    before = context.query.integer("before")
    found = context.store.events(event_query(context.query, limit, before))
    return EventPage(found, found[-1].id if len(found) == limit else 0)


def _event_table(page: EventPage) -> Table:
    header = ["id", "time", "probe", "kind", "container", "pid", "comm", "title", "fields", "stack"]

    def row(event: Event) -> Sequence[object]:
        container = event.container.full_name if event.container else ""
        pid, comm = (event.process.pid, event.process.comm) if event.process else ("", "")
        identity = (event.id, event.time, event.probe, event.kind)
        what = (event.title, event.fields, " < ".join(event.stack))
        return (*identity, container, pid, comm, *what)

    return header, (row(event) for event in page.events)


def _event(context: Context) -> Event:
    number = context.path["id"]
    found = context.store.event(int(number)) if number.isdecimal() else None
    if found is None:
        hint = "it may have expired; see /api/v1/events for what is stored"
        raise Refusal(404, "no_such_event", f"no event {number} is stored", hint)
    return found


def _histogram(context: Context) -> EventHistogram:
    query = event_query(context.query)
    found = context.store.event_histogram(query, context.query.integer("buckets"))
    names = sorted({name for _, counts in found for name in counts})
    return EventHistogram(
        start=query.start_ns / 1e9,
        end=query.end_ns / 1e9,
        times=[start / 1e9 for start, _ in found],
        counts={name: [counts.get(name, 0) for _, counts in found] for name in names},
    )


def _facets(context: Context) -> Facets:
    wanted = [name for name in context.query.text("fields").split(",") if name]
    facets: dict[str, list[Value]] = {name: [] for name in wanted}
    for facet in context.store.facets(event_query(context.query), wanted):
        facets.setdefault(facet.field, []).append(Value(facet.value, facet.count))
    for values in facets.values():
        values.sort(key=lambda value: (-value.count, value.value))
    return Facets(facets)


_LIMIT = Param("limit", "at most so many", "integer", "100", "20", minimum=1, maximum=10_000)
_BEFORE = Param("before", "only with a lower id: the next page", "integer", "0", "4711")
_BUCKETS = Param("buckets", "how many bars", "integer", "120", "60", minimum=1, maximum=2000)
_FIELDS = Param(
    "fields", "of which fields, separated by commas", default=_FACET_FIELDS, example="probe,reason"
)

ENDPOINTS = [
    Endpoint(
        "/events",
        "Stored events, newest first",
        EventPage,
        _events,
        (START, END, *FILTERS, _BEFORE, _LIMIT),
        _event_table,
    ),
    Endpoint(
        "/events/histogram",
        "How many events over time, by probe",
        EventHistogram,
        _histogram,
        (START, END, *FILTERS, _BUCKETS),
    ),
    Endpoint(
        "/events/facets",
        "Which values the matching events have, and how often",
        Facets,
        _facets,
        (START, END, *FILTERS, _FIELDS),
    ),
    Endpoint("/events/{id}", "One event", Event, _event),
]
