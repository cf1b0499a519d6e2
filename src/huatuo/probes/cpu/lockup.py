"""What the kernel's own watchdogs report in its log: lockups and stalls."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from huatuo.kernel.host import Host
from huatuo.kernel.kmsg import Kmsg
from huatuo.model.units import show_duration
from huatuo.probes.reader import Reading, counter
from huatuo.probes.watcher import Watcher, named, notice

__all__ = ["Lockup"]

_KINDS = {
    "soft_lockup": re.compile(
        r"BUG: soft lockup - CPU#(?P<cpu>\d{1,6}) stuck for (?P<seconds>\d{1,6})s! "
        r"\[(?P<comm>.*):(?P<pid>\d{1,9})\]"
    ),
    "hard_lockup": re.compile(r"Watchdog detected hard LOCKUP on cpu (?P<cpu>\d{1,6})"),
    "rcu_stall": re.compile(
        r"INFO: (?P<rcu>rcu\w+) (?:self-)?detected (?:expedited )?stalls? on CPU"
        r"(?:s/tasks: \{ (?P<cpu>\d{1,6})-)?"
    ),
    "workqueue_lockup": re.compile(
        r"BUG: workqueue lockup - pool cpus=(?P<cpu>\d{1,6}).* stuck for (?P<seconds>\d{1,6})s!"
    ),
}
_WHO = {  # in the lines that follow
    "cpu": re.compile(r"rcu:\s+(\d{1,6})-[.\w]*:|^CPU: (\d{1,6}) "),
    "pid": re.compile(r"\bPID: (\d{1,9}) "),
    "comm": re.compile(r"\bComm: (.+?) (?:Not tainted|Tainted|Kdump:)"),
}
_STALLED = re.compile(r"\bt=(\d{1,9}) jiffies")
_END = re.compile(r"</TASK>|---\[ end trace")
_QUIET_SECONDS = 0.5  # after which a report that did not end so is complete
_MOST_LINES = 64
_REPORTS = counter("reports", "reports of lockups and stalls in the kernel's log", "kind")
_SAID = {
    "soft_lockup": "CPU {cpu} was not given back by {who}{time}",
    "hard_lockup": "CPU {cpu} took no interrupts{time}, {who} ran",
    "rcu_stall": "{rcu} waits for CPU {cpu}{time}, {who} ran",
    "workqueue_lockup": "work queued on CPU {cpu} has not been done{time}",
}


@dataclass(slots=True)
class _Report:
    """One that is being read."""

    kind: str
    found: dict[str, str]
    until: float
    lines: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.lines.append(text)
        for name, pattern in _WHO.items():
            if name not in self.found and (match := pattern.search(text)):
                self.found[name] = next(group for group in match.groups() if group)

    @property
    def is_complete(self) -> bool:
        return len(self.lines) >= _MOST_LINES or bool(_END.search(self.lines[-1]))


class Lockup(Watcher):
    """Soft and hard lockups, RCU stalls and workqueue lockups, as the kernel reports them.

    The event has what the log says: the CPU, for how long, the process, and the report itself with
    its stack. irq.tick finds most of them earlier; these are the kernel's word, and reach us even
    from CPUs on which nothing of ours ran.
    Reads: /dev/kmsg (kernel/watchdog.c, kernel/rcu/tree_stall.h, kernel/workqueue.c).
    Cost: one read of the log per look, twice a second or so.
    """

    priority = 95
    ring: ClassVar[str] = "reports"
    titles: ClassVar[Mapping[str, str]] = {"reports": "the kernel reports a {kind} of CPU {cpu}"}
    schema = notice(
        "lockup_report",
        named("kind", list(_KINDS), "what the kernel found"),
        ("stuck", "duration_ns_t", "for how long by then, where it says so"),
        ("cpu", "count_t", "the CPU, or the first of several"),
        ("tgid", "tgid_t", "process that ran there"),
        ("comm", "comm_t", "its name"),
        ("rcu", "comm_t", "kind of RCU that waits, for a stall"),
        ("report", "long_text", "the lines of the report, the first ones if there are too many"),
    )

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self._log: Kmsg | None = None
        self._open: _Report | None = None
        self._counts: Counter[str] = Counter()

    @classmethod
    def unavailable(cls, host: Host) -> str:
        try:
            Kmsg(host).close()
        except OSError as error:
            return f"the kernel's log cannot be read: {error.strerror}"
        return ""

    @property
    def hooks(self) -> list[str]:
        return [str(self.host.root / "dev/kmsg")]

    def start(self) -> None:
        super().start()
        self._log = Kmsg(self.host)

    def stop(self) -> None:
        super().stop()
        if self._log is not None:
            self._log.close()
            self._log = self._open = None

    def parts(self) -> Iterator[Iterator[Reading]]:
        yield iter([(_REPORTS, (kind,), float(self._counts[kind])) for kind in _KINDS])

    def watch(self) -> None:
        now = time.monotonic()
        for line in self._log.lines() if self._log else ():
            self._take(line.text, now)
        if self._open and now >= self._open.until:
            self._finish()

    def _take(self, text: str, now: float) -> None:
        for kind, pattern in _KINDS.items():
            if match := pattern.search(text):
                self._finish()
                found = {name: value for name, value in match.groupdict().items() if value}
                self._open = _Report(kind, found, now + _QUIET_SECONDS, [text])
                return
        if self._open is None:
            return
        self._open.add(text)
        self._open.until = now + _QUIET_SECONDS
        if self._open.is_complete:
            self._finish()

    def _finish(self) -> None:
        """The report that is open becomes a notice."""
        report, self._open = self._open, None
        if report is None:
            return
        self._counts[report.kind] += 1
        text = "\n".join(report.lines)
        seconds = float(report.found.get("seconds", 0))
        if stalled := _STALLED.search(text):
            seconds = int(stalled[1]) * self.host.jiffy_ns / 1e9
        self.notices.add(
            kind=report.kind,
            stuck=round(seconds * 1e9),
            cpu=int(report.found.get("cpu", 0)),
            tgid=int(report.found.get("pid", 0)),
            comm=report.found.get("comm", ""),
            rcu=report.found.get("rcu", ""),
            report=text.encode()[:4096],
        )

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        """One sentence; the report as a list of its lines."""
        fields["report"] = str(fields["report"]).splitlines()
        who = f"{fields['comm']}[{fields['pid']}]" if fields["comm"] else "something"
        stuck = fields["stuck_ns"] / 1e9
        return _SAID[fields["kind"]].format(
            cpu=fields["cpu"],
            who=who,
            rcu=fields["rcu"],
            time=f" for {show_duration(stuck)}" if stuck else "",
        )
