"""A container with a CPU limit, on whatever cgroup hierarchy the host has.

with limited_cpu("name", quota=0.1) as limited:
    with limited.start([...]):
        …
    limited.stat()["nr_throttled"]
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from huatuo.kernel.cgroupfs import hierarchies
from huatuo.kernel.procfs import parse_pairs
from tests.live.conftest import HOST, Group, cgroup

__all__ = ["Limited", "limited_cpu"]

PERIOD_US = 100_000


@dataclass(frozen=True, slots=True)
class Limited:
    """`group` is where identity comes from, `cpu` where the limit is, `account` where CPU time is
    accounted for: the same on v2."""

    group: Group
    cpu: Group
    account: Group

    @property
    def id(self) -> int:
        return self.group.id

    def start(self, argv: Sequence[str]) -> subprocess.Popen[str]:
        """Run a command in it from its first instruction on."""
        places = f"{self.cpu.directory}/cgroup.procs {self.account.directory}/cgroup.procs"
        enter = f'echo $$ | tee {places} > /dev/null && exec "$@"'
        return self.group.start(["sh", "-c", enter, "sh", *argv])

    def stat(self) -> dict[str, int]:
        """cpu.stat, times in ns."""
        stat = parse_pairs((self.cpu.directory / "cpu.stat").read_text())
        return {
            name.replace("_usec", "_time"): value * (1000 if name.endswith("_usec") else 1)
            for name, value in stat.items()
        }

    def used_seconds(self) -> float:
        """CPU time of all that ran in it."""
        usage = self.account.directory / "cpuacct.usage"
        return (int(usage.read_text()) if usage.exists() else self.stat()["usage_time"]) / 1e9


@contextmanager
def limited_cpu(name: str, quota: float) -> Iterator[Limited]:
    """A fresh container that may use so much of one CPU; skips where that cannot be had."""
    with ExitStack() as stack:
        group = stack.enter_context(cgroup(name))
        micros = int(quota * PERIOD_US)
        if "cpu" in hierarchies(HOST).v1:
            cpu = stack.enter_context(cgroup(name, "cpu"))
            cpu.write("cpu.cfs_period_us", PERIOD_US)
            cpu.write("cpu.cfs_quota_us", micros)
        else:
            cpu = group
            cpu.write("cpu.max", f"{micros} {PERIOD_US}")
        split = "cpuacct" in hierarchies(HOST).v1 and not (cpu.directory / "cpuacct.usage").exists()
        account = stack.enter_context(cgroup(name, "cpuacct")) if split else cpu
        yield Limited(group, cpu, account)
