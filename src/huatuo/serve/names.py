"""The metric families that the overview, the container table and audits are made of.

They belong to the probes; one that is not stored leaves its column empty, never breaks the page.
"""

from __future__ import annotations

__all__ = ["Names"]


class Names:
    """Family names as the probes export them."""

    WAIT = "huatuo_cpu_sched_wait_seconds"
    RUN = "huatuo_cpu_sched_run_seconds_total"
    DELAY = "huatuo_cpu_sched_delay_seconds_total"
    CPU_SECONDS = "huatuo_cpu_usage_seconds_total"
    CPU_CONTAINER = "huatuo_cpu_cgroup_usage_seconds_total"
    CPU_THROTTLED = "huatuo_cpu_cgroup_throttled_seconds_total"
    PRESSURE = "huatuo_task_pressure_some_seconds_total"
    PRESSURE_CONTAINER = "huatuo_task_pressure_container_some_seconds_total"
    MEMORY_TOTAL = "huatuo_memory_info_total_bytes"
    MEMORY_AVAILABLE = "huatuo_memory_info_available_bytes"
    MEMORY_CONTAINER = "huatuo_memory_cgroup_used_bytes"
    OOM_KILLS = "huatuo_memory_oom_kills_total"
    OOM_KILLS_ANYWHERE = "huatuo_memory_vmstat_oom_kills_total"
    BLOCK_QUEUE = "huatuo_block_latency_queue_seconds"
    BLOCK_DEVICE = "huatuo_block_latency_device_seconds"
    BLOCK_BUSY = "huatuo_block_devices_busy_seconds_total"
    SOFTIRQ_DELAY = "huatuo_cpu_softirq_delay_seconds"
    SOFTIRQ_RUN = "huatuo_cpu_softirq_run_seconds"
    DROPS = "huatuo_net_drop_packets_total"
    NET_BYTES = "huatuo_netdev_stats_bytes_total"
    RESIDENT_HOST = ("huatuo_memory_info_anon_bytes", "huatuo_memory_info_mapped_bytes")
    RESIDENT_CONTAINER = (
        "huatuo_memory_cgroup_anon_bytes",
        "huatuo_memory_cgroup_file_mapped_bytes",
    )
    RUNNING = "huatuo_probe_running"
    PACE = "huatuo_governor_pace_ratio"
    DELIVERED = "huatuo_probe_records_delivered_total"
    SUPPRESSED = "huatuo_probe_records_suppressed_total"
    LOST = "huatuo_probe_lost_total"
    STORE_LOST = "huatuo_store_lost_total"
