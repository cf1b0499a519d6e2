"""From a firing to an incident: its evidence, and a paragraph made by rules."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from huatuo.export import pprof
from huatuo.export.flame_svg import flame_svg
from huatuo.model.incident import (
    Capture,
    FunctionShare,
    Incident,
    IncidentFile,
    Suspect,
)
from huatuo.model.profile import PROFILE_TYPES, Profile
from huatuo.model.units import percent
from huatuo.store.base import Store
from huatuo.tracing.capture import Captured
from huatuo.tracing.evidence import (
    container_of,
    events_around,
    growth,
    profile_between,
    series_of,
    shares,
    suspects_of,
)
from huatuo.triggers.rules import Firing, Rule

__all__ = ["begun", "captured", "judged", "manual", "summary"]

_SECOND = 1_000_000_000
_BEFORE_NS = 300 * _SECOND  # what is looked at before a trigger
_QUIET_NS = 3600 * _SECOND  # and what that is compared with
_AROUND_NS = 60 * _SECOND  # of the firing: the profile that is compared
_NAMED = 3


def begun(firing: Firing, now_text: str) -> Incident:
    """What is known at once."""
    trigger = firing.trigger
    return Incident(
        time=now_text,
        time_ns=firing.time_ns,
        start_ns=firing.time_ns - _BEFORE_NS,
        end_ns=firing.time_ns,
        trigger=trigger.name,
        when=trigger.when,
        per=trigger.per,
        target=firing.target,
        facts=[str(fact) for fact in firing.facts],
        suspects=[Suspect(name, value) for name, value in firing.suspects],
    )


def manual(plan: str, container: str, now_ns: int, now_text: str) -> Incident:
    """Of a capture that somebody asked for."""
    return Incident(now_text, now_ns, now_ns - _BEFORE_NS, now_ns, "manual", f"plan {plan}",
                    "container", container, [])  # fmt: skip


def judged(store: Store, incident: Incident, rule: Rule | None, since_ns: int) -> Incident:
    """With what the store knows of it. Raises StoreError."""
    container = container_of(incident.per, incident.target)
    start, end = incident.start_ns, incident.end_ns
    events, total = events_around(store, container, start, end)
    metrics, suspects = [], incident.suspects
    if rule is not None:
        metrics = series_of(store, rule, incident.target, start, end, since_ns)
        suspects = suspects_of(store, rule, incident.target, start, end, since_ns) or suspects
    before, note = _before(store, container, min(since_ns, end - _AROUND_NS), end)
    found = msgspec.structs.replace(
        incident, events=events, events_total=total,
        metrics=metrics, before=before, suspects=suspects,
        before_note=note,
    )  # fmt: skip
    return msgspec.structs.replace(found, summary=summary(found))


def _before(
    store: Store, container: str, since_ns: int, end_ns: int
) -> tuple[list[FunctionShare], str]:
    now = profile_between(store, container, since_ns, end_ns)
    base = _quiet_hour(store, container, since_ns)
    if not now.total:
        return [], "the always-on profile has no samples of the time of the trigger"
    if not base.total:
        return shares(now), "there is no profile of the hour before to compare with"
    return growth(now, base), ""


def _quiet_hour(store: Store, container: str, since_ns: int) -> Profile:
    return profile_between(store, container, since_ns - _QUIET_NS, since_ns - 1)


def captured(
    store: Store, incident: Incident, capture: Capture, found: Captured | None, since_ns: int
) -> tuple[Incident, list[IncidentFile]]:
    """With the outcome of its capture. Raises StoreError."""
    files: list[IncidentFile] = []
    profiles: Mapping[str, Profile] = found.profiles if found is not None else {}
    tables = {}
    for name, profile in profiles.items():
        if profile.total:
            container = container_of(incident.per, incident.target)
            base = _quiet_hour(store, container, since_ns - _AROUND_NS) if name == "cpu" else None
            tables[name] = shares(profile, base)
            files.append(IncidentFile(f"{name}.pb.gz", pprof.write(profile)))
            files.append(IncidentFile(f"{name}.svg", flame_svg(profile, base)))
    files += _before_picture(store, incident, since_ns)
    capture = msgspec.structs.replace(capture, profiles=tables, incident=incident.id)
    incident = msgspec.structs.replace(incident, capture=capture)
    return msgspec.structs.replace(incident, summary=summary(incident)), files


def _before_picture(store: Store, incident: Incident, since_ns: int) -> list[IncidentFile]:
    """The always-on profile of the time of the trigger against the quiet hour before."""
    container = container_of(incident.per, incident.target)
    since_ns = min(since_ns, incident.end_ns - _AROUND_NS)
    now = profile_between(store, container, since_ns, incident.end_ns)
    picture = flame_svg(now, _quiet_hour(store, container, since_ns))
    return [IncidentFile("before.svg", picture)] if picture else []


def summary(incident: Incident) -> str:
    """One paragraph of sentences, each by a rule from the evidence."""
    whom = incident.target or "the host"
    if incident.trigger == "manual":
        said = [f"A capture of {whom} was asked for."]
    else:
        said = [f"{incident.trigger} fired for {whom}: {'; '.join(incident.facts)}."]
    said += _about_suspects(incident) + _about_metrics(incident) + _about_code(incident)
    if incident.capture is not None:
        said += _about_capture(incident.capture)
    if incident.events_total:
        newest = incident.events[0]
        said.append(f"{incident.events_total} events in these minutes, the last: {newest.title}.")
    return " ".join(said)


def _about_suspects(incident: Incident) -> list[str]:
    if not incident.suspects:
        return []
    named = ", ".join(one.name for one in incident.suspects)
    return [f"First among those who may have caused it: {named}."]


def _about_metrics(incident: Incident) -> list[str]:
    return [
        f"{metric.what} was not unusual for these minutes."
        for metric in incident.metrics
        if metric.low is not None and not any(metric.marked)
    ]


def _about_code(incident: Incident) -> list[str]:
    if not incident.before:
        return []
    if incident.before_note:
        named = ", ".join(
            f"{f.function} ({percent(f.own_ratio)})" for f in incident.before[:_NAMED]
        )
        return [f"Most CPU time went to {named}; {incident.before_note}."]
    named = ", ".join(
        f"{f.function} (from {percent(f.base_ratio)} to {percent(f.own_ratio)} of the CPU time)"
        for f in incident.before[:_NAMED]
    )
    return [f"Against the hour before, most grew {named}."]


def _about_capture(capture: Capture) -> list[str]:
    if capture.status == "refused":
        return [f"The capture {capture.plan} was refused: {capture.reason}."]
    if capture.status == "failed":
        return [f"The capture {capture.plan} failed: {capture.reason}."]
    if capture.status != "done":
        return []
    said = []
    for name, table in capture.profiles.items():
        title = PROFILE_TYPES[name].title
        named = ", ".join(f"{f.function} ({percent(f.own_ratio)})" for f in table[:_NAMED])
        said.append(f"Captured {title}: {named}.")
    if capture.tasks:
        first = capture.tasks[0]
        where = f" in {first.stack[0]}" if first.stack else ""
        said.append(f"{len(capture.tasks)} tasks slept uninterruptibly, {first.comm}{where}.")
    return said or ["The capture found nothing."]
