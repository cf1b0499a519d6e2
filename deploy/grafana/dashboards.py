"""Write the dashboards beside this file, one JSON per dashboard, for Grafana 9 or later.

python deploy/grafana/dashboards.py    write them; tests/test_deploy.py compares

Prometheus scrapes the agents as job "huatuo", with classic histograms (where it takes native ones,
with scrape_classic_histograms). Every panel has one unit, every query one legend; queries use
$__rate_interval and the variables $instance, and $container or $device where there are such.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
_SOURCE = {"type": "prometheus", "uid": "$datasource"}
_COLUMNS, _HEIGHT = 24, 8


@dataclass(frozen=True, slots=True)
class Panel:
    """`queries`: expression → legend. `unit` as Grafana calls it. `kind`: timeseries or stat."""

    title: str
    queries: Mapping[str, str]
    unit: str = "short"
    help: str = ""
    kind: str = "timeseries"
    width: int = 12
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Dashboard:
    """`sections`: title → panels. `variables`: name → the query of its values."""

    uid: str
    title: str
    variables: Mapping[str, str]
    sections: Mapping[str, tuple[Panel, ...]]

    @property
    def panels(self) -> Iterator[Panel]:
        for panels in self.sections.values():
            yield from panels


# expressions


def _of(name: str, labels: str = "") -> str:
    chosen = 'instance=~"$instance"' + (f",{labels}" if labels else "")
    return f"{name}{{{chosen}}}"


def now(name: str, by: str = "instance", labels: str = "") -> str:
    """A gauge."""
    return f"sum by ({by}) ({_of('huatuo_' + name, labels)})"


def rate(name: str, by: str = "instance", labels: str = "") -> str:
    """Growth of a counter per second."""
    return f"sum by ({by}) (rate({_of('huatuo_' + name, labels)}[$__rate_interval]))"


def spent(name: str, by: str = "instance", labels: str = "") -> str:
    """Seconds per second that a histogram of durations adds up to."""
    return rate(f"{name}_sum", by, labels)


def quantile(q: float, name: str, by: str = "instance", labels: str = "") -> str:
    """Of a histogram."""
    return f"histogram_quantile({q}, {rate(f'{name}_bucket', f'{by}, le', labels)})"


def seen(name: str, by: str, labels: str = "") -> str:
    """Growth per second of what task.syscalls counts in its windows, as if they were always."""
    watched = rate("task_syscalls_observed_seconds_total")
    counted = rate(f"task_syscalls_{name}", f"instance, {by}", labels)
    return f"sum by ({by}) ({counted} / on (instance) group_left () {watched})"


def most(expression: str, count: int = 10) -> str:
    return f"topk({count}, {expression})"


def stat(title: str, expression: str, unit: str = "short", help: str = "") -> Panel:
    return Panel(title, {expression: "{{instance}}"}, unit, help, "stat", 4)


def one(title: str, expression: str, legend: str, unit: str = "short", help: str = "") -> Panel:
    return Panel(title, {expression: legend}, unit, help)


def p50_and_p99(title: str, name: str, help: str = "") -> Panel:
    queries = {quantile(0.5, name): "p50 {{instance}}", quantile(0.99, name): "p99 {{instance}}"}
    return Panel(title, queries, "s", help)


# the dashboards

_IDLE = rate("cpu_usage_seconds_total", labels='state=~"idle|iowait"')
_CPU = rate("cpu_usage_seconds_total", labels='state!~"guest.*"')
HOST = Dashboard(
    "huatuo-host",
    "HUATUO / Host",
    {},
    {
        "At a glance": (
            stat("CPU busy", f"1 - {_IDLE} / {_CPU}", "percentunit"),
            stat("Load, 1 min", now("cpu_load_average_1m")),
            stat("Memory available", now("memory_info_available_bytes"), "bytes"),
            stat("CPU pressure", rate("task_pressure_some_seconds_total", labels='resource="cpu"'),
                 "percentunit", "share of the time in which some task waited for a CPU"),
            stat("Memory pressure",
                 rate("task_pressure_some_seconds_total", labels='resource="memory"'),
                 "percentunit"),
            stat("I/O pressure", rate("task_pressure_some_seconds_total", labels='resource="io"'),
                 "percentunit"),
        ),
        "CPU": (
            Panel("CPU by state", {rate("cpu_usage_seconds_total", "state"): "{{state}}"}, "short",
                  "cores", stacked=True),
            p50_and_p99("Wait for a CPU", "cpu_sched_wait_seconds",
                        "time that runnable tasks spend in a run queue"),
            Panel("Load and tasks", {
                now("cpu_load_average_1m"): "load 1 min",
                now("cpu_usage_runnable_tasks"): "runnable",
                now("cpu_usage_blocked_tasks"): "blocked",
            }),
            Panel("Switches and forks", {
                rate("cpu_usage_context_switches_total"): "switches",
                rate("cpu_usage_forks_total"): "forks",
                rate("cpu_sched_migrations_total"): "migrations",
            }, "ops"),
            one("Pressure, some", rate("task_pressure_some_seconds_total", "resource"),
                "{{resource}}", "percentunit", "some task waited for it"),
            one("Pressure, full", rate("task_pressure_full_seconds_total", "resource"),
                "{{resource}}", "percentunit", "all tasks that had work waited for it"),
            one("Tasks by state", now("task_state_tasks", "state"), "{{state}}"),
            one("Uninterruptible sleep", spent("cpu_sched_blocked_seconds", "reason"),
                "{{reason}}", "short", "tasks in state D on average, by reason"),
        ),
        "Interrupts": (
            one("Softirqs", rate("irq_interrupts_softirqs_total", "vector"), "{{vector}}", "ops"),
            one("Softirq delay p99", quantile(0.99, "cpu_softirq_delay_seconds", "vector"),
                "{{vector}}", "s", "from raise to run"),
            one("Softirq time on CPU", spent("cpu_softirq_run_seconds", "vector"), "{{vector}}",
                "percentunit"),
            one("Interrupts", most(rate("irq_interrupts_handled_total", "interrupt")),
                "{{interrupt}}", "ops"),
            one("Interrupt handlers p99",
                most(quantile(0.99, "irq_handler_run_seconds", "interrupt")), "{{interrupt}}", "s"),
            one("Interrupt handlers, time on CPU",
                most(spent("irq_handler_run_seconds", "interrupt")), "{{interrupt}}",
                "percentunit"),
            p50_and_p99("Ticks that come late", "irq_tick_delay_seconds",
                        "how long interrupts are off, as seen by the timer"),
            one("Latest tick", f"max by (instance, cpu) ({_of('huatuo_irq_tick_longest_seconds')})",
                "CPU {{cpu}}", "s", "in the last half to whole minute"),
            one("Lockups and stalls reported by the kernel",
                f"increase({_of('huatuo_cpu_lockup_reports_total')}[1h])", "{{kind}}", "short",
                "within an hour"),
        ),
        "Memory": (
            Panel("Memory", {
                now("memory_info_anon_bytes"): "anonymous",
                now("memory_info_cached_bytes"): "page cache",
                now("memory_info_slab_bytes"): "kernel objects",
                now("memory_info_page_tables_bytes"): "page tables",
                now("memory_info_free_bytes"): "free",
            }, "bytes", stacked=True),
            Panel("Time lost to reclaim and compaction", {
                spent("memory_reclaim_duration_seconds", "kind"): "reclaim, {{kind}}",
                spent("memory_compaction_duration_seconds", "kind"): "compaction, {{kind}}",
            }, "percentunit", "seconds of tasks per second"),
            one("Page faults", rate("memory_vmstat_faults_total", "severity"), "{{severity}}",
                "ops"),
            one("Major faults wait, p99",
                quantile(0.99, "memory_faults_major_seconds", "source"), "{{source}}", "s",
                "for a page to be read"),
            one("Swapping", rate("memory_vmstat_swapped_pages_total", "direction"),
                "{{direction}}", "ops", "pages"),
            one("Pages reclaimed", rate("memory_vmstat_reclaimed_pages_total", "reclaimer"),
                "{{reclaimer}}", "ops"),
            one("OOM kills", f"increase({_of('huatuo_memory_vmstat_oom_kills_total')}[1h])",
                "{{instance}}", "short", "within an hour"),
            Panel("Waiting to be written", {
                now("memory_info_dirty_bytes"): "dirty",
                now("memory_info_writeback_bytes"): "being written",
                now("memory_vmstat_dirty_limit_bytes"): "limit",
            }, "bytes"),
            one("kswapd", spent("memory_reclaim_kswapd_run_seconds", "instance, node"),
                "node {{node}}", "percentunit", "share of the time in which it reclaims"),
            one("Free memory too scattered for huge pages",
                now("memory_zones_unusable_ratio", "instance, node, zone", 'order="9"'),
                "node {{node}} {{zone}}", "percentunit", "share that lies in smaller blocks"),
            one("Kernel object caches", most(now("memory_slab_cache_bytes", "cache")),
                "{{cache}}", "bytes"),
            one("Allocated on another node than it runs on",
                rate("memory_nodes_placed_pages_total", "instance, node", 'by="remote"'),
                "node {{node}}", "ops", "pages"),
            one("Free memory by zone", now("memory_zones_free_bytes", "instance, node, zone"),
                "node {{node}} {{zone}}", "bytes"),
        ),
        "System calls": (
            one("System calls", most(seen("duration_seconds_count", "syscall")), "{{syscall}}",
                "ops", "those that took no longer than a window of 100 ms"),
            one("System calls that failed", most(seen("errors_total", "syscall, error")),
                "{{syscall}} {{error}}", "ops"),
            one("System call latency p99",
                quantile(0.99, "task_syscalls_container_duration_seconds", "kind"), "{{kind}}",
                "s"),
            one("Time in system calls",
                most(seen("duration_seconds_sum", "syscall", 'syscall!~"futex|.*poll.*|.*sleep"')),
                "{{syscall}}", "short", "tasks in them on average, without those made to wait"),
        ),
        "Hardware": (
            one("Errors reported by hardware",
                rate("hardware_ras_errors_total", "source, severity"), "{{source}} {{severity}}",
                "ops"),
            one("Memory errors", rate("hardware_edac_errors_total", "severity"), "{{severity}}",
                "ops"),
            one("Temperatures", _of("huatuo_hardware_thermal_temperature_celsius"), "{{sensor}}",
                "celsius"),
            one("CPU frequency, mean", now("hardware_frequency_now_hertz", "package", 'of="mean"'),
                "package {{package}}", "hertz"),
        ),
    },
)  # fmt: skip

_C, _C_NAME = 'container=~"$container"', "{{container}}"


def _mine(name: str, by: str = "container") -> str:
    return most(rate(name, by, _C))


CONTAINERS = Dashboard(
    "huatuo-containers",
    "HUATUO / Containers",
    {"container": "label_values(huatuo_cpu_sched_run_seconds_total, container)"},
    {
        "CPU": (
            one("CPU used", _mine("cpu_sched_run_seconds_total"), _C_NAME, "short", "cores"),
            one("Wait for a CPU p99",
                most(quantile(0.99, "cpu_sched_wait_seconds", "container", _C)), _C_NAME, "s"),
            one("Who delays whom",
                most(rate("cpu_sched_delay_seconds_total", "victim, culprit",
                          'victim=~"$container"')),
                "{{victim}} by {{culprit}}", "percentunit",
                "seconds of waiting per second, by who ran meanwhile"),
            one("Throttled", _mine("cpu_cgroup_throttled_seconds_total"), _C_NAME, "short",
                "cores withheld by the container's own limit"),
            one("CPU used, of the limit",
                f"{rate('cpu_cgroup_usage_seconds_total', 'instance, container', _C)} / "
                f"{now('cpu_cgroup_limit_cores', 'instance, container', _C)}",
                _C_NAME, "percentunit"),
            one("Pressure, CPU",
                most(rate("task_pressure_container_some_seconds_total", "container",
                          f'{_C},resource="cpu"')), _C_NAME, "percentunit"),
        ),
        "Memory": (
            one("Memory used", most(now("memory_cgroup_used_bytes", "container", _C)), _C_NAME,
                "bytes"),
            one("Memory used, of the limit",
                f"{now('memory_cgroup_used_bytes', 'instance, container', _C)} / "
                f"{now('memory_cgroup_limit_bytes', 'instance, container', _C)}",
                _C_NAME, "percentunit"),
            one("Time lost to reclaim", most(spent("memory_reclaim_duration_seconds", "container",
                                                   _C)), _C_NAME, "percentunit"),
            one("OOM kills", most(f"sum by (container) (increase("
                                  f"{_of('huatuo_memory_oom_kills_total', _C)}[1h]))"),
                _C_NAME, "short", "within an hour"),
            one("Major faults", most(rate("memory_cgroup_faults_total", "container",
                                          f'{_C},severity="major"')), _C_NAME, "ops"),
            one("Time lost to major faults",
                most(spent("memory_faults_major_seconds", "container", _C)), _C_NAME,
                "percentunit"),
            one("Pressure, memory",
                most(rate("task_pressure_container_some_seconds_total", "container",
                          f'{_C},resource="memory"')), _C_NAME, "percentunit"),
        ),
        "Storage": (
            one("Bytes read and written",
                _mine("block_latency_transferred_bytes_total", "container, operation"),
                "{{container}} {{operation}}", "Bps"),
            one("Request latency p99",
                most(quantile(0.99, "block_latency_request_seconds", "container", _C)), _C_NAME,
                "s"),
            one("Uninterruptible sleep",
                most(spent("cpu_sched_blocked_seconds", "container, reason", _C)),
                "{{container}} {{reason}}", "short", "tasks in state D on average"),
            one("Writers paused",
                most(spent("fs_writeback_pause_seconds", "container", _C)), _C_NAME,
                "percentunit", "because too much of the page cache is dirty"),
        ),
        "Network": (
            one("Traffic", _mine("netdev_cgroup_bytes_total", "container, direction"),
                "{{container}} {{direction}}", "Bps"),
            one("Packets dropped", _mine("net_drop_packets_total", "container, reason"),
                "{{container}} {{reason}}", "pps"),
            one("Retransmitted segments", _mine("net_retransmit_segments_total"), _C_NAME, "pps"),
            one("Connection attempts that failed",
                _mine("net_connection_failures_total", "container, outcome"),
                "{{container}} {{outcome}}", "ops"),
        ),
        "Tasks": (
            one("Tasks", most(now("task_state_tasks", "container", _C)), _C_NAME),
            one("File descriptors", most(now("task_state_descriptors", "container", _C)), _C_NAME),
            one("Load", most(now("task_state_load_average_1m", "container", _C)), _C_NAME, "short",
                "over a minute, as the host's"),
            one("Forks refused", _mine("task_cgroup_refused_forks_total"), _C_NAME, "ops"),
            one("System calls",
                most(seen("container_duration_seconds_count", "container, kind", _C)),
                "{{container}} {{kind}}", "ops"),
            one("System calls that failed", most(seen("errors_total", "container, error", _C)),
                "{{container}} {{error}}", "ops"),
            one("Processes started", _mine("task_fork_processes_total"), _C_NAME, "ops"),
            one("Processes that ended badly",
                most(rate("task_exit_processes_total", "container, kind", f'{_C},kind!="clean"')),
                "{{container}} {{kind}}", "ops"),
        ),
    },
)  # fmt: skip

_D = 'device=~"$device"'


def _device(name: str, by: str = "device, direction") -> str:
    return rate(f"netdev_stats_{name}_total", by, _D)


NETWORK = Dashboard(
    "huatuo-network",
    "HUATUO / Network",
    {"device": "label_values(huatuo_netdev_stats_up, device)"},
    {
        "Devices": (
            one("Bytes", _device("bytes"), "{{device}} {{direction}}", "Bps"),
            one("Packets", _device("packets"), "{{device}} {{direction}}", "pps"),
            one("Dropped by devices", _device("dropped_packets"), "{{device}} {{direction}}",
                "pps"),
            one("Errors", _device("errors"), "{{device}} {{direction}}", "pps"),
            Panel("Queueing disciplines", {
                rate("netdev_qdisc_dropped_packets_total", "device", _D): "{{device}} dropped",
                rate("netdev_qdisc_requeued_packets_total", "device", _D): "{{device}} requeued",
            }, "pps"),
            Panel("Receive backlog of the CPUs", {
                rate("netdev_softnet_dropped_packets_total"): "dropped",
                rate("netdev_softnet_squeezes_total"): "squeezes",
            }, "ops"),
            one("RDMA traffic", rate("netdev_rdma_bytes_total", "device, direction"),
                "{{device}} {{direction}}", "Bps"),
            one("PFC frames", rate("netdev_dcb_pause_frames_total", "device, direction"),
                "{{device}} {{direction}}", "pps"),
        ),
        "Drops": (
            one("Packets dropped, by reason", most(rate("net_drop_packets_total", "reason")),
                "{{reason}}", "pps"),
            one("Packets dropped, by container", most(rate("net_drop_packets_total", "container")),
                _C_NAME, "pps"),
            Panel("Listen queues", {
                rate("net_protocols_tcp_listen_overflows_total"): "overflows {{instance}}",
                rate("net_protocols_tcp_listen_drops_total"): "drops {{instance}}",
            }, "ops", "connections refused because nobody accepted them in time"),
            one("UDP queues that were full",
                rate("net_protocols_udp_buffer_errors_total", "family, direction"),
                "{{family}} {{direction}}", "pps"),
        ),
        "TCP": (
            one("Retransmissions, by kind", rate("net_retransmit_segments_total", "kind"),
                "{{kind}}", "pps"),
            one("Segments sent again, of all",
                f"{rate('net_protocols_tcp_retransmitted_segments_total')} / "
                + rate("net_protocols_tcp_segments_total", labels='direction="transmit"'),
                "{{instance}}", "percentunit"),
            p50_and_p99("Round-trip time", "net_connection_rtt_seconds",
                        "of connections when they end"),
            p50_and_p99("Time to connect", "net_connection_connect_seconds"),
            one("Connections that failed", rate("net_connection_failures_total", "phase, outcome"),
                "{{phase}} {{outcome}}", "ops"),
            Panel("Resets", {
                rate("net_connection_sent_resets_total", "reason"): "sent, {{reason}}",
                rate("net_connection_received_resets_total"): "received",
            }, "ops"),
            one("Connections opened", rate("net_protocols_tcp_opened_connections_total", "side"),
                "{{side}}", "ops"),
            Panel("Connections", {
                now("net_protocols_tcp_established"): "established",
                now("net_sockets_tcp_time_wait"): "time wait",
                now("net_sockets_tcp_orphans"): "orphans",
            }),
        ),
        "Paths": (
            Panel("Receive path p99", {
                quantile(0.99, "net_receive_stack_seconds"): "to the stack",
                quantile(0.99, "net_receive_tcp_seconds"): "to TCP",
                quantile(0.99, "net_receive_user_seconds"): "to the program",
            }, "s", "from the device's stamp on"),
            Panel("Transmit path p99", {
                quantile(0.99, "net_transmit_stack_seconds"): "to the qdisc",
                quantile(0.99, "net_transmit_queue_seconds"): "in the qdisc",
            }, "s"),
        ),
        "Tables": (
            one("Connection tracking, of the limit",
                f"{now('net_conntrack_entries')} / {now('net_conntrack_limit_entries')}",
                "{{instance}}", "percentunit"),
            one("Neighbours, of the limit",
                f"{now('net_neighbour_entries', 'instance, family')} / "
                + now("net_neighbour_limit_entries", "instance, family"),
                "{{family}}", "percentunit"),
            one("Memory of sockets", now("net_sockets_memory_bytes", "protocol"), "{{protocol}}",
                "bytes"),
            one("Sockets in use", now("net_sockets_in_use", "protocol"), "{{protocol}}"),
        ),
    },
)  # fmt: skip

STORAGE = Dashboard(
    "huatuo-storage",
    "HUATUO / Storage",
    {"device": "label_values(huatuo_block_devices_busy_seconds_total, device)"},
    {
        "Disks": (
            one("Bytes", rate("block_devices_bytes_total", "device, operation", _D),
                "{{device}} {{operation}}", "Bps"),
            one("Operations", rate("block_devices_operations_total", "device, operation", _D),
                "{{device}} {{operation}}", "iops"),
            one("In the device p99",
                quantile(0.99, "block_latency_device_seconds", "device, operation", _D),
                "{{device}} {{operation}}", "s", "from issue to completion"),
            one("In the queue p99",
                quantile(0.99, "block_latency_queue_seconds", "device, operation", _D),
                "{{device}} {{operation}}", "s", "from a request's start to its issue"),
            one("Busy", rate("block_devices_busy_seconds_total", "device", _D), "{{device}}",
                "percentunit"),
            one("Requests under way", rate("block_devices_queue_seconds_total", "device", _D),
                "{{device}}", "short", "on average"),
            Panel("Trouble", {
                rate("block_latency_errors_total", "device", _D): "{{device}} errors",
                rate("block_latency_requeues_total", "device", _D): "{{device}} requeues",
            }, "ops"),
            one("Request latency p99, by container",
                most(quantile(0.99, "block_latency_request_seconds", "container", _D)), _C_NAME,
                "s"),
        ),
        "File systems": (
            one("Space used",
                f"1 - {_of('huatuo_fs_space_available_bytes')} / "
                + _of("huatuo_fs_space_size_bytes"), "{{mount}}", "percentunit"),
            one("Inodes used",
                f"1 - {_of('huatuo_fs_space_free_inodes')} / ({_of('huatuo_fs_space_inodes')} > 0)",
                "{{mount}}", "percentunit"),
            one("Latency of file operations p99",
                quantile(0.99, "fs_latency_duration_seconds", "filesystem, operation"),
                "{{filesystem}} {{operation}}", "s"),
            one("fsync p99", quantile(0.99, "fs_sync_duration_seconds", "device, operation"),
                "{{device}} {{operation}}", "s"),
            one("Writers paused", spent("fs_writeback_pause_seconds", "device"), "{{device}}",
                "percentunit", "because too much of the page cache is dirty"),
            Panel("Errors on record", {
                now("fs_health_errors_total", "device"): "{{device}}",
                rate("fs_errors_found_total", "device"): "{{device}} found per second",
            }, "short", "that file systems have noted, and that are found now"),
            one("Files open", f"{now('fs_handles_open')} / {now('fs_handles_limit')}",
                "{{instance}}", "percentunit"),
            one("Read-only or unreachable", f"{_of('huatuo_fs_space_read_only')} + "
                f"{_of('huatuo_fs_space_unreachable')}", "{{mount}}"),
        ),
        "Health of disks": (
            one("Endurance used", _of("huatuo_hardware_disks_wear_ratio", _D), "{{device}}",
                "percentunit"),
            one("Temperature", _of("huatuo_hardware_disks_temperature_celsius", _D),
                "{{device}} {{sensor}}", "celsius"),
        ),
    },
)  # fmt: skip

AGENT = Dashboard(
    "huatuo-agent",
    "HUATUO / Agent",
    {},
    {
        "At a glance": (
            stat("Up", 'up{instance=~"$instance",job="huatuo"}'),
            stat("Probes that run", now("probe_running")),
            stat("Shed by the governor", now("governor_shed")),
            stat("CPU, of the machine", now("governor_cpu_used_ratio"), "percentunit"),
            stat("Memory", now("governor_memory_used_bytes"), "bytes"),
            stat("Scrape", 'scrape_duration_seconds{instance=~"$instance",job="huatuo"}', "s"),
        ),
        "Cost": (
            Panel("CPU and budget", {
                now("governor_cpu_used_ratio"): "used {{instance}}",
                now("governor_cpu_budget_ratio"): "budget {{instance}}",
            }, "percentunit"),
            Panel("Memory and budget", {
                now("governor_memory_used_bytes"): "used {{instance}}",
                now("governor_memory_budget_bytes"): "budget {{instance}}",
            }, "bytes"),
            one("CPU by probe", most(now("probe_cpu_ratio", "probe")), "{{probe}}", "percentunit"),
            one("Program runs by probe", most(now("probe_hits_per_second", "probe")), "{{probe}}",
                "ops"),
            one("CPU time of a collection", most(now("probe_collect_seconds", "probe")),
                "{{probe}}", "s"),
            one("Governor's decisions", rate("governor_decisions_total", "action, probe"),
                "{{action}} {{probe}}", "ops"),
        ),
        "Records": (
            one("Delivered", most(rate("probe_records_delivered_total", "probe")), "{{probe}}",
                "ops"),
            one("Held back on purpose",
                most(rate("probe_records_suppressed_total", "probe, reason")),
                "{{probe}} {{reason}}", "ops"),
            one("Lost", most(rate("probe_lost_total", "probe, reason")), "{{probe}} {{reason}}",
                "ops"),
            one("Collection errors", most(rate("probe_collect_errors_total", "probe")),
                "{{probe}}", "ops"),
        ),
        "Store and profiles": (
            one("Store", now("store_bytes"), "{{instance}}", "bytes"),
            one("Series", now("store_series"), "{{instance}}"),
            one("Not written", rate("store_lost_total", "what"), "{{what}}", "ops"),
            one("Missed by slow subscribers", rate("agent_stream_lost_total"), "{{instance}}",
                "ops"),
            one("Rate that profilers keep", now("governor_pace_ratio", "probe"), "{{probe}}",
                "percentunit"),
            one("Symbol tables", rate("symbols_tables_total", "outcome"), "{{outcome}}", "ops"),
        ),
    },
)  # fmt: skip

DASHBOARDS = (HOST, CONTAINERS, NETWORK, STORAGE, AGENT)


# to JSON


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": _SOURCE,
        "query": query,
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
        "sort": 1,
    }


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    custom = {"fillOpacity": 40, "stacking": {"mode": "normal"}} if panel.stacked else {}
    return {
        "id": number,
        "title": panel.title,
        "description": panel.help,
        "type": panel.kind,
        "datasource": _SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": _HEIGHT},
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "custom": custom},
            "overrides": [],
        },
        "targets": [
            {"refId": chr(ord("A") + at), "expr": expression, "legendFormat": legend}
            for at, (expression, legend) in enumerate(panel.queries.items())
        ],
    }


def _panels(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    """Section by section, from left to right."""
    y, number = 0, 0
    for title, panels in dashboard.sections.items():
        number += 1
        row = {"x": 0, "y": y, "w": _COLUMNS, "h": 1}
        yield {"id": number, "type": "row", "title": title, "gridPos": row, "panels": []}
        x, y = 0, y + 1
        for panel in panels:
            if x + panel.width > _COLUMNS:
                x, y = 0, y + _HEIGHT
            number += 1
            yield _panel(panel, number, x, y)
            x += panel.width
        y += _HEIGHT


def document(dashboard: Dashboard) -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    variables = {"instance": "label_values(huatuo_agent_info, instance)", **dashboard.variables}
    source = {"name": "datasource", "type": "datasource", "query": "prometheus"}
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["huatuo"],
        "schemaVersion": 37,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [
            {"type": "dashboards", "tags": ["huatuo"], "title": "HUATUO", "asDropdown": True}
        ],
        "templating": {"list": [source, *(_variable(*each) for each in variables.items())]},
        "panels": list(_panels(dashboard)),
    }


def files() -> dict[str, str]:
    """File name → text of every dashboard."""
    return {
        f"{dashboard.uid}.json": json.dumps(document(dashboard), indent=1, ensure_ascii=False)
        + "\n"
        for dashboard in DASHBOARDS
    }


def main() -> None:
    """Write the dashboards."""
    for name, text in files().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
