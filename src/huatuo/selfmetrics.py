"""What the agent says about itself, as states and as metric families.

Families: huatuo_probe_… by probe, huatuo_governor_…, huatuo_agent_…. The account of every probe
adds up: produced = delivered + suppressed + lost (bpf/account.bpf.h).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from huatuo.enrich.profiling import Profiling
from huatuo.governor import Cost, Governor
from huatuo.model.meaning import Role
from huatuo.model.metric import Metric
from huatuo.model.state import Health, ProbeState
from huatuo.probes.profiler import Profiler
from huatuo.probes.running import Entry
from huatuo.profilers.native.unwinder import Unwinder
from huatuo.pushing import Pushing
from huatuo.store.base import Usage
from huatuo.tracing.tracing import Tracing

__all__ = [
    "agent_metrics",
    "describe",
    "governor_metrics",
    "probe_metrics",
    "probe_problems",
    "profiling_metrics",
    "tracing_metrics",
]


def describe(
    entry: Entry, cost: Cost | None = None, pace: float = 1.0, without_stack: int = 0
) -> ProbeState:
    """The state of one probe for people and API; `without_stack`: samples that had to be left."""
    cls, probe, cost = entry.cls, entry.probe, cost or Cost()
    account = probe.account() if probe else None
    kinds = [
        *(["events"] if cls.event_schemas() else []),
        "profiles" if issubclass(cls, Profiler) else "metrics",
    ]
    suppressed = dict(account.suppressed or {}) if account else {}
    excluded = probe.excluded if probe else 0  # after delivery
    if excluded:
        suppressed["excluded"] = suppressed.get("excluded", 0) + excluded
    lost = dict(account.lost) if account else {}
    missed = sum(s.recursion_misses for s in probe.cost().values()) if probe else 0
    lost |= {"recursion": missed} if missed else {}
    lost |= {"without_stack": without_stack} if without_stack else {}
    return ProbeState(
        name=entry.name,
        status=entry.status,
        reason=entry.reason,
        kind=kinds,
        summary=(cls.__doc__ or "").strip().splitlines()[0],
        hooks=probe.hooks if probe else entry.hooks,
        notes=probe.notes if probe else [],
        priority=cls.priority,
        hits_per_second=cost.hits_per_second,
        ns_per_hit=cost.ns_per_hit,
        cpu_ratio=cost.ratio,
        produced=account.produced if account else 0,
        delivered=account.delivered - excluded if account else 0,
        suppressed=suppressed,
        lost=lost,
        collect_seconds=entry.collect_seconds,
        collect_errors=entry.collect_errors + (probe.collect_errors if probe else 0),
        pace_ratio=pace,
    )


def probe_problems(entries: Collection[Entry]) -> list[str]:
    """What does not run and should, in sentences."""
    found = [f"{each.name} failed: {each.reason}" for each in entries if each.status == "failed"]
    if shed := [each.name for each in entries if each.status == "shed"]:
        found.append(f"switched off to stay within the budget: {', '.join(shed)}")
    return found


def _by_probe(
    name: str, kind: Role, help_text: str, states: Iterable[ProbeState], attribute: str
) -> Metric:
    samples = {(state.name,): float(getattr(state, attribute)) for state in states}
    return Metric.of(f"huatuo_probe_{name}", kind, help_text, samples, ["probe"])


def _by_reason(name: str, help_text: str, states: Iterable[ProbeState], attribute: str) -> Metric:
    samples = {
        (state.name, reason): float(count)
        for state in states
        for reason, count in getattr(state, attribute).items()
    }
    return Metric.of(f"huatuo_probe_{name}", Role.COUNTER, help_text, samples, ["probe", "reason"])


def probe_metrics(states: list[ProbeState]) -> Iterator[Metric]:
    """Families by probe: state, account and cost."""
    counter, gauge = Role.COUNTER, Role.GAUGE
    running = [state for state in states if state.status == "running"]
    available = {
        (state.name,): float(state.status in ("running", "shed", "off")) for state in states
    }
    yield Metric.of(
        "huatuo_probe_available", gauge, "1 if the probe can run on this host", available, ["probe"]
    )
    on = {(state.name,): float(state.status == "running") for state in states}
    yield Metric.of("huatuo_probe_running", gauge, "1 while the probe runs", on, ["probe"])
    eventful = [state for state in running if {"events", "profiles"} & set(state.kind)]
    yield _by_probe(
        "records_produced_total", counter, "records that met a condition", eventful, "produced"
    )
    yield _by_probe(
        "records_delivered_total", counter, "records read from the ring", eventful, "delivered"
    )
    yield _by_reason(
        "records_suppressed_total", "records held back on purpose", eventful, "suppressed"
    )
    yield _by_reason("lost_total", "records or samples lost, by reason", running, "lost")
    yield _by_probe(
        "collect_seconds", gauge, "CPU time of the last collection", running, "collect_seconds"
    )
    yield _by_probe(
        "collect_errors_total",
        counter,
        "samples skipped because a file was not as documented",
        running,
        "collect_errors",
    )
    yield _by_probe(
        "cpu_ratio",
        gauge,
        "share of the machine's CPU: programs and collection",
        running,
        "cpu_ratio",
    )
    yield _by_probe(
        "hits_per_second", gauge, "program runs, last measured", running, "hits_per_second"
    )


def governor_metrics(governor: Governor, states: list[ProbeState]) -> Iterator[Metric]:
    """The budget, what is used of it, and each decision."""
    gauge = Role.GAUGE
    one = {
        "cpu_budget_ratio": ("budget of the machine's CPU", governor.cpu_budget),
        "cpu_used_ratio": ("agent and BPF programs, of the machine's CPU", governor.total_ratio),
        "memory_budget_bytes": ("budget of resident memory", governor.memory_budget),
        "memory_used_bytes": ("the agent's resident memory", governor.memory_bytes),
    }
    for name, (help_text, value) in one.items():
        yield Metric.of(f"huatuo_governor_{name}", gauge, help_text, {(): float(value)})
    shed = {(state.name,): float(state.status == "shed") for state in states}
    yield Metric.of(
        "huatuo_governor_shed", gauge, "1 while the governor keeps the probe off", shed, ["probe"]
    )
    paces = {(state.name,): governor.paces.get(state.name, 1.0) for state in states
             if state.status == "running" and "profiles" in state.kind}  # fmt: skip
    yield Metric.of(
        "huatuo_governor_pace_ratio", gauge, "share of its rate that a profiler keeps", paces,
        ["probe"],
    )  # fmt: skip
    yield Metric.of(
        "huatuo_governor_decisions_total",
        Role.COUNTER,
        "probes shed and restored, profilers slowed down and up",
        {key: float(count) for key, count in governor.counts.items()},
        ["action", "probe"],
    )


def agent_metrics(
    health: Health, usage: Usage, stream_lost: int, known: Mapping[tuple[str, str], int]
) -> Iterator[Metric]:
    """Constant facts, the store, what slow readers of the event stream missed, known issues."""
    found = {key: float(count) for key, count in known.items()}
    yield Metric.of(
        "huatuo_agent_known_events_total", Role.COUNTER, "events that a rule [[known]] applied to",
        found, ["note", "action"],
    )  # fmt: skip
    gauges = {
        "bytes": usage.bytes,
        "events": usage.events,
        "series": usage.series,
        "samples": usage.samples,
    }
    for name, value in gauges.items():
        yield Metric.of(f"huatuo_store_{name}", Role.GAUGE, f"{name} held", {(): float(value)})
    lost = {
        ("events",): float(usage.lost_events),
        ("snapshots",): float(usage.lost_snapshots),
        ("samples",): float(usage.lost_samples),
    }
    yield Metric.of(
        "huatuo_store_lost_total", Role.COUNTER, "what could not be written", lost, ["what"]
    )
    yield Metric.of(
        "huatuo_agent_stream_lost_total",
        Role.COUNTER,
        "events that a slow subscriber of the live stream did not get",
        {(): float(stream_lost)},
    )
    yield Metric.of(
        "huatuo_agent_info",
        Role.GAUGE,
        "version, host and kernel; always 1",
        {(health.version, health.host, health.kernel): 1.0},
        ["version", "host", "kernel"],
    )


def tracing_metrics(tracing: Tracing) -> Iterator[Metric]:
    """What triggers caught and what became of captures."""
    counter, captures = Role.COUNTER, tracing.captures
    fired = {(name,): float(count) for name, count in tracing.fired.items()}
    yield Metric.of("huatuo_triggers_fired_total", counter, "firings", fired, ["trigger"])
    yield Metric.of(
        "huatuo_triggers_not_followed_total", counter,
        "firings that became no incident, since many fired at once",
        {(): float(tracing.not_followed)},
    )  # fmt: skip
    outcomes = {key: float(count) for key, count in captures.counts.items()}
    yield Metric.of(
        "huatuo_captures_total", counter, "captures by outcome", outcomes, ["plan", "outcome"]
    )
    spent = {(): captures.cpu_seconds}
    yield Metric.of("huatuo_captures_cpu_seconds_total", counter, "CPU time of captures", spent)


def profiling_metrics(
    profiling: Profiling, unwinder: Unwinder | None, pushing: Pushing | None
) -> Iterator[Metric]:
    """What unwinding and symbols hold and lost, and what became of profiles sent on."""
    counter, gauge, symbols = Role.COUNTER, Role.GAUGE, profiling.symbols
    if unwinder is not None:
        yield Metric.of("huatuo_unwind_files", gauge, "files met", {(): float(unwinder.files)})
        pages = {(): float(unwinder.counts.pages)}
        yield Metric.of("huatuo_unwind_pages_total", counter, "pages of code compiled", pages)
        seconds = {(): unwinder.counts.seconds}
        yield Metric.of("huatuo_unwind_seconds_total", counter, "CPU time of that", seconds)
        lost = {(what,): float(count) for what, count in unwinder.lost().items()}
        lost["unknown_stacks",] = float(sum(profiling.unknown.values()))
        yield Metric.of(
            "huatuo_unwind_lost_total", counter, "what there was no room for", lost, ["what"]
        )
    tables = {("built",): float(symbols.counts.built), ("failed",): float(symbols.counts.failed)}
    tables["refused",] = float(symbols.counts.refused)
    yield Metric.of("huatuo_symbols_tables_total", counter, "by outcome", tables, ["outcome"])
    pending = {(): float(symbols.pending)}
    yield Metric.of("huatuo_symbols_pending", gauge, "tables that are wanted", pending)
    spent = {(): symbols.counts.worker_seconds}
    yield Metric.of("huatuo_symbols_seconds_total", counter, "CPU time of workers", spent)
    if pushing is not None:
        pushed = pushing.pusher.pushed
        outcomes = {(what,): float(getattr(pushed, what)) for what in ("sent", "failed", "dropped")}
        yield Metric.of(
            "huatuo_push_profiles_total", counter, "profiles by outcome", outcomes, ["outcome"]
        )
