"""The agent about itself."""

from __future__ import annotations

from huatuo.model.state import Decision, Health, ProbeState
from huatuo.serve.answers import Usage
from huatuo.serve.endpoint import Context, Endpoint, Table
from huatuo.serve.params import rfc3339

__all__ = ["ENDPOINTS"]


def _usage(context: Context) -> Usage:
    usage = context.store.usage()
    oldest = rfc3339(usage.oldest_ns) if usage.oldest_ns else ""
    return Usage(usage.bytes, usage.events, usage.series, oldest)


def _probe_table(probes: list[ProbeState]) -> Table:
    plain = ["name", "status", "reason", "priority", "hits_per_second", "ns_per_hit", "cpu_ratio"]
    plain += ["produced", "delivered"]

    def row(probe: ProbeState) -> list[object]:
        counts = [sum(probe.suppressed.values()), sum(probe.lost.values())]
        return [*(getattr(probe, name) for name in plain), *counts, " ".join(probe.hooks)]

    return [*plain, "suppressed", "lost", "hooks"], (row(probe) for probe in probes)


def _decision_table(decisions: list[Decision]) -> Table:
    return ("time", "action", "probe", "reason"), (
        (d.time, d.action, d.probe, d.reason) for d in decisions
    )


ENDPOINTS = [
    Endpoint(
        "/health",
        "How the agent is, and what it costs",
        Health,
        lambda context: context.health,
        needs=frozenset({"health"}),
    ),
    Endpoint(
        "/probes",
        "What is watched, by which hook, at which cost; what is not, and why",
        list[ProbeState],
        lambda context: context.probes,
        table=_probe_table,
        needs=frozenset({"probes"}),
    ),
    Endpoint(
        "/decisions",
        "What the governor did to stay within its budget, newest first",
        list[Decision],
        lambda context: context.decisions,
        table=_decision_table,
        needs=frozenset({"decisions"}),
    ),
    Endpoint("/store", "How much is stored, and since when", Usage, _usage),
]
