// Which charts stand in which row, for the node and for one container alike.
const top = (metric, title, more = {}) => ({
  metric, title, note: "five largest", by: "container", top: 5,
  link: (series) => `#/container?name=${encodeURIComponent(series.labels.container || "/")}`, ...more,
});
const heat = (metric, title, note, more = {}) => ({ metric, title, note, as: "heatmap", ...more });
const low = { height: 72 };
const cpu = { profile: "cpu" };
const blocked = { profile: "blocked" };

const NODE = [
  { name: "pressure", title: "Pressure", charts: [
    { title: "Stalled", note: "share of time in which some task waits for the resource", metric: "huatuo_task_pressure_some_seconds_total", by: "resource", unit: "ratio", ...blocked },
  ] },
  { name: "cpu", title: "CPU", charts: [
    heat("huatuo_cpu_sched_wait_seconds", "Waiting for a CPU", "run-queue wait of runnable tasks", cpu),
    top("huatuo_cpu_sched_run_seconds_total", "CPU used", { unit: "cores", ...cpu }),
  ] },
  { name: "memory", title: "Memory", charts: [
    top("huatuo_memory_cgroup_used_bytes", "Memory used", { profile: "resident" }),
    { title: "Memory available", metric: "huatuo_memory_info_available_bytes", ...low },
  ] },
  { name: "disk", title: "Disk", charts: [
    heat("huatuo_block_latency_device_seconds", "Device latency", "issue to completion", { events: "block.latency", ...blocked }),
    heat("huatuo_block_latency_queue_seconds", "Queue latency", "before the device gets the request", { events: "block.latency", ...low }),
    { title: "Throughput", metric: "huatuo_block_devices_bytes_total", by: "device,operation", top: 6, ...low },
  ] },
  { name: "network", title: "Network", charts: [
    { title: "Packets dropped", note: "by reason", metric: "huatuo_net_drop_packets_total", by: "reason", top: 6, events: "net.drop", empty: "No packet was dropped in this time range." },
    { title: "Traffic", metric: "huatuo_netdev_stats_bytes_total", by: "device,direction", top: 6, ...low },
  ] },
  { name: "interrupts", title: "Interrupts", charts: [
    heat("huatuo_cpu_softirq_delay_seconds", "Softirq delay", "raise to run, all vectors", { events: "cpu.softirq", ...low }),
    heat("huatuo_cpu_softirq_run_seconds", "Softirq run time", "of one run, all vectors", { events: "cpu.softirq", ...low }),
  ] },
];

const CONTAINER = [
  { name: "pressure", title: "Pressure", charts: [
    { title: "Stalled", note: "share of time in which some of its tasks wait for the resource", metric: "huatuo_task_pressure_container_some_seconds_total", by: "resource", unit: "ratio", ...blocked },
  ] },
  { name: "cpu", title: "CPU", charts: [
    heat("huatuo_cpu_sched_wait_seconds", "Waiting for a CPU", "run-queue wait of its tasks", cpu),
    { title: "CPU used", metric: "huatuo_cpu_sched_run_seconds_total", by: "none", unit: "cores", ...cpu },
    { title: "Throttled", note: "stopped by its own CPU limit", metric: "huatuo_cpu_cgroup_throttled_seconds_total", by: "none", unit: "ratio", ...low },
  ] },
  { name: "memory", title: "Memory", charts: [
    { title: "Memory used", metric: "huatuo_memory_cgroup_used_bytes", by: "none", profile: "resident" },
    { title: "Memory events", note: "limit reached, killed", metric: "huatuo_memory_cgroup_events_total", by: "event", ...low },
  ] },
  { name: "disk", title: "Disk", charts: [
    heat("huatuo_block_latency_device_seconds", "Device latency", "issue to completion", { events: "block.latency", ...blocked }),
    { title: "Throughput", metric: "huatuo_block_cgroup_bytes_total", by: "device,operation", top: 6, ...low },
  ] },
  { name: "network", title: "Network", charts: [
    { title: "Packets dropped", note: "by reason", metric: "huatuo_net_drop_packets_total", by: "reason", top: 6, events: "net.drop", empty: "No packet of this container was dropped in this time range." },
    { title: "Traffic", metric: "huatuo_netdev_cgroup_bytes_total", by: "device,direction", top: 6, ...low },
  ] },
];

export function rowsOf(container = "") {
  if (!container) return NODE;
  const mine = { labels: { container }, container };
  return CONTAINER.map((row) => ({ ...row, charts: row.charts.map((chart) => ({ ...chart, ...mine })) }));
}
