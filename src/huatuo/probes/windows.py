"""BPF probes whose programs would cost too much for always: they are attached in windows."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import ClassVar

import numpy as np

from huatuo.kernel.host import Host
from huatuo.model.meaning import Role
from huatuo.model.metric import Metric
from huatuo.model.record import RecordBatch
from huatuo.probes.base import Setting
from huatuo.probes.bpf import BpfProbe
from huatuo.probes.periodic import Periodic

__all__ = ["Timed", "Windowed"]


class Windowed(BpfProbe):
    """All programs are attached for `window` of every `every`; it begins with a window.

    Whether one is over is seen when records are drained; `look_again_seconds` says when to.
    """

    stays: ClassVar[
        Collection[str]
    ] = ()  # roles that are never detached; they see to it themselves
    usual_window_ns: ClassVar[int] = 500_000_000

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self._closed_ns = 0  # the end of the last window
        # ns of all windows before, and since when there is one, or 0: a thread may change them
        self._watched = 0, 0

    @classmethod
    def settings_schema(cls) -> list[Setting]:
        always = "how often; as long as `window`: always"
        return [
            *super().settings_schema(),
            Setting(
                "window", "duration_ns_t", cls.usual_window_ns, "how long is watched at a time"
            ),
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
        self._begin_window()

    def stop(self) -> None:
        super().stop()
        self._end_window(self.host.now_ns())

    @property
    def _opened_ns(self) -> int:
        return self._watched[1]

    def _begin_window(self) -> None:
        self._watched = self._watched[0], self.host.now_ns()

    def _end_window(self, now: int) -> None:
        self._watched = self._watched_ns(now), 0
        self._closed_ns = now

    def _watched_ns(self, now: int) -> int:
        before, opened = self._watched
        return before + (now - opened if opened else 0)

    def duty(self) -> float:
        return min(self.settings["window"] / max(self.settings["every"], 1), 1.0)

    def watched_seconds(self) -> float:
        return self._watched_ns(self.host.now_ns()) / 1e9

    def drain(self) -> Iterator[RecordBatch]:
        self._turn()
        yield from super().drain()

    def _turn(self) -> None:
        if self._until_turn() > 0:
            return
        if self._opened_ns:
            now = self.host.now_ns()
            self.close_window()
            self._end_window(now)
        else:
            self.open_window()
            self._begin_window()

    def look_again_seconds(self) -> float:
        return self._until_turn()

    def _until_turn(self) -> float:
        """Seconds until the window is over, or the next one begins."""
        window, every, now = self.settings["window"], self.settings["every"], self.host.now_ns()
        if self.duty() == 1 and self._opened_ns:
            return every / 1e9
        if self._opened_ns:
            return (self._opened_ns + window - now) / 1e9
        return (self._closed_ns + every - window - now) / 1e9

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


class Timed(Windowed):
    """Its windows may be short: a thread of its own opens and closes them in time."""

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self._turning: Periodic | None = None

    def start(self) -> None:
        super(Windowed, self).start()
        self.open_window()
        self._begin_window()
        self._turning = Periodic(self.name, self._turn, lambda: max(self._until_turn(), 0.0))

    def stop(self) -> None:
        if self._turning is not None:
            self._turning.stop()
            self._turning = None
        super().stop()

    def look_again_seconds(self) -> float:
        return math.inf

    def own_seconds(self) -> float:
        return self._turning.seconds if self._turning else 0.0

    def drain(self) -> Iterator[RecordBatch]:
        yield from super(Windowed, self).drain()
