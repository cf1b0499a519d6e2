"""Keeps the agent within its budget: measures what it costs, sheds probes, restores them.

Cost = CPU of the agent's process + run time of its BPF programs, both as a share of the whole
machine's CPU. Programs are measured in short windows of BPF statistics (they cost by themselves),
less what the statistics add; the entry cost that statistics cannot see is added per hit.

Over budget in two measurements in a row, so that one busy second sheds nothing: the probe with
the greatest cost x (100 - priority) is stopped, then everything is measured afresh. A probe that
costs next to nothing of what is too much is never stopped: it would help nobody. Restored when
its last known cost fits again, after a pause that doubles each time.

Profilers have a budget of their own within that, and before one is stopped it samples at half its
rate, and half again: a profile of fewer, heavier samples is still true.
"""

from __future__ import annotations

import logging
import os
import resource
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from huatuo.kernel.calibration import statistics_overhead_ns
from huatuo.kernel.host import Host
from huatuo.kernel.object import Statistics, statistics_window
from huatuo.model.state import Decision
from huatuo.probes.profiler import Profiler
from huatuo.probes.running import Entry, ProbeSet

__all__ = ["Cost", "Governor"]

log = logging.getLogger(__name__)

ENTRY_NS = 64  # entering a tp_btf program, outside what its statistics see; bench/entry.py
_HEADROOM = 0.8  # restore only up to this share of the budget
_WORTHWHILE = 0.02  # of the excess: what a probe must cost for stopping it to help
_LEAST_WATCHED = 0.1  # of a measurement, for a probe that is attached at times only
_SLOWEST = 1 / 16  # share of its rate that a profiler keeps
_SPEED_UP_BELOW = 0.4  # of the budget, so that twice the rate still fits
_AGAIN_SECONDS = 10.0  # after which an exceeded budget is measured again
_FIRST_PAUSE_PERIODS = 2


@dataclass(slots=True)
class Cost:
    """One probe's share of the machine's CPU, last measured."""

    hits_per_second: float = 0.0
    ns_per_hit: float = 0.0
    bpf_ratio: float = 0.0
    collect_ratio: float = 0.0  # of the agent's own CPU: collect(), and threads of the probe

    @property
    def ratio(self) -> float:
        return self.bpf_ratio + self.collect_ratio


@dataclass(slots=True)
class _Shed:
    entry: Entry
    cost: Cost
    until: float


class Governor:
    """`step` judges and acts; `begin_window`/`end_window` bracket a measurement before it.

    `cpu_budget` is a ratio of the whole machine's CPU, `memory_budget` bytes resident.
    """

    def __init__(
        self,
        host: Host,
        probes: ProbeSet,
        cpu_budget: float,
        memory_budget: int,
        period_seconds: float,
        interval_seconds: float = 10.0,
        profiling_budget: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cpu_budget, self.memory_budget = cpu_budget, memory_budget
        self.profiling_budget = profiling_budget
        self.period_seconds, self._interval_seconds = period_seconds, interval_seconds
        self.costs: dict[str, Cost] = {}
        self.agent_ratio = 0.0
        self.memory_bytes = 0
        self.decisions: deque[Decision] = deque(maxlen=1000)
        self.counts: dict[tuple[str, str], int] = {}  # (action, probe) → decisions
        self._host, self._probes, self._clock = host, probes, clock
        self._shed: dict[str, _Shed] = {}
        self.paces: dict[str, float] = {}  # profiler → share of its rate, where below 1
        self._pauses: dict[str, float] = {}
        self._window = -1
        self._window_began = 0.0
        self._before: dict[str, dict[str, Statistics]] = {}
        self._own_before: dict[str, float] = {}
        self._watched_before: dict[str, float] = {}
        self._cpu_before: tuple[float, float] | None = None
        self._over = False
        self._unmeasurable = self._helpless = False

    @property
    def total_ratio(self) -> float:
        """The agent and its programs, of the whole machine."""
        running = {entry.name for entry, _ in self._probes.running()}
        return self.agent_ratio + sum(
            cost.bpf_ratio for name, cost in self.costs.items() if name in running
        )

    def begin_window(self) -> None:
        """Switch BPF statistics on and remember where each program stands."""
        statistics_overhead_ns()
        if self._cpu_before is None:
            self._cpu_before = (self._clock(), _own_cpu_seconds())  # starting up does not count
        try:
            self._window = statistics_window()
        except OSError as error:
            if not self._unmeasurable:
                log.info("what programs cost cannot be measured: %s", error)
            self._unmeasurable = True
            return
        self._window_began = self._clock()
        running = list(self._probes.running())
        self._before = {entry.name: probe.cost() for entry, probe in running}
        self._own_before = {entry.name: probe.own_seconds() for entry, probe in running}
        self._watched_before = {entry.name: probe.watched_seconds() for entry, probe in running}

    def end_window(self) -> None:
        """Switch statistics off and compute each probe's cost per second."""
        if self._window < 0:
            return
        seconds = max(self._clock() - self._window_began, 1e-3)
        for entry, probe in self._probes.running():
            before = self._before.get(entry.name)
            if before is not None:
                watched = probe.watched_seconds() - self._watched_before[entry.name]
                if probe.duty() < 1 and watched < seconds * _LEAST_WATCHED:
                    continue  # it was not attached: what is known of it still holds
                # attached for a part of the window, it stands for as much more
                share = probe.duty() * seconds / watched if probe.duty() < 1 else 1.0
                cost = self._cost(entry, before, probe.cost(), seconds / share)
                own = max(probe.own_seconds() - self._own_before[entry.name], 0.0)
                cost.collect_ratio += own / seconds / self._host.cpus
                self.costs[entry.name] = cost
        os.close(self._window)
        self._window = -1

    def _cost(
        self,
        entry: Entry,
        before: dict[str, Statistics],
        after: dict[str, Statistics],
        seconds: float,
    ) -> Cost:
        zero = Statistics(0, 0, 0)
        hits = sum(a.run_count - before.get(n, zero).run_count for n, a in after.items())
        spent = sum(a.run_time_ns - before.get(n, zero).run_time_ns for n, a in after.items())
        net = max(spent - hits * statistics_overhead_ns(), 0.0) + hits * ENTRY_NS
        return Cost(
            hits_per_second=hits / seconds,
            ns_per_hit=net / hits if hits else 0.0,
            bpf_ratio=net / 1e9 / seconds / self._host.cpus,
            collect_ratio=self._collect_ratio(entry),
        )

    def _collect_ratio(self, entry: Entry) -> float:
        return entry.collect_seconds / self._interval_seconds / self._host.cpus

    def step(self) -> float:
        """Judge the last measurement, shed or restore at most one probe.

        Returns how many seconds the next measurement should wait.
        """
        again = min(_AGAIN_SECONDS, self.period_seconds / 2)
        self._measure_agent(again)
        reason, excess = self._over_budget()
        if not reason:
            self._over = False
            self._keep_pace()
            self._restore_one()
            return self.period_seconds
        if self._over:
            self._shed_one(reason, excess)
        self._over = True
        return again

    def _over_budget(self) -> tuple[str, float]:
        """(why, by what share of the machine's CPU); ("", 0) within the budget."""
        if self.total_ratio > self.cpu_budget:
            why = (
                f"cost {self.total_ratio:.3%} of the machine's CPU is over the budget "
                f"of {self.cpu_budget:.3%}"
            )
            return why, self.total_ratio - self.cpu_budget
        if self.memory_bytes > self.memory_budget:
            why = (
                f"memory {self.memory_bytes >> 20} MiB is over the budget "
                f"of {self.memory_budget >> 20} MiB"
            )
            return why, 0.0
        return "", 0.0

    def _measure_agent(self, at_least_seconds: float) -> None:
        """CPU over some seconds, so that one scrape does not pass for a load."""
        now, cpu = self._clock(), _own_cpu_seconds()
        then, cpu_then = self._cpu_before or (now, cpu)
        if now - then >= at_least_seconds:
            self.agent_ratio = (cpu - cpu_then) / (now - then) / self._host.cpus
            self._cpu_before = (now, cpu)
        status = self._host.read(self._host.proc / "self/statm").split()
        self.memory_bytes = int(status[1]) * self._host.page_size

    def _shed_one(self, reason: str, excess: float) -> None:
        costs = {
            entry.name: self.costs.get(entry.name, Cost()) for entry, _ in self._probes.running()
        }
        candidates = [
            (costs[entry.name].ratio * (100 - entry.cls.priority), entry)
            for entry, _ in self._probes.running()
            if not entry.required and costs[entry.name].ratio >= excess * _WORTHWHILE
        ]
        if not candidates:
            if not self._helpless:
                log.warning("governor: %s, and stopping probes would not help", reason)
            self._helpless = True
            return
        self._helpless = False
        _, entry = max(candidates, key=lambda candidate: candidate[0])
        if self._slow(entry, reason):
            return
        self.paces.pop(entry.name, None)
        pause = self._pauses.get(entry.name, self.period_seconds * _FIRST_PAUSE_PERIODS / 2) * 2
        self._pauses[entry.name] = pause
        until = self._clock() + pause
        self._shed[entry.name] = _Shed(entry, costs[entry.name], until)
        self._probes.stop_one(entry, "shed", f"shed by the governor: {reason}")
        self._decide("shed", entry.name, reason)

    def _keep_pace(self) -> None:
        """Slow the dearest profiler down while all of them are over their budget, or one up."""
        profilers = {
            entry.name: entry
            for entry, probe in self._probes.running()
            if isinstance(probe, Profiler) and probe.has_pace and entry.name in self.costs
        }
        spent = sum(self.costs[name].ratio for name in profilers)
        if spent > self.profiling_budget:
            dearest = max(profilers, key=lambda name: self.costs[name].ratio)
            why = f"profilers cost {spent:.3%}, over their budget of {self.profiling_budget:.3%}"
            self._slow(profilers[dearest], why)
        elif spent < self.profiling_budget * _SPEED_UP_BELOW:
            for name in self.paces.keys() & profilers.keys():
                self._set_pace(profilers[name], self.paces[name] * 2)
                self._decide("faster", name, f"profilers cost {spent:.3%} only")
                return

    def _slow(self, entry: Entry, reason: str) -> bool:
        """Whether the probe is a profiler that could be slowed down."""
        pace = self.paces.get(entry.name, 1.0) / 2
        if not isinstance(entry.probe, Profiler) or not entry.probe.has_pace or pace < _SLOWEST:
            return False
        self._set_pace(entry, pace)
        self._decide("slower", entry.name, reason)
        return True

    def _set_pace(self, entry: Entry, pace: float) -> None:
        assert isinstance(entry.probe, Profiler)
        entry.probe.set_pace(pace)
        if pace < 1:
            self.paces[entry.name] = pace
        else:
            self.paces.pop(entry.name, None)

    def _restore_one(self) -> None:
        room = self.cpu_budget * _HEADROOM - self.total_ratio
        for name, shed in list(self._shed.items()):
            if shed.entry.status != "shed":
                del self._shed[name]  # someone else started or stopped it
            elif self._clock() >= shed.until and shed.cost.ratio <= room:
                del self._shed[name]
                if self._probes.start_one(shed.entry):
                    reason = (
                        f"its cost of {shed.cost.ratio:.3%} fits: {self.total_ratio:.3%} of "
                        f"{self.cpu_budget:.3%} are used"
                    )
                    self._decide("restore", name, reason)
                return

    def _decide(self, action: str, probe: str, reason: str) -> None:
        log.warning("governor: %s %s: %s", action, probe, reason)
        self.counts[action, probe] = self.counts.get((action, probe), 0) + 1
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.decisions.appendleft(Decision(now, action, probe, reason))


def _own_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
