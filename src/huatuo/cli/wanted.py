"""Which events a live command shows: the options for it, and what the kernel is told of them."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.watched import counts_blocks
from huatuo.errors import UsageError
from huatuo.model.event import Container, Event
from huatuo.probes.base import Probe
from huatuo.probes.bpf import BpfProbe

__all__ = ["Wanted", "add_filters", "is_called"]

_MOST_PER_SECOND = 2000  # a terminal is watched; what is held back is said at the end
_NETNS_BUCKET = 1 << 63  # bpf/socket.bpf.h
_TEXT = """An event is shown if all of these hold. The kernel leaves out other containers and other
packets where they happen; the rest is looked at as events arrive, up to 2000 of them a second."""
_OPTIONS: Mapping[str, tuple[str, str]] = {
    "filter": (
        "EXPR",
        "only about packets that tcpdump would show for this: 'tcp and port 443' (man pcap-filter)",
    ),
    "container": ("C", "only of this container (name or beginning of its id) or cgroup (path)"),
    "device": ("D", "only of this disk or network device"),
    "pid": ("PID", "only of this process"),
    "comm": ("NAME", "only of processes of this name; may be a pattern: nginx*"),
    "stack": ("TEXT", "only where a function of the kernel's stack begins so: tcp_v4_rcv"),
}
_NEEDED = {"device": {"disk_t", "ifindex_t"}, "pid": {"tgid_t"}, "comm": {"comm_t"},
           "stack": {"kstack_t"}}  # fmt: skip


def add_filters(parser: argparse.ArgumentParser, *names: str) -> None:
    """All of them, or those named."""
    group = parser.add_argument_group("filters", _TEXT if not names else None)
    for name in names or _OPTIONS:
        metavar, text = _OPTIONS[name]
        kind = int if name == "pid" else str
        group.add_argument(f"--{name}", metavar=metavar, type=kind, help=text)


def is_called(owner: Container | None, wanted: str) -> bool:
    """Whether that is the container's name, also with its pod's, or the beginning of its id."""
    return owner is not None and (
        wanted in (owner.name, owner.full_name)
        or (len(wanted) >= 6 and owner.id.startswith(wanted))
    )


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for; "" and 0 mean everything."""

    filter: str = ""
    container: str = ""
    device: str = ""
    pid: int = 0
    comm: str = ""
    stack: str = ""

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Wanted:
        given = {name: getattr(arguments, name, None) for name in _OPTIONS}
        return cls(**{name: value for name, value in given.items() if value})

    def settings(
        self, cls: type[Probe], given: Mapping[str, int], watched: bool = False
    ) -> dict[str, int]:
        """The probe's settings, with wider limits if only some events are wanted, or it is
        `watched` for what it tells. Raises UsageError for what the probe cannot tell."""
        self._check(cls)
        if self == Wanted() and not watched:
            return dict(given)
        limits = {"max_per_second", "max_per_second_per_container"}
        known = {setting.name for setting in cls.settings_schema()} & limits
        return dict.fromkeys(known, _MOST_PER_SECOND) | dict(given)

    def _check(self, cls: type[Probe]) -> None:
        if self.filter and not sees_packets(cls):
            raise UsageError(f"{cls.name} sees no packets: --filter is not for it")
        schemas = cls.event_schemas().values()
        told = {field.meaning.name for schema in schemas for field in schema}
        for name, needed in _NEEDED.items():
            if getattr(self, name) and not told & needed:
                raise UsageError(f"the events of {cls.name} do not tell --{name}")

    def tell(self, probe: Probe) -> None:
        """The probe's programs look at packets themselves. Before it is started."""
        if self.filter and isinstance(probe, BpfProbe):
            probe.want_packets(self.filter)

    def leave_out(self, probes: Iterable[Probe], inventory: Inventory) -> None:
        """Have the kernel leave out all other containers that are known now."""
        for probe in probes:
            block = counts_blocks(type(probe))
            if block is None:
                continue
            living = inventory.living(block=block)
            others = {cgroup for cgroup, owner in living if not is_called(owner, self.container)}
            probe.exclude({*others, inventory.host_netns() | _NETNS_BUCKET})

    def holds(self, event: Event) -> bool:
        process = event.process
        return (
            (not self.container or is_called(event.container, self.container))
            and (not self.pid or (process is not None and process.pid == self.pid))
            and (not self.comm or (process is not None and fnmatchcase(process.comm, self.comm)))
            and (not self.device or self.device in _devices(event))
            and (not self.stack or any(frame.startswith(self.stack) for frame in event.stack))
        )


def sees_packets(cls: type[Probe]) -> bool:
    return issubclass(cls, BpfProbe) and cls.object_path().exists() and cls.sees_packets()


def _devices(event: Event) -> list[object]:
    """Names of disks and network devices in an event."""
    return [
        value
        for name, value in event.fields.items()
        if name.endswith(("disk", "interface")) or name == "device"
    ]
