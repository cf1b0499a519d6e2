"""Columns and head of `huatuo top`: what of a sample is shown, under which name and unit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from huatuo.cli.collect import histograms
from huatuo.cli.top_sample import Between, of_container
from huatuo.model.arithmetic import quantiles
from huatuo.model.units import percent, show_bytes, show_duration

__all__ = ["SIGNALS", "Row", "Signal", "container_lines", "containers", "host", "host_lines"]

Values = Mapping[str, float]  # by container
_C = ("container",)
_WAITS = "huatuo_cpu_sched_wait_seconds"
_DELAYS, _CULPRITS = "huatuo_cpu_sched_delay_seconds_total", 5
_STALLS = (
    "huatuo_memory_reclaim_duration_seconds",
    "huatuo_memory_reclaim_throttled_seconds",
    "huatuo_memory_reclaim_over_high_seconds",
    "huatuo_memory_compaction_duration_seconds",
)


@dataclass(frozen=True, slots=True)
class Signal:
    """One column; `name` in JSON and for --sort, `key` sorts by it, "" if none does."""

    name: str
    title: str
    key: str
    of: Callable[[Between], Values]
    show: Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Row:
    """One container; a signal that it has no number for is not there."""

    container: str
    values: Mapping[str, float]


def _rate(name: str, **where: str) -> Callable[[Between], Values]:
    return lambda between: _first(between.rate(name, _C, **where))


def _last(name: str) -> Callable[[Between], Values]:
    return lambda between: _first(between.last(name, _C))


def _p99(name: str) -> Callable[[Between], Values]:
    def of(between: Between) -> Values:
        slots = {key: each for key, each in _first(between.slots(name, _C)).items() if each.any()}
        if not slots:
            return {}
        p99 = quantiles(np.stack(list(slots.values())), 0.99)
        return dict(zip(slots, p99.tolist(), strict=True))

    return of


def _either(*choices: Callable[[Between], Values]) -> Callable[[Between], Values]:
    """The first that has a number for the container."""

    def of(between: Between) -> Values:
        found: dict[str, float] = {}
        for choice in choices:
            found = {**choice(between), **found}
        return found

    return of


def _first(values: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    return {key[0]: value for key, value in values.items()}


def _stalled(between: Between) -> Values:
    found: dict[str, float] = {}
    for name in _STALLS:
        for (container,), value in between.spent(name, _C).items():
            found[container] = found.get(container, 0.0) + value
    return found


def _pressure(resource: str) -> Callable[[Between], Values]:
    return _rate("huatuo_task_pressure_container_some_seconds_total", resource=resource)


def _moved(operation: str) -> Callable[[Between], Values]:
    return _either(
        _rate("huatuo_block_latency_transferred_bytes_total", operation=operation),
        _rate("huatuo_block_cgroup_bytes_total", operation=operation),
    )


def _sent(direction: str) -> Callable[[Between], Values]:
    def of(between: Between) -> Values:
        labels = ("container", "device")
        found: dict[str, float] = {}
        rates = between.rate("huatuo_netdev_cgroup_bytes_total", labels, direction=direction)
        for (container, device), value in rates.items():
            if device != "lo":
                found[container] = found.get(container, 0.0) + value
        return found

    return of


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _cores(value: float) -> str:
    return f"{value:.2f}"


_CPU = _either(
    _rate("huatuo_cpu_cgroup_usage_seconds_total"), _rate("huatuo_cpu_sched_run_seconds_total")
)
_RETRANSMITS = _either(
    _rate("huatuo_net_retransmit_segments_total"),
    _rate("huatuo_net_cgroup_tcp_retransmitted_segments_total"),
)
_TASKS = _either(_last("huatuo_task_cgroup_tasks"), _last("huatuo_task_state_tasks"))
SIGNALS = (
    Signal("cpu_cores", "CPU", "c", _CPU, _cores),
    Signal("cpu_limit_cores", "OF", "", _last("huatuo_cpu_cgroup_limit_cores"), _cores),
    Signal("throttled_cores", "THROTTLED", "t", _rate("huatuo_cpu_cgroup_throttled_seconds_total"),
           _cores),
    Signal("wait_p99_seconds", "WAIT p99", "w", _p99(_WAITS), show_duration),
    Signal("memory_bytes", "MEMORY", "m", _last("huatuo_memory_cgroup_used_bytes"), show_bytes),
    Signal("memory_limit_bytes", "OF", "", _last("huatuo_memory_cgroup_limit_bytes"), show_bytes),
    Signal("stalled_ratio", "STALLED", "s", _stalled, percent),
    Signal("cpu_pressure_ratio", "PSI cpu", "p", _pressure("cpu"), percent),
    Signal("memory_pressure_ratio", "memory", "", _pressure("memory"), percent),
    Signal("io_pressure_ratio", "io", "i", _pressure("io"), percent),
    Signal("read_bytes_per_second", "READ/s", "r", _moved("read"), show_bytes),
    Signal("written_bytes_per_second", "WRITE/s", "b", _moved("write"), show_bytes),
    Signal("io_p99_seconds", "IO p99", "l", _p99("huatuo_block_latency_request_seconds"),
           show_duration),
    Signal("received_bytes_per_second", "IN/s", "n", _sent("receive"), show_bytes),
    Signal("sent_bytes_per_second", "OUT/s", "o", _sent("transmit"), show_bytes),
    Signal("drops_per_second", "DROP/s", "d", _rate("huatuo_net_drop_packets_total"), _number),
    Signal("retransmits_per_second", "RETR/s", "x", _RETRANSMITS, _number),
    Signal("tasks", "TASKS", "k", _TASKS, _number),
)  # fmt: skip


def containers(between: Between, sort: str, reverse: bool = False) -> list[Row]:
    """The most of a signal first, those without it last; `reverse`: the least first."""
    found: dict[str, dict[str, float]] = {}
    for signal in SIGNALS:
        for container, value in signal.of(between).items():
            found.setdefault(container, {})[signal.name] = value
    sign = 1 if reverse else -1

    def order(row: Row) -> tuple[bool, float, str]:
        return sort not in row.values, sign * row.values.get(sort, 0.0), row.container

    return sorted((Row(name, values) for name, values in found.items()), key=order)


def container_lines(between: Between, container: str) -> Iterator[str]:
    """All about one: its signals, who ran while it waited for a CPU, its histograms so far."""
    yield container
    shown = [(signal, signal.of(between).get(container)) for signal in SIGNALS]
    yield "  ".join(f"{s.title} {s.show(value)}" for s, value in shown if value is not None)
    delays = between.rate(_DELAYS, ("victim", "culprit"))
    mine = {key[1]: rate for key, rate in delays.items() if key[0] == container and rate}
    for culprit, rate in sorted(mine.items(), key=lambda item: -item[1])[:_CULPRITS]:
        yield f"waits {percent(rate)} of the time for {culprit or 'other'} to leave a CPU"
    for metric in of_container(between.after.metrics, container):
        yield from histograms(metric)


# the host


def host(between: Between) -> dict[str, Any]:
    """For JSON: base units; rates per second."""
    last, rate = between.last, between.rate
    states = _first(rate("huatuo_cpu_usage_seconds_total", ("state",)))
    whole = sum(states.values()) or 1.0
    memory = ("total", "available", "cached", "dirty", "slab", "swap_total", "swap_free")
    return {
        "load": [_one(last(f"huatuo_cpu_load_average_{span}")) for span in ("1m", "5m", "15m")],
        "tasks": _one(last("huatuo_cpu_load_tasks")),
        "runnable_tasks": _one(last("huatuo_cpu_usage_runnable_tasks")),
        "blocked_tasks": _one(last("huatuo_cpu_usage_blocked_tasks")),
        "cpu_ratio": {state: value / whole for state, value in states.items()},
        "context_switches_per_second": _one(rate("huatuo_cpu_usage_context_switches_total")),
        "forks_per_second": _one(rate("huatuo_cpu_usage_forks_total")),
        "memory_bytes": {name: _one(last(f"huatuo_memory_info_{name}_bytes")) for name in memory},
        "swapped_pages_per_second": _first(
            rate("huatuo_memory_vmstat_swapped_pages_total", ("direction",))
        ),
        "major_faults_per_second": _one(
            rate("huatuo_memory_vmstat_faults_total", severity="major")
        ),
        "pressure_ratio": _first(rate("huatuo_task_pressure_some_seconds_total", ("resource",))),
        "disks": _disks(between),
        "network": _network(between),
        "tcp": {
            "established": _one(last("huatuo_net_protocols_tcp_established")),
            "time_wait": _one(last("huatuo_net_sockets_tcp_time_wait")),
            "retransmits_per_second": _one(
                rate("huatuo_net_protocols_tcp_retransmitted_segments_total")
            ),
        },
        "drops_per_second": _one(rate("huatuo_net_drop_packets_total")),
    }


def _one(values: Mapping[tuple[str, ...], float]) -> float | None:
    return values.get(())


def _disks(between: Between) -> dict[str, dict[str, float]]:
    """Disks that did something: mean latency in seconds of a request, per second the rest."""
    family, found = "huatuo_block_devices_", {}
    busy = _first(between.rate(f"{family}busy_seconds_total", ("device",)))
    operations = _first(between.rate(f"{family}operations_total", ("device",)))
    seconds = _first(between.rate(f"{family}operation_seconds_total", ("device",)))
    moved = between.rate(f"{family}bytes_total", ("device", "operation"))
    for device, count in operations.items():
        if count:
            found[device] = {
                "busy_ratio": busy.get(device, 0.0),
                "operations_per_second": count,
                "read_bytes_per_second": moved.get((device, "read"), 0.0),
                "written_bytes_per_second": moved.get((device, "write"), 0.0),
                "operation_seconds": seconds.get(device, 0.0) / count,
            }
    return found


def _network(between: Between) -> dict[str, dict[str, float]]:
    """Devices that are up."""
    family, labels = "huatuo_netdev_stats_", ("device", "direction")
    up = _first(between.last(f"{family}up", ("device",)))
    moved = between.rate(f"{family}bytes_total", labels)
    dropped = _first(between.rate(f"{family}dropped_packets_total", ("device",)))
    return {
        device: {
            "received_bytes_per_second": moved.get((device, "receive"), 0.0),
            "sent_bytes_per_second": moved.get((device, "transmit"), 0.0),
            "dropped_packets_per_second": dropped.get(device, 0.0),
        }
        for device, is_up in up.items()
        if is_up
    }


def host_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """For people; what this host lacks is left out."""

    def some(pairs: Mapping[str, float | None], show: Callable[[float], str]) -> str:
        return "  ".join(f"{name} {show(v)}" for name, v in pairs.items() if v is not None)

    load = " ".join(f"{one:.2f}" for one in found["load"] if one is not None)
    counts = {name: found[f"{name}_tasks"] for name in ("runnable", "blocked")}
    work = {
        "switches/s": found["context_switches_per_second"],
        "forks/s": found["forks_per_second"],
    }
    yield f"load    {load}  tasks {some({'': found['tasks']} | counts | work, _number).strip()}"
    states = sorted(found["cpu_ratio"].items(), key=lambda item: -item[1])
    yield f"cpu     {some({name: ratio for name, ratio in states if ratio >= 0.0005}, percent)}"
    paging = {f"swap {way}/s": rate for way, rate in found["swapped_pages_per_second"].items()}
    paging["major faults/s"] = found["major_faults_per_second"]
    memory = some(found["memory_bytes"], show_bytes).replace("_", " ")
    yield f"memory  {memory}  {some(paging, _number)}"
    yield f"PSI     {some(found['pressure_ratio'], percent)}"
    for device, disk in sorted(found["disks"].items(), key=lambda item: -item[1]["busy_ratio"]):
        yield (
            f"disk    {device} {percent(disk['busy_ratio'])} busy  "
            f"{_number(disk['operations_per_second'])} requests/s of "
            f"{show_duration(disk['operation_seconds'])}  "
            f"read {show_bytes(disk['read_bytes_per_second'])}/s  "
            f"written {show_bytes(disk['written_bytes_per_second'])}/s"
        )
    devices = [
        f"{name} in {show_bytes(one['received_bytes_per_second'])}/s "
        f"out {show_bytes(one['sent_bytes_per_second'])}/s"
        for name, one in found["network"].items()
    ]
    numbers = {name.replace("_per_second", "/s"): value for name, value in found["tcp"].items()}
    numbers["drops/s"] = found["drops_per_second"]
    yield f"net     {'  '.join(devices)}  tcp {some(numbers, _number).replace('_', ' ')}"
