"""Pressure stall information of the host and of containers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from huatuo.kernel.cgroupfs import hierarchies
from huatuo.kernel.host import Host
from huatuo.kernel.procfs import parse_pressure
from huatuo.probes.reader import Family, Key, Reader, Reading, counter, gauge

__all__ = ["Pressure"]

_RESOURCES = ("cpu", "memory", "io", "irq")
_SOME_SECONDS = counter(
    "some_seconds", "time in which at least one task waited for the resource", "resource"
)
_FULL_SECONDS = counter(
    "full_seconds", "time in which all tasks that had work waited for the resource", "resource"
)
_SOME_RATIO = gauge("some_ratio", "some_seconds per second over the last 10 seconds", "resource")
_FULL_RATIO = gauge("full_ratio", "full_seconds per second over the last 10 seconds", "resource")
_HOST = {"some": (_SOME_SECONDS, _SOME_RATIO), "full": (_FULL_SECONDS, _FULL_RATIO)}
_CONTAINER: Mapping[str, Family] = {
    "some": counter(
        "container_some_seconds",
        "time in which at least one of the container's tasks waited for the resource",
        "container",
        "resource",
    ),
    "full": counter(
        "container_full_seconds",
        "time in which all of the container's tasks that had work waited for the resource",
        "container",
        "resource",
    ),
}


class Pressure(Reader):
    """Time lost by tasks that wait for CPU, memory, I/O or interrupts, host and per container.

    The one number that says whether a shortage hurts: utilisation may be high without pressure.
    Reads: /proc/pressure/* and *.pressure in the cgroup v2 tree (kernel/sched/psi.c).
    Kernels: built with CONFIG_PSI and not booted with psi=0; irq since 6.1 with
    CONFIG_IRQ_TIME_ACCOUNTING; containers on v1 hosts only where the v2 tree has them too.
    Cost: three or four reads for the host and as many per container.
    """

    priority = 85
    files = ("proc/pressure/cpu", "proc/pressure/memory", "proc/pressure/io", "proc/pressure/irq")
    without = "this kernel has no CONFIG_PSI, or was booted without psi=1"

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self._root = hierarchies(host).v2

    def parts(self) -> Iterator[Iterator[Reading]]:
        for resource, path in zip(_RESOURCES, self.paths.values(), strict=True):
            yield self._host(resource, path)
        if self._root is not None:
            for cgroup in self.targets():
                if cgroup.path != "/":
                    yield self._container(cgroup.id, f"{self._root}{cgroup.path}/")

    def _host(self, resource: str, path: str) -> Iterator[Reading]:
        key: Key = (resource,)
        for share, (microseconds, ratio) in parse_pressure(self.optional(path)).items():
            seconds_family, ratio_family = _HOST[share]
            yield seconds_family, key, microseconds / 1e6
            yield ratio_family, key, ratio

    def _container(self, cgroup_id: int, directory: str) -> Iterator[Reading]:
        for resource in _RESOURCES:
            stalled = parse_pressure(self.optional(f"{directory}{resource}.pressure"))
            for share, (microseconds, _) in stalled.items():
                yield _CONTAINER[share], (cgroup_id, resource), microseconds / 1e6
            if not stalled and resource == "cpu":
                return  # gone, not in this tree, or switched off
