"""Incidents, what is attached to them, and captures by hand."""

from __future__ import annotations

from huatuo.export.incident_html import incident_html
from huatuo.model.incident import Capture, Incident
from huatuo.serve.answers import Stopped
from huatuo.serve.endpoint import END, START, Context, Endpoint, File, Table
from huatuo.serve.params import Param
from huatuo.serve.refusal import Refusal

__all__ = ["ENDPOINTS"]

_MOST = 1000  # that are kept
_PLANS = ("cpu", "io", "memory", "network", "tasks")
_TYPES = {".svg": "image/svg+xml", ".gz": "application/octet-stream"}


def _incidents(context: Context) -> list[Incident]:
    start_ns, end_ns = context.query.period_ns()
    limit, name = context.query.integer("limit"), context.query.text("container")
    if not name:
        return context.store.incidents.list(start_ns, end_ns, limit)
    found = context.store.incidents.list(start_ns, end_ns, _MOST)
    return [one for one in found if name in (one.target, *(s.name for s in one.suspects))][:limit]


def _table(found: list[Incident]) -> Table:
    return ("id", "time", "trigger", "target", "capture", "summary"), (
        (i.id, i.time, i.trigger, i.target, i.capture.status if i.capture else "", i.summary)
        for i in found
    )


def _number(context: Context) -> int:
    text = context.path["id"]
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 18 else 0


def _incident(context: Context) -> Incident:
    found = context.store.incidents.get(_number(context))
    if found is None:
        hint = "it may be older than they are kept; see /api/v1/incidents"
        raise Refusal(404, "no_incident", f"no incident {context.path['id']!r}", hint)
    return found


def _file(context: Context) -> File:
    name = context.path["name"]
    incident = _incident(context)
    data = context.store.incidents.file(incident.id, name) if name in incident.files else None
    if data is None:
        known = ", ".join(incident.files) or "none"
        raise Refusal(404, "no_file", f"no file {name!r}", f"attached are: {known}")
    suffix = name[name.rfind(".") :]
    return File(f"incident-{incident.id}-{name}", _TYPES.get(suffix, _TYPES[".gz"]), data)


def _report(context: Context) -> File:
    incident = _incident(context)
    read = context.store.incidents.file
    files = {name: read(incident.id, name) or b"" for name in incident.files}
    return File(f"incident-{incident.id}.html", "text/html; charset=utf-8",
                incident_html(incident, files))  # fmt: skip


def _capture(context: Context) -> Capture:
    return context.captures.ask(context.query.choice("plan"), context.query.text("container"))


def _stop(context: Context) -> Stopped:
    return Stopped(context.captures.stop(_number(context)))


ENDPOINTS = [
    Endpoint(
        "/incidents",
        "What triggers fired for, with the evidence, newest first",
        list[Incident],
        _incidents,
        (
            START,
            END,
            Param("limit", "at most so many", "integer", "50", "20", maximum=_MOST),
            Param("container", "in which it suffered, or was suspected", example="pg-0"),
        ),
        _table,
    ),
    Endpoint("/incidents/{id}", "One incident", Incident, _incident),
    Endpoint("/incidents/{id}/files/{name}", "Something attached to it", File, _file),
    Endpoint("/incidents/{id}/report", "All of it as one HTML file", File, _report),
    Endpoint(
        "/captures",
        "Captures since the agent started, newest first",
        list[Capture],
        lambda context: context.captures.states(),
    ),
    Endpoint(
        "/captures/start",
        "Capture now; it becomes an incident",
        Capture,
        _capture,
        (
            Param("plan", "what is collected", "choice", "cpu", "io", _PLANS),
            Param("container", "of whom; of the whole host without", example="web-1"),
        ),
        method="POST",
    ),
    Endpoint(
        "/captures/{id}/stop",
        "Stop a capture that is queued or running",
        Stopped,
        _stop,
        method="POST",
    ),
]
