"""How each subsystem of the node is, over one range: numbers in words, the worst, what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from huatuo.model.state import ProbeState
from huatuo.model.units import percent, show_bytes, show_duration
from huatuo.serve.answers import Finding, OverviewRow, Signal, Worst
from huatuo.serve.names import Names
from huatuo.serve.reader import Reader

__all__ = ["SUBSYSTEMS", "Row", "Subsystem"]

_FEW = 20  # a p99 of fewer observations says nothing
_HOST = ("", "host", "/")
_RESOURCES = {"cpu": "a CPU", "memory": "memory", "io": "disks", "irq": "interrupts"}
_DIRECTIONS = {"receive": "in", "transmit": "out"}


@dataclass(frozen=True, slots=True)
class Level:
    """From where on a number is worth a word, and from where on it is wrong."""

    warn: float
    bad: float

    def of(self, value: float | None) -> str:
        if value is None or value < self.warn:
            return "ok"
        return "bad" if value >= self.bad else "warn"


WAIT_P99 = Level(0.020, 0.100)  # seconds a runnable task waits
WAIT_RATIO = Level(0.02, 0.2)  # task seconds of waiting per second
BUSY = Level(0.95, 9.0)  # a busy CPU alone hurts nobody
CPU_PRESSURE = Level(0.40, 0.80)
PRESSURE = {"cpu": CPU_PRESSURE, "memory": Level(0.05, 0.20), "io": Level(0.20, 0.50)}
MEMORY_USED = Level(0.92, 0.98)
DEVICE_P99 = Level(0.100, 1.0)
SOFTIRQ_P99 = Level(0.010, 0.100)
DROPS = Level(1.0, 100.0)  # packets per second


@dataclass(slots=True)
class Row:
    """What a subsystem's function fills in."""

    signals: list[Signal] = field(default_factory=list)
    worst: list[Worst] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def signal(self, name: str, value: float | None, unit: str, text: str, status: str) -> None:
        if value is not None:
            self.signals.append(Signal(name, value, unit, text, status))


@dataclass(frozen=True, slots=True)
class Subsystem:
    """`probes`: name prefixes whose absence leaves holes in this row."""

    name: str
    title: str
    probes: tuple[str, ...]
    fill: Callable[[Reader, Row], None]

    def row(self, reader: Reader, states: Sequence[ProbeState]) -> tuple[OverviewRow, Row]:
        filled = Row()
        self.fill(reader, filled)
        mine = [s for s in states if s.name.startswith(self.probes)]
        missing = [f"{s.name} {s.status}: {s.reason}" for s in mine if s.status != "running"]
        levels = [s.status for s in filled.signals] + [f.status for f in filled.findings]
        status = next((level for level in ("bad", "warn") if level in levels), "ok")
        if not filled.signals and not filled.worst:
            status = "unavailable"
            missing = missing or ["no data in this range"]
        return OverviewRow(
            self.name, self.title, status, filled.signals, filled.worst, missing
        ), filled


def show_rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def named(container: str) -> str:
    return "the host" if container in _HOST else f"`{container}`"


def culprits(reader: Reader, victim: str) -> str:
    """ "`etl-7` causes 81 % of it", or "" if nobody stands out."""
    delays = reader.increase(Names.DELAY, ("victim", "culprit"))
    mine = {key[1]: value for key, value in delays.items() if key[0] == victim and value > 0}
    total = sum(mine.values())
    if not total:
        return ""
    culprit, most = max(mine.items(), key=lambda item: item[1])
    if most < total * 0.3:
        return ""
    whom = "its own tasks cause" if culprit == victim else f"{named(culprit)} causes"
    return f"{whom} {percent(most / total)} of it"


def pressure(reader: Reader, row: Row) -> None:
    """PSI: in which share of the time some task stalled for want of a resource."""
    for key, ratio in reader.rate(Names.PRESSURE, ("resource",)).items():
        resource, value = key[0], min(ratio, 1.0)
        status = PRESSURE.get(resource, CPU_PRESSURE).of(value)
        row.signal(resource, value, "ratio", f"{resource} {percent(value)} of the time", status)
        if status != "ok":
            text = (
                f"tasks stall for {_RESOURCES.get(resource, resource)} {percent(value)} of the time"
            )
            row.findings.append(Finding("pressure", status, text, probe="task.pressure"))
    stalled = reader.rate(Names.PRESSURE_CONTAINER, ("container", "resource"))
    for key, value in sorted(stalled.items(), key=lambda item: -item[1])[:2]:
        if key[0] not in _HOST and value >= 0.001:
            text = (
                f"stalls for {_RESOURCES.get(key[1], key[1])} {percent(min(value, 1))} of the time"
            )
            row.worst.append(Worst(key[0], value, "ratio", text))


def cpu(reader: Reader, row: Row) -> None:
    states = reader.rate(Names.CPU_SECONDS, ("state",))
    total = sum(states.values())
    if total:
        idle = sum(v for k, v in states.items() if k[0] in ("idle", "iowait"))
        busy = 1 - idle / total
        row.signal("busy", busy, "ratio", f"{percent(busy)} busy", BUSY.of(busy))
    host = reader.p99(Names.WAIT).get(())
    if host is not None:
        text = f"tasks wait {show_duration(host)} p99 for a CPU"
        row.signal("wait_p99", host, "seconds", text, "ok")
    waiting = reader.sums(Names.WAIT, ("container",))
    worst = reader.p99(Names.WAIT, ("container",), least=_FEW)
    ranked = sorted(worst.items(), key=lambda item: -waiting.get(item[0], 0) * min(item[1], 1))
    for key, p99 in ranked[:2]:
        adds_up = show_duration(waiting.get(key, 0.0))
        text = f"{show_duration(p99)} p99; its waits add up to {adds_up} per second"
        row.worst.append(Worst(key[0], p99, "seconds", text, culprits(reader, key[0])))
    for key, p99 in ranked[:2]:
        status = min(WAIT_P99.of(p99), WAIT_RATIO.of(waiting.get(key)), key=_severity)
        if status != "ok":
            sentence = f"{named(key[0])} waits {show_duration(p99)} p99 for a CPU"
            cause = culprits(reader, key[0])
            text = f"{sentence}; {cause}" if cause else sentence
            row.findings.append(Finding("cpu", status, text, key[0], "cpu.sched"))


def _severity(status: str) -> int:
    return ("ok", "warn", "bad").index(status)


def memory(reader: Reader, row: Row) -> None:
    total = reader.last(Names.MEMORY_TOTAL).get(())
    available = reader.last(Names.MEMORY_AVAILABLE).get(())
    if total and available is not None:
        used = 1 - available / total
        text = f"{show_bytes(available)} of {show_bytes(total)} available"
        row.signal("available", available, "bytes", text, MEMORY_USED.of(used))
    seen = sum(reader.increase(Names.OOM_KILLS).values())
    kills = max(seen, sum(reader.increase(Names.OOM_KILLS_ANYWHERE).values()))
    if kills >= 1:
        text = f"{kills:.0f} OOM kill{'s' if kills >= 2 else ''}"
        row.signal("oom_kills", kills, "count", text, "bad")
        row.findings.append(Finding("memory", "bad", f"{text} in this time", probe="memory.oom"))
    usage = reader.last(Names.MEMORY_CONTAINER, ("container",))
    largest = sorted(usage.items(), key=lambda item: -item[1])
    for key, value in [(k, v) for k, v in largest if k[0] not in _HOST][:2]:
        row.worst.append(Worst(key[0], value, "bytes", f"uses {show_bytes(value)}"))


def disk(reader: Reader, row: Row) -> None:
    busy = reader.rate(Names.BLOCK_BUSY, ("device",))
    if busy:
        device, most = max(busy.items(), key=lambda item: item[1])
        row.signal("busy", most, "ratio", f"{device[0]} busy {percent(most)} of the time", "ok")
    devices = reader.p99(Names.BLOCK_DEVICE, ("device",), least=_FEW)
    for key, p99 in list(devices.items())[:2]:
        status = DEVICE_P99.of(p99)
        text = f"{key[0]} answers in {show_duration(p99)} p99"
        row.signal(f"device_p99_{key[0]}", p99, "seconds", text, status)
        if status != "ok":
            row.findings.append(Finding("disk", status, f"disk {text}", probe="block.latency"))
    for value in reader.p99(Names.BLOCK_QUEUE, (), least=_FEW).values():
        text = f"requests queue {show_duration(value)} p99"
        row.signal("queue_p99", value, "seconds", text, DEVICE_P99.of(value))
    slowest = reader.p99(Names.BLOCK_DEVICE, ("container",), least=_FEW)
    for key, p99 in list(slowest.items())[:2]:
        row.worst.append(Worst(key[0], p99, "seconds", f"{show_duration(p99)} p99"))


def network(reader: Reader, row: Row) -> None:
    traffic: dict[str, float] = {}
    for (device, direction), value in reader.rate(Names.NET_BYTES, ("device", "direction")).items():
        if device != "lo":
            traffic[direction] = traffic.get(direction, 0.0) + value
    for direction, value in sorted(traffic.items()):
        text = f"{show_bytes(value)}/s {_DIRECTIONS.get(direction, direction)}"
        row.signal(direction, value, "bytes/second", text, "ok")
    if not reader.has(Names.DROPS):
        return
    reasons = reader.rate(Names.DROPS, ("reason",))
    total = sum(reasons.values())
    row.signal(
        "drops", total, "packets/second", f"{show_rate(total)} packets/s dropped", DROPS.of(total)
    )
    if DROPS.of(total) != "ok":
        reason, most = max(reasons.items(), key=lambda item: item[1])
        text = f"{show_rate(total)} packets/s are dropped, {percent(most / total)} for {reason[0]}"
        row.findings.append(Finding("network", "warn", text, probe="net.drop"))
    losers = reader.rate(Names.DROPS, ("container",))
    for key, value in sorted(losers.items(), key=lambda item: -item[1])[:2]:
        if value > 0:
            row.worst.append(Worst(key[0], value, "packets/second", f"{show_rate(value)} drops/s"))


def interrupts(reader: Reader, row: Row) -> None:
    raised = reader.p99(Names.SOFTIRQ_DELAY, ("vector",), least=_FEW)
    for key, p99 in list(raised.items())[:1]:
        status = SOFTIRQ_P99.of(p99)
        text = f"{key[0]} softirqs start after {show_duration(p99)} p99"
        row.signal("softirq_delay_p99", p99, "seconds", text, status)
        if status != "ok":
            row.findings.append(Finding("interrupts", status, text, probe="cpu.softirq"))
    ran = reader.p99(Names.SOFTIRQ_RUN, ("vector",), least=_FEW)
    for key, p99 in list(ran.items())[:1]:
        text = f"{key[0]} runs {show_duration(p99)} p99"
        row.signal("softirq_run_p99", p99, "seconds", text, SOFTIRQ_P99.of(p99))


SUBSYSTEMS = (
    Subsystem("pressure", "Pressure", ("task.pressure",), pressure),
    Subsystem("cpu", "CPU", ("cpu.sched", "cpu.usage", "cpu.cgroup"), cpu),
    Subsystem("memory", "Memory", ("memory.",), memory),
    Subsystem("disk", "Disk", ("block.",), disk),
    Subsystem("network", "Network", ("net.", "netdev."), network),
    Subsystem("interrupts", "Interrupts", ("cpu.softirq", "irq."), interrupts),
)
