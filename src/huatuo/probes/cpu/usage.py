"""CPU time by state, from /proc/stat."""

from __future__ import annotations

from collections.abc import Iterator

from huatuo.probes.reader import Reader, Reading, counter, gauge

__all__ = ["Usage"]

_STATES = (
    "user",
    "nice",
    "system",
    "idle",
    "iowait",
    "irq",
    "softirq",
    "steal",
    "guest",
    "guest_nice",
)
_USER, _NICE, _GUEST, _GUEST_NICE = 0, 1, 8, 9

_SECONDS = counter(
    "seconds", "CPU time spent in each state; guest time is not in user time", "cpu", "state"
)
_SWITCHES = counter("context_switches", "context switches of all CPUs")
_FORKS = counter("forks", "processes and threads created")
_BOOT = gauge("boot_time_seconds", "when the system was started, seconds since 1970")
_RUNNABLE = gauge("runnable_tasks", "tasks that run or wait for a CPU")
_BLOCKED = gauge("blocked_tasks", "tasks that wait for block I/O")
_SINGLE = {
    "ctxt": _SWITCHES,
    "processes": _FORKS,
    "btime": _BOOT,
    "procs_running": _RUNNABLE,
    "procs_blocked": _BLOCKED,
}


class Usage(Reader):
    """What the CPUs spend their time on, how often they switch, and how many tasks want them.

    High iowait with blocked tasks points at a disk, steal at the hypervisor, softirq at the
    network. The states of one CPU add up to its whole time.
    Reads: /proc/stat (fs/proc/stat.c).
    Cost: one read of a file that grows with the number of interrupts.
    """

    priority = 80
    files = ("proc/stat",)

    def parts(self) -> Iterator[Iterator[Reading]]:
        yield self._stat()

    def _stat(self) -> Iterator[Reading]:
        tick = 1 / self.host.ticks_per_second
        text = self.text(self.paths["proc/stat"])
        if not text.startswith("cpu "):
            raise ValueError(f"expected cpu, found {text[:40]!r}")
        for line in text.splitlines():
            name, _, rest = line.partition(" ")
            if family := _SINGLE.get(name):
                yield family, (), int(rest)
            elif name.startswith("cpu") and name != "cpu":
                ticks = [int(word) for word in rest.split()]
                if len(ticks) > _GUEST_NICE:  # the kernel counts guest time twice
                    ticks[_USER] = max(ticks[_USER] - ticks[_GUEST], 0)
                    ticks[_NICE] = max(ticks[_NICE] - ticks[_GUEST_NICE], 0)
                cpu = str(int(name[3:]))
                for state, count in zip(_STATES, ticks, strict=False):
                    yield _SECONDS, (cpu, state), count * tick
