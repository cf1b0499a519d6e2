"""Incidents and captures as plain data: what is stored, served as JSON and shown.

An incident is what is known of one firing of a trigger: the numbers, the minutes before, what a
capture found. Times are RFC 3339 where they are texts, UTC ns where they are numbers.
"""

from __future__ import annotations

import msgspec

__all__ = [
    "Capture",
    "EvidenceEvent",
    "EvidenceMetric",
    "FunctionShare",
    "Incident",
    "IncidentFile",
    "SleepingTask",
    "Suspect",
]


class FunctionShare(msgspec.Struct, frozen=True):
    """A function's share of a profile: by itself, with all it calls, and by itself in the profile
    it is compared with."""

    function: str
    mapping: str
    own_ratio: float
    total_ratio: float
    base_ratio: float = 0.0


class SleepingTask(msgspec.Struct, frozen=True):
    """A task in uninterruptible sleep; `stack` innermost first, empty where it may not be read."""

    pid: int
    tid: int
    comm: str
    stack: list[str]


class Capture(msgspec.Struct, frozen=True):
    """A job: what is collected for whom, how far it is, and what it found."""

    id: int
    plan: str
    target: str  # a container; "" is the whole host
    status: str  # queued · running · done · failed · refused
    reason: str = ""  # why it was refused or failed
    asked: str = ""
    started: str = ""
    ended: str = ""
    incident: int = 0
    cpu_seconds: float = 0.0  # that the agent spent on it
    profiles: dict[str, list[FunctionShare]] = {}  # type → the greatest by own value
    tasks: list[SleepingTask] = []
    notes: list[str] = []  # what could not be collected, and why


class Suspect(msgspec.Struct, frozen=True):
    name: str
    value: float


class EvidenceMetric(msgspec.Struct, frozen=True):
    """A value of the condition over time. `low` and `high` bound what it was before (median and
    four robust deviations); `marked`: which values lie beyond."""

    what: str
    unit: str  # % · s · B · ""
    times_ns: list[int]
    values: list[float | None]
    low: float | None
    high: float | None
    marked: list[bool]


class EvidenceEvent(msgspec.Struct, frozen=True):
    id: int
    time: str
    probe: str
    title: str


class Incident(msgspec.Struct, frozen=True):
    """`before`: functions whose share of the CPU grew most in the minutes before the trigger,
    against the quiet hour before those, the greatest growth first."""

    time: str
    time_ns: int
    start_ns: int  # of what is looked at
    end_ns: int
    trigger: str
    when: str
    per: str
    target: str  # "" is the host
    facts: list[str]
    id: int = 0  # given by the store, ascending
    summary: str = ""
    suspects: list[Suspect] = []
    metrics: list[EvidenceMetric] = []
    events: list[EvidenceEvent] = []
    events_total: int = 0
    before: list[FunctionShare] = []
    before_note: str = ""
    capture: Capture | None = None
    files: list[str] = []  # names of what is attached


class IncidentFile(msgspec.Struct, frozen=True):
    """Something attached: a profile as pprof, by name."""

    name: str
    data: bytes
