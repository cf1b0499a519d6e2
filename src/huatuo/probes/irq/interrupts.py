"""Interrupts and softirqs, from /proc/interrupts and /proc/softirqs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from huatuo.probes.reader import Reader, Reading, counter

__all__ = ["Interrupts"]

_BY_NAME = counter("handled", "interrupts handled, by device or kernel's abbreviation", "interrupt")
_BY_CPU = counter("cpu_handled", "interrupts handled, by CPU", "cpu")
_SOFTIRQS = counter("softirqs", "softirqs run", "cpu", "vector")


class Interrupts(Reader):
    """Which devices interrupt, which CPUs have to handle it, and the softirqs that follow.

    One CPU with most of the interrupts of a busy device is a bottleneck (set its affinity); many
    TLB or CAL interrupts come from unmapping memory in programs with threads.
    Reads: /proc/interrupts (arch/*/kernel/irq.c), /proc/softirqs (fs/proc/softirqs.c).
    Cost: two reads that grow with CPUs times interrupts. What never happened has no series.
    """

    priority = 50
    files = ("proc/interrupts", "proc/softirqs")

    def parts(self) -> Iterator[Iterator[Reading]]:
        yield self._interrupts()
        yield self._softirqs()

    def _interrupts(self) -> Iterator[Reading]:
        head, *lines = self.text(self.paths["proc/interrupts"]).splitlines()
        cpus = _cpus(head)
        by_cpu = [0] * len(cpus)
        by_name: Counter[str] = Counter()
        for line in lines:
            label, *words = line.split()
            counts = [int(word) for word in words[: len(cpus)] if word.isdecimal()]
            if any(counts):
                by_name[_name(label, words[len(counts) :])] += sum(counts)
                if len(counts) == len(cpus):
                    by_cpu = [a + b for a, b in zip(by_cpu, counts, strict=True)]
        for name, count in by_name.items():
            yield _BY_NAME, (name,), count
        for cpu, count in zip(cpus, by_cpu, strict=True):
            yield _BY_CPU, (cpu,), count

    def _softirqs(self) -> Iterator[Reading]:
        head, *lines = self.text(self.paths["proc/softirqs"]).splitlines()
        cpus = _cpus(head)
        for line in lines:
            label, *words = line.split()
            vector = label.rstrip(":").lower()
            for cpu, word in zip(cpus, words, strict=False):  # all possible CPUs have a column
                if word != "0":
                    yield _SOFTIRQS, (cpu, vector), int(word)


def _cpus(head: str) -> list[str]:
    """CPU0 CPU1 … → "0", "1", …; raises ValueError if it is not that."""
    return [str(int(word.removeprefix("CPU"))) for word in head.split()]


def _name(label: str, description: list[str]) -> str:
    """The device of a numbered interrupt (its last word), else the kernel's abbreviation."""
    label = label.rstrip(":")
    if not label.isdecimal():
        return label
    return description[-1] if len(description) > 2 else label
