"""Show live who reads and writes what on which disk, and what is slow."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from huatuo.cli.common import print_json, seconds, table
from huatuo.cli.live import add_view, live_events
from huatuo.cli.trace import show
from huatuo.cli.wanted import Wanted, add_filters, is_called
from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.enricher import path_of
from huatuo.enrich.names import DeviceNames
from huatuo.errors import KernelLacks, UsageError
from huatuo.kernel.host import Host
from huatuo.kernel.mounts import mounts
from huatuo.model.units import parse, show_bytes, show_duration
from huatuo.probes.base import Probe, discover
from huatuo.probes.block.files import MODES, Files, what_of

__all__ = ["Use", "configure", "run"]

_EXAMPLES = """examples:
  huatuo io top                               who uses the disks now, every two seconds
  huatuo io top --duration 30s --sort bytes   one table of half a minute
  huatuo io top --container web --device nvme0n1
  huatuo io slow --threshold 10ms             requests and fsyncs over 10 ms, as they end
  huatuo io slow --json --duration 1m | jq .title
"""
_TOP = """Requests that reached a disk, by process, file and device. A buffered write is the
process's that made the file's pages dirty, even when the kernel writes them much later; what the
page cache answers is not here. HOW: direct, mmap, fsync (written because of it), writeback (by the
kernel later), readahead, metadata."""
_SLOW = """Requests to disks and fsyncs that took at least --threshold, with process, file and
where the time went. fsync is seen on all file systems where the kernel lets functions be
hooked, and on ext4 elsewhere."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog, parser.formatter_class = _EXAMPLES, argparse.RawDescriptionHelpFormatter
    views = parser.add_subparsers(dest="view", metavar="VIEW", title="views", required=True)
    top = add_view(views, "top", "who uses the disks: process, file, device", _TOP, _EXAMPLES)
    top.add_argument("--interval", default="2s", metavar="TIME", help="between tables (2s)")
    top.add_argument("--sort", choices=[*_ORDERS], default="time", help="first the most (time)")
    top.add_argument("--count", type=int, default=20, metavar="N", help="rows to show (20)")
    slow = add_view(views, "slow", "slow requests and fsyncs, live", _SLOW, _EXAMPLES)
    slow.add_argument("--threshold", default="10ms", metavar="TIME", help="what is slow (10ms)")
    slow.add_argument("--count", type=int, metavar="N", help="stop after N events")
    for view in (top, slow):
        add_filters(view, "container", "device")


def run(arguments: argparse.Namespace) -> int:
    return _top(arguments) if arguments.view == "top" else _slow(arguments)


# top


@dataclass(frozen=True, slots=True)
class Use:
    """What one process did with one file on one device meanwhile; the JSON of `io top`."""

    pid: int
    tid: int
    comm: str
    container: str
    device: str
    file: str
    filesystem: str
    modes: list[str]
    reads: int
    writes: int
    others: int  # flushes, discards
    read_bytes: int
    written_bytes: int
    queue_ns: int  # of all requests together
    device_ns: int
    longest_ns: int  # of one request, since the command began

    @property
    def requests(self) -> int:
        return self.reads + self.writes + self.others


_ORDERS: dict[str, Callable[[Use], int]] = {
    "time": lambda use: use.queue_ns + use.device_ns,
    "bytes": lambda use: use.read_bytes + use.written_bytes,
    "requests": lambda use: use.requests,
}


def _top(arguments: argparse.Namespace) -> int:
    host = Host()
    view = _View(host, arguments)
    probe = _probe("block.files", host, {})
    assert isinstance(probe, Files)
    duration = seconds(arguments)
    interval = float(parse("duration_ns_t", arguments.interval, "--interval")) / 1e9
    if interval <= 0:
        raise UsageError(f"--interval {arguments.interval}: expected more than nothing")
    live = not arguments.json and not duration and sys.stdout.isatty()
    probe.start()
    end = time.monotonic() + duration if duration else float("inf")
    try:
        while time.monotonic() < end:
            began = time.monotonic()
            time.sleep(max(min(duration or interval, end - began), 0))
            uses = view.since_last(probe)
            if arguments.json:
                print_json({"seconds": round(time.monotonic() - began, 3), "rows": uses})
            else:
                print(
                    "\033[H\033[2J" * live + view.text(uses, time.monotonic() - began), flush=True
                )
    except KeyboardInterrupt:
        pass
    finally:
        account = probe.account()
        probe.stop()
    if account.lost.get("map_full"):
        print(f"{account.lost['map_full']} requests are not shown: too many files", file=sys.stderr)
    return 0


class _View:
    """Turns the probe's table into what happened since the last look."""

    def __init__(self, host: Host, arguments: argparse.Namespace) -> None:
        self._host, self._arguments = host, arguments
        self._inventory = Inventory(host)
        self._devices = DeviceNames(
            host, self._inventory.process_in_netns, self._inventory.is_host_netns
        )
        self._labels = Files.event_schemas()["slow_requests"].field("filesystem").labels
        self._before: dict[bytes, Any] = {}  # rows of the table as they were

    def since_last(self, probe: Files) -> list[Use]:
        """The busiest first, as many as asked for."""
        self._inventory.refresh()
        keys, rows = probe.users()
        paths = self._paths(probe)
        uses = [
            self._use(key, row, self._before.get(key.tobytes()), paths)
            for key, row in zip(keys, rows, strict=True)
        ]
        self._before = {key.tobytes(): row for key, row in zip(keys, rows, strict=True)}
        wanted = [use for use in uses if use.requests and self._is_wanted(use)]
        wanted.sort(key=_ORDERS[self._arguments.sort], reverse=True)
        return wanted[: self._arguments.count]

    def _is_wanted(self, use: Use) -> bool:
        container, device = self._arguments.container, self._arguments.device
        return (not container or use.container in self._names(container)) and (
            not device or use.device == device
        )

    def _names(self, wanted: str) -> set[str]:
        """Full names of the containers meant by a name or the beginning of an id."""
        owners = self._inventory.containers()
        return {owner.full_name for owner in owners if is_called(owner, wanted)}

    def _paths(self, probe: Files) -> dict[tuple[int, int], str]:
        """(inode, device of the file system) → the file's path on this host."""
        where: dict[int, str] = {}
        for mount in mounts(self._host):
            if mount.root == "/":
                where.setdefault(mount.number, mount.target.rstrip("/"))
        return {
            key: where.get(key[1], "") + path
            for key, names in probe.names().items()
            if (path := path_of(names))
        }

    def _use(self, key: Any, row: Any, past: Any, paths: dict[tuple[int, int], str]) -> Use:
        """`key` and `row`: one of the table's; `past`: the row at the last look, or None."""

        def since(name: str) -> int:
            return int(row[name]) - (int(past[name]) if past is not None else 0)

        inode, file_disk = int(key["inode"]), int(key["file_disk"])
        modes = [name for bit, name in enumerate(MODES) if int(row["modes"]) >> bit & 1]
        filesystem = self._labels.get(int(key["filesystem"]), "")
        known = {"path": paths.get((inode, file_disk), ""), "inode": inode}
        (owner,) = self._inventory.owners([int(row["cgroup"])])
        return Use(
            pid=int(key["tgid"]),
            tid=int(row["tid"]),
            comm=row["comm"].split(b"\0")[0].decode(errors="replace"),
            container=owner.full_name,
            device=self._devices.disk(int(key["disk"])),
            file=what_of({**known, "modes": modes, "filesystem": filesystem}),
            filesystem=filesystem,
            modes=modes,
            reads=since("reads"),
            writes=since("writes"),
            others=since("others"),
            read_bytes=since("bytes_read"),
            written_bytes=since("bytes_written"),
            queue_ns=since("queue"),
            device_ns=since("device"),
            longest_ns=int(row["longest"]),
        )

    def text(self, uses: list[Use], span: float) -> str:
        """A table of rates and mean times per request."""
        head = ["PROCESS", "CONTAINER", "DEVICE", "READ/s", "WRITE/s", "READ", "WRITTEN", "QUEUE",
                "DEVICE", "HOW", "FILE"]  # fmt: skip
        rows = [
            [
                f"{use.comm}[{use.pid}]",
                use.container,
                use.device,
                f"{use.reads / span:.3g}",
                f"{use.writes / span:.3g}",
                f"{show_bytes(use.read_bytes / span)}/s",
                f"{show_bytes(use.written_bytes / span)}/s",
                show_duration(use.queue_ns / use.requests / 1e9),
                show_duration(use.device_ns / use.requests / 1e9),
                ",".join(use.modes) or "-",
                use.file,
            ]
            for use in uses
        ]
        return table(rows, head) if rows else f"no request to a disk in {show_duration(span)}"


# slow


def _slow(arguments: argparse.Namespace) -> int:
    host, wanted = Host(), Wanted.of(arguments)
    threshold = int(parse("duration_ns_t", arguments.threshold, "--threshold"))
    settings = {"block.files": {"slow_threshold": threshold}, "fs.sync": {"slow_sync": threshold}}
    probes = [
        _probe(name, host, wanted.settings(discover()[name], given, watched=True))
        for name, given in settings.items()
    ]
    found = live_events(probes, seconds(arguments), wanted)
    slow = (event for event in found if event.kind in ("slow_requests", "slow_syncs"))
    for event in islice(slow, arguments.count):
        print_json(event) if arguments.json else print(show(event), flush=True)
    return 0


def _probe(name: str, host: Host, settings: dict[str, int]) -> Probe:
    cls = discover()[name]
    if missing := cls.unavailable(host):
        raise KernelLacks(f"{name}: {missing}")
    return cls(host, settings)
