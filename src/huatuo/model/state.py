"""What the agent says about itself: probes, governor, health. Served as JSON as it stands."""

from __future__ import annotations

import msgspec

__all__ = ["Decision", "Health", "ProbeState"]


class ProbeState(msgspec.Struct, frozen=True):
    """One probe on this host. Costs are per second of wall time, over the last interval."""

    name: str
    status: str  # running · unavailable · off · shed · failed
    reason: str  # why it does not run; "" while it does
    kind: list[str]  # events, metrics, profiles
    summary: str  # first line of its docstring
    hooks: list[str]
    notes: list[str]  # what is degraded
    priority: int
    hits_per_second: float = 0.0  # program runs
    ns_per_hit: float = 0.0  # 0 until a statistics window has measured it
    cpu_ratio: float = 0.0  # of the whole machine's CPU: kernel side and collect()
    produced: int = 0
    delivered: int = 0
    suppressed: dict[str, int] = {}
    lost: dict[str, int] = {}
    collect_seconds: float = 0.0  # of the last collect()
    collect_errors: int = 0
    pace_ratio: float = 1.0  # of its configured rate, to which the governor slowed a profiler


class Decision(msgspec.Struct, frozen=True):
    """One act of the governor."""

    time: str  # RFC 3339
    action: str  # shed · restore · slower · faster
    probe: str
    reason: str


class Health(msgspec.Struct, frozen=True):
    """`status` is ok or degraded; `problems` are sentences."""

    status: str
    problems: list[str]
    version: str
    host: str
    kernel: str
    started: str
    cpu_ratio: float  # the agent's own CPU, of the whole machine
    cpu_budget_ratio: float
    memory_bytes: int
    memory_budget_bytes: int
