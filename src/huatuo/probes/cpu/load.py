"""Load averages, from /proc/loadavg."""

from __future__ import annotations

from collections.abc import Iterator

from huatuo.probes.reader import Reader, Reading, gauge

__all__ = ["Load"]

_AVERAGES = (
    gauge("average_1m", "runnable and uninterruptible tasks, average over one minute"),
    gauge("average_5m", "runnable and uninterruptible tasks, average over five minutes"),
    gauge("average_15m", "runnable and uninterruptible tasks, average over fifteen minutes"),
)
_TASKS = gauge("tasks", "processes and threads that exist")


class Load(Reader):
    """The load averages: tasks that run, wait for a CPU or sleep uninterruptibly.

    More than the number of CPUs means waiting; cpu.usage and task.pressure tell for what.
    Reads: /proc/loadavg (fs/proc/loadavg.c).
    Cost: one read.
    """

    priority = 80
    files = ("proc/loadavg",)

    def parts(self) -> Iterator[Iterator[Reading]]:
        yield self._loadavg()

    def _loadavg(self) -> Iterator[Reading]:
        words = self.text(self.paths["proc/loadavg"]).split()
        for family, word in zip(_AVERAGES, words[:3], strict=True):
            yield family, (), float(word)
        yield _TASKS, (), int(words[3].split("/")[1])
