"""BPF probes whose programs would cost too much for always: they are attached in windows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import ClassVar

import numpy as np

from huatuo.kernel.host import Host
from huatuo.model.meaning import Role
from huatuo.model.metric import Metric
from huatuo.model.record import RecordBatch
from huatuo.probes.base import Setting
from huatuo.probes.bpf import BpfProbe

__all__ = ["Windowed"]


class Windowed(BpfProbe):
    """All programs are attached for `window` of every `every`; it begins with a window."""

    stays: ClassVar[
        Collection[str]
    ] = ()  # roles that are never detached; they see to it themselves

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self._opened_ns = self._closed_ns = 0  # the present window, or the end of the last one
        self._observed_ns = 0  # length of all windows before

    @classmethod
    def settings_schema(cls) -> list[Setting]:
        always = "how often; as long as `window`: always"
        return [
            *super().settings_schema(),
            Setting("window", "duration_ns_t", 500_000_000, "how long is watched at a time"),
            Setting("every", "duration_ns_t", 10_000_000_000, always),
        ]

    @property
    def hooks(self) -> list[str]:
        """Also between windows."""
        if self.object is None:
            return []
        return [program.hook for program in self.object.programs if program.used]

    def start(self) -> None:
        super().start()
        self._opened_ns = self.host.now_ns()

    def stop(self) -> None:
        super().stop()
        self._observed_ns += self._present_ns()
        self._opened_ns = 0

    def duty(self) -> float:
        return min(self.settings["window"] / max(self.settings["every"], 1), 1.0)

    def watched_seconds(self) -> float:
        return (self._observed_ns + self._present_ns()) / 1e9

    def _present_ns(self) -> int:
        return self.host.now_ns() - self._opened_ns if self._opened_ns else 0

    def drain(self) -> Iterator[RecordBatch]:
        self._turn()
        yield from super().drain()

    def _turn(self) -> None:
        now = self.host.now_ns()
        if self._opened_ns:
            if self.duty() < 1 and self._present_ns() >= self.settings["window"]:
                self.close_window()
                self._observed_ns += now - self._opened_ns
                self._opened_ns, self._closed_ns = 0, now
        elif now - self._closed_ns >= self.settings["every"] - self.settings["window"]:
            self.open_window()
            self._opened_ns = self.host.now_ns()

    def open_window(self) -> None:
        opened = self._running()
        for role in {program.role for program in opened.programs if program.used}:
            opened.attach_held(role)

    def close_window(self) -> None:
        opened = self._running()
        for role in {program.role for program in opened.programs} - set(self.stays):
            opened.detach(role)

    def collect(self) -> Iterator[Metric]:
        yield from super().collect()
        yield Metric(
            f"huatuo_{self.name.replace('.', '_')}_observed_seconds_total",
            Role.COUNTER,
            "time in which it was watched",
            np.array([self.watched_seconds()]),
        )
