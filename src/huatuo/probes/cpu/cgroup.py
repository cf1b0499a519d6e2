"""CPU time, limits and throttling of containers, from their cgroups."""

from __future__ import annotations

from collections.abc import Iterator

from huatuo.kernel.cgroupfs import Cgroup, hierarchies
from huatuo.kernel.host import Host
from huatuo.kernel.procfs import parse_pairs
from huatuo.probes.reader import CgroupReader, Reading, counter, gauge

__all__ = ["CpuCgroup"]

_USAGE = counter("usage_seconds", "CPU time used by the container", "container", "state")
_LIMIT = gauge("limit_cores", "CPU limit: quota divided by period; none if absent", "container")
_PERIODS = counter("periods", "periods in which the container had something to run", "container")
_THROTTLED_PERIODS = counter(
    "throttled_periods", "periods in which the quota was used up", "container"
)
_THROTTLED = counter(
    "throttled_seconds", "time that CPUs were withheld, summed over CPUs", "container"
)
_BURSTS = counter("bursts", "periods in which saved-up quota was used", "container")
_BURST = counter("burst_seconds", "CPU time used above the quota by bursting", "container")
# file's name → (family, divisor to base units), as cpu.stat has them on v1 and v2
_BANDWIDTH = {
    "nr_periods": (_PERIODS, 1),
    "nr_throttled": (_THROTTLED_PERIODS, 1),
    "throttled_time": (_THROTTLED, 1e9),
    "throttled_usec": (_THROTTLED, 1e6),
    "nr_bursts": (_BURSTS, 1),
    "burst_time": (_BURST, 1e9),
    "burst_usec": (_BURST, 1e6),
}


class CpuCgroup(CgroupReader):
    """CPU time per container, its limit, and how much the limit held it back.

    A container with throttled periods is slow by its own limit and not by its neighbours.
    Reads: cpu.stat and cpu.max; on v1 cpuacct.stat, cpu.stat and cpu.cfs_* (kernel/sched/core.c).
    Kernels: bursts only where cpu.stat counts them.
    Cost: two to four reads per container.
    """

    priority = 80
    controller = "cpu"

    def __init__(self, host: Host, settings: dict[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self._accounting = str(hierarchies(host).v1.get("cpuacct", self.root))

    @classmethod
    def unavailable(cls, host: Host) -> str:
        """v2 accounts for CPU time in every cgroup, even without the controller."""
        reason = super().unavailable(host)
        return "" if "not enabled" in reason else reason

    def read_v2(self, cgroup: Cgroup, directory: str) -> Iterator[Reading]:
        key = (cgroup.id,)
        stat = parse_pairs(self.text(directory + "cpu.stat"))
        yield _USAGE, (cgroup.id, "user"), stat["user_usec"] / 1e6
        yield _USAGE, (cgroup.id, "system"), stat["system_usec"] / 1e6
        for name, (family, divisor) in _BANDWIDTH.items():
            if name in stat:
                yield family, key, stat[name] / divisor
        quota, _, period = self.optional(directory + "cpu.max").strip().partition(" ")
        if quota not in ("", "max"):
            yield _LIMIT, key, int(quota) / int(period)

    def read_v1(self, cgroup: Cgroup, directory: str) -> Iterator[Reading]:
        key = (cgroup.id,)
        accounts = parse_pairs(self.optional(f"{self._accounting}{cgroup.path}/cpuacct.stat"))
        for state, ticks in accounts.items():
            if state in ("user", "system"):
                yield _USAGE, (cgroup.id, state), ticks / self.host.ticks_per_second
        stat = parse_pairs(self.optional(directory + "cpu.stat"))
        for name, (family, divisor) in _BANDWIDTH.items():
            if name in stat:
                yield family, key, stat[name] / divisor
        quota = int(self.optional(directory + "cpu.cfs_quota_us") or -1)
        if quota >= 0:
            yield _LIMIT, key, quota / int(self.text(directory + "cpu.cfs_period_us"))
