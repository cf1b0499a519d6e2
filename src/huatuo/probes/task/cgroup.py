"""Number of tasks in containers, from their cgroups."""

from __future__ import annotations

from collections.abc import Iterator

from huatuo.kernel.cgroupfs import Cgroup
from huatuo.kernel.procfs import parse_pairs
from huatuo.probes.reader import CgroupReader, Reading, counter, gauge

__all__ = ["TaskCgroup"]

_TASKS = gauge("tasks", "processes and threads in the container", "container")
_LIMIT = gauge("tasks_limit", "most tasks allowed; no limit if absent", "container")
_REFUSED = counter("refused_forks", "forks that failed because of the limit", "container")


class TaskCgroup(CgroupReader):
    """Tasks per container and their limit: a fork bomb, or a limit that makes forks fail.

    Reads: pids.current, pids.max, pids.events (kernel/cgroup/pids.c).
    Cost: three reads per container.
    """

    priority = 60
    controller = "pids"

    def read_v2(self, cgroup: Cgroup, directory: str) -> Iterator[Reading]:
        key = (cgroup.id,)
        yield _TASKS, key, int(self.text(directory + "pids.current"))
        limit = self.text(directory + "pids.max").strip()
        if limit != "max":
            yield _LIMIT, key, int(limit)
        events = parse_pairs(self.optional(directory + "pids.events"))
        if "max" in events:
            yield _REFUSED, key, events["max"]

    read_v1 = read_v2  # the same files
