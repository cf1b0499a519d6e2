"""The triggers that are there without any configuration; a table [[trigger]] of the same name
changes one, `enabled = false` in it switches it off.

Each asks for two things at once: a level that hurts, and a change against the minutes before, so
that a machine that is always so is left alone.
"""

from __future__ import annotations

from huatuo.settings import Trigger

__all__ = ["BUILTIN"]

_SECOND = 1_000_000_000
_RUN = "rate(cpu_sched_run_seconds_total)"
_SYSTEM = 'rate(cpu_usage_seconds_total{state="system"}) / rate(cpu_usage_seconds_total)'
_OWN_SYSTEM = 'rate(cpu_cgroup_usage_seconds_total{state="system"})'
_SOFTIRQ = 'rate(cpu_usage_seconds_total{state=~"softirq|irq"}) / rate(cpu_usage_seconds_total)'
_DELAY = "rate(cpu_sched_delay_seconds_total{victim!=culprit})"
_THROTTLED = "rate(cpu_cgroup_throttled_periods_total) / rate(cpu_cgroup_periods_total)"
_BLOCKED = 'task_state_tasks{state=~"disk|lock|blocked"}'
_OPERATIONS = "rate(block_devices_operations_total{device!~DISKS})"
_SPENT = "rate(block_devices_operation_seconds_total{device!~DISKS})"
_BUSY = "rate(block_devices_busy_seconds_total{device!~DISKS})"
_MOVED = 'rate(block_devices_bytes_total{device=~"nvme.*"})'
_SENT = 'rate(net_protocols_tcp_segments_total{direction="transmit"})'
_AGAIN = "rate(net_protocols_tcp_retransmitted_segments_total)"
_FORKS = "rate(cpu_usage_forks_total)"
# a fork and the end of its child are some dozens of faults, and switches are not theirs alone
_MINOR = 'rate(memory_cgroup_faults_total{severity="minor"})'
_DROPS = "rate(net_drop_packets_total)"
_MAJOR = 'rate(memory_cgroup_faults_total{severity="major"})'
_RECLAIM = "rate(memory_vmstat_allocation_stalls_total)"
_STACKED = '"(nvme|md|dm-|loop|zram|ram).*"'  # disks of disks, and those that work in parallel
_MORE = " per container"


def _change(value: str, length: str = "5m") -> str:
    return f"({value}) - before({value}, {length})"


def _grown(value: str, length: str = "5m") -> str:
    return f"grown({value}, {length})"


def _pressure(resource: str, least: str) -> str:
    value = f'rate(task_pressure_some_seconds_total{{resource="{resource}"}})'
    return f"{value} > {least} and {_change(value)} > {least} / 2"


def _events(probe: str, kind: str = "") -> str:
    """Any in the last minute."""
    which = f',kind="{kind}"' if kind else ""
    return f'grown(events_total{{probe="{probe}"{which}}}, 1m) >= 1'


def _disks(text: str) -> str:
    return text.replace("DISKS", _STACKED)


BUILTIN: tuple[Trigger, ...] = (
    Trigger("system-cpu", f"{_SYSTEM} > 45 % and {_change(_SYSTEM)} > 20 %",
            suspects=_grown(_RUN), plan="cpu"),
    Trigger("container-cpu", f"{_RUN} > 75 % and {_change(_RUN)} > 55 %", "container",
            hold=10 * _SECOND, plan="cpu"),
    Trigger("container-system-cpu", f"{_OWN_SYSTEM} > 45 % and {_change(_OWN_SYSTEM)} > 20 %",
            "container", plan="cpu"),
    Trigger("contention", f"{_DELAY} > 40 % and {_grown(_DELAY)} > 30 %", "victim",
            suspects=f"{_DELAY} per culprit", plan="cpu"),
    Trigger("run-queue-latency", "p99(cpu_sched_wait_seconds) > 20 ms and"
            " rate(cpu_sched_wait_seconds) > 20 and p99(cpu_sched_wait_seconds) >"
            " 4 * before(p99(cpu_sched_wait_seconds), 5m)", "container", hold=10 * _SECOND,
            suspects=f"{_DELAY} per culprit", plan="cpu"),
    Trigger("throttling", f"{_THROTTLED} > 25 % and {_change(_THROTTLED)} > 20 %", "container",
            hold=10 * _SECOND, plan="cpu"),
    Trigger("load", "cpu_load_average_1m / rate(cpu_usage_seconds_total) > 4 and"
            " cpu_load_average_1m > 2 * before(cpu_load_average_1m, 10m)",
            suspects="task_state_load_average_1m per container", plan="tasks"),
    Trigger("blocked-tasks", f"{_BLOCKED} > 5 and {_grown(_BLOCKED)} > 4", "container",
            hold=10 * _SECOND, plan="tasks"),
    Trigger("disk-busy", _disks(f"{_BUSY} > 90 % and {_change(_BUSY)} > 40 %"), "device",
            hold=5 * _SECOND, plan="io"),
    Trigger("disk-busy-nvme", f"{_MOVED} > 2 GiB", "device", hold=5 * _SECOND, plan="io"),
    Trigger("disk-slow", _disks(f"{_SPENT} / {_OPERATIONS} > 100 ms and {_OPERATIONS} > 2"
            f" and {_SPENT} / {_OPERATIONS} > 3 * before({_SPENT} / {_OPERATIONS}, 5m)"),
            "device", hold=5 * _SECOND, plan="io"),
    Trigger("memory-burst", "memory_info_anon_bytes > 2 * before(memory_info_anon_bytes, 10m) and"
            " memory_info_anon_bytes / memory_info_total_bytes > 70 %",
            suspects=_grown("memory_cgroup_anon_bytes", "10m"), plan="memory"),
    Trigger("container-memory-burst", f"{_change('memory_cgroup_anon_bytes', '10m')} > 512 MiB and"
            " memory_cgroup_anon_bytes > 2 * before(memory_cgroup_anon_bytes, 10m)",
            "container", plan="memory"),
    Trigger("memory-pressure", _pressure("memory", "10 %"), hold=10 * _SECOND,
            suspects=f"{_MAJOR}{_MORE}", plan="memory"),
    Trigger("io-pressure", _pressure("io", "50 %"), hold=20 * _SECOND, plan="io"),
    Trigger("direct-reclaim", f"{_RECLAIM} > 50 and {_change(_RECLAIM)} > 40",
            suspects=f"{_MAJOR}{_MORE}", plan="memory"),
    Trigger("major-faults", f"{_MAJOR} > 200 and {_change(_MAJOR)} > 150", "container",
            hold=10 * _SECOND, plan="io"),
    Trigger("packet-drops", f"{_DROPS} > 100 and {_grown(_DROPS)} > 0.75 * {_DROPS}",
            "container", plan="network"),
    Trigger("retransmits", f"{_AGAIN} / {_SENT} > 5 % and {_AGAIN} > 20 and"
            f" {_AGAIN} > 4 * before({_AGAIN}, 5m)",
            suspects="rate(net_retransmit_segments_total) per container", plan="network"),
    Trigger("softirq", f"{_SOFTIRQ} > 60 % and {_change(_SOFTIRQ)} > 40 %", "cpu",
            hold=5 * _SECOND, plan="cpu"),
    Trigger("fork-storm", f"{_FORKS} > 300 and {_FORKS} > 5 * before({_FORKS}, 5m)",
            suspects=_grown(_MINOR), plan="cpu"),
    Trigger("descriptors", f"{_change('task_state_descriptors', '10m')} > 5000 and"
            " task_state_descriptors > 2 * before(task_state_descriptors, 10m)", "container",
            plan="tasks"),
    Trigger("oom-kill", _events("memory.oom"), "container", plan="memory"),
    Trigger("hung-task", _events("task.state", "hung_tasks"), "container", plan="tasks"),
    Trigger("file-system-error", _events("fs.errors"), plan="io"),
    Trigger("threads", f"{_change('task_state_tasks', '10m')} > 1000 and"
            " task_state_tasks > 2 * before(task_state_tasks, 10m)", "container", plan="tasks"),
)  # fmt: skip
