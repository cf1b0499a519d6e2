"""The inventory of containers under many cgroups, and under many that come and go.

python -m bench containers          needs root: cgroups are made for real, in all hierarchies used

Half of the cgroups look like docker's, with their state on disk below a temporary root. CPU time is
that of this process alone; what the kernel spends on making cgroups is not ours.
"""

from __future__ import annotations

import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

from huatuo.enrich.containers.base import Kept
from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.containers.sources.cri import Cri
from huatuo.enrich.containers.sources.protobuf import Message
from huatuo.enrich.containers.sources.socket import Socket
from huatuo.kernel.cgroup_events import CgroupEvents
from huatuo.kernel.cgroupfs import hierarchies
from huatuo.kernel.host import Host
from tests.enrich.containers.sources.messages import message

_MANY = int(os.environ.get("HUATUO_BENCH_CGROUPS", "10000"))
_PER_SECOND = 200
_SECONDS = 20
_COALESCED_SECONDS = 0.04  # as the agent does it
# Makes a cgroup every 5 ms and removes it a second later, in every hierarchy given; prints each
# inode with the time at which it was made.
_CHURN = """
import os, sys, time, collections
first, per_second, seconds = map(int, sys.argv[1:4])
directories = sys.argv[4:]
living, began = collections.deque(), time.monotonic()
for at in range(int(per_second * seconds)):
    time.sleep(max(began + at / per_second - time.monotonic(), 0))
    number = first + at
    name = f"docker-{number:064x}.scope" if number % 2 else f"job-{number}"
    for directory in directories:
        os.mkdir(f"{directory}/{name}")
    print(os.stat(f"{directories[0]}/{name}").st_ino, time.monotonic(), flush=True)
    living.append(name)
    if len(living) > per_second:
        for directory in directories:
            os.rmdir(f"{directory}/{living[0]}")
        living.popleft()
for name in living:
    for directory in directories:
        os.rmdir(f"{directory}/{name}")
"""


@contextmanager
def _cgroups(count: int) -> Iterator[list[Path]]:
    """So many cgroups, in each hierarchy that the inventory reads; gives their parents."""
    found = hierarchies(Host())
    roots = dict.fromkeys(r for r in (found.identity, found.controller("blkio")) if r)
    parents = [root / f"huatuo-bench-{os.getpid()}" for root in roots]
    names = [_name(number) for number in range(count)]
    try:
        for parent in parents:
            parent.mkdir()
            for name in names:
                (parent / name).mkdir()
        yield parents
    finally:
        for parent in parents:
            for child in list(parent.iterdir()):
                if child.is_dir():
                    child.rmdir()
            parent.rmdir()


def _name(number: int) -> str:
    return f"docker-{number:064x}.scope" if number % 2 else f"job-{number}"


def _state(root: Path, count: int) -> None:
    """docker's state of every second cgroup."""
    config = {"Image": "nginx:1.27", "Labels": {"app": "web", "team": "shop"}, "Env": ["A=b"] * 40}
    for number in range(1, count, 2):
        directory = root / f"var/lib/docker/containers/{number:064x}"
        directory.mkdir(parents=True)
        state = {
            "Name": f"/web-{number}",
            "Config": config,
            "State": {"StartedAt": "2026-01-02T03:04:05.6Z"},
        }
        (directory / "config.v2.json").write_text(json.dumps(state))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * Host().page_size / (1 << 20)


def _timed(rounds: int, work: object) -> float:
    times = []
    for _ in range(rounds):
        began = _cpu()
        work()  # type: ignore[operator]
        times.append(_cpu() - began)
    return median(times) * 1e3


def _churned(inventory: Inventory, events: CgroupEvents, parents: list[Path]) -> list[str]:
    """CPU of following what another process makes, and how late it is known."""
    known: dict[int, float] = {}
    poller = select.poll()
    poller.register(events.fd, select.POLLIN)
    numbers = map(str, (_MANY, _PER_SECOND, _SECONDS))
    argv = [sys.executable, "-c", _CHURN, *numbers, *map(str, parents)]
    began, used, pause = time.monotonic(), 0.0, 0.0
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(argv, stdout=said, text=True) as maker,
    ):
        while maker.poll() is None:
            poller.poll((pause or 0.5) * 1000)
            time.sleep(_COALESCED_SECONDS)
            before = _cpu()
            pause = inventory.look_again()
            used += _cpu() - before
            now = time.monotonic()
            for owner in inventory._identity.owners.tree.nodes():
                known.setdefault(owner.id, now)
        seconds = time.monotonic() - began
        said.seek(0)
        made = [line.split() for line in said]
    late = [known[int(inode)] - float(at) for inode, at in made if int(inode) in known]
    unseen = sum(inventory._identity.owners.find(int(inode)) is None for inode, _ in made)
    cuts = quantiles(late, n=100)
    known_after = f"{cuts[49] * 1e3:.0f}, {cuts[98] * 1e3:.0f}, {max(late) * 1e3:.0f} ms"
    return [
        f"| {_PER_SECOND} made and removed a second: CPU | {used / seconds:.1%} of one core | |",
        f"| known after: median, 99 %, latest | {known_after} | 100 ms |",
        f"| not known by name at the end | {unseen} of {len(made)} | 0 |",
    ]


def _listed(pods: int = 1000) -> str:
    """CPU of reading CRI's lists of so many pods of one container, without the transport."""
    labels = {f"label-{number}": "some value of it" for number in range(8)}
    annotations = {f"example.com/annotation-{number}": "x" * 100 for number in range(8)}
    sandboxes, containers = [], []
    for number in range(pods):
        pod, container = f"{number:064x}", f"{pods + number:064x}"
        metadata = message(f1=f"web-{number}", f2="1b2c3d4e", f3="prod")
        sandboxes.append(message(f1=pod, f2=metadata, f4=10**18, f5=labels, f6=annotations))
        named, image = message(f1="app"), message(f1="registry.example.com/app:1")
        containers.append(
            message(f1=container, f2=pod, f3=named, f4=image, f7=10**18, f8=labels, f9=annotations)
        )
    answers = message(f1=sandboxes), message(f1=containers)
    cri = Cri(Socket(Path("nowhere")), Kept("app"))
    took = []
    for _ in range(2):
        began = _cpu()
        cri._known = cri._details(*map(Message, answers))
        took.append((_cpu() - began) * 1e3)
    return f"| CRI's list of {pods} pods: first, again | {took[0]:.0f}, {took[1]:.0f} ms of CPU | |"


def run(rounds: int) -> str:
    """One table."""
    lines = ["### Containers", "", f"| {_MANY} cgroups | measured | aim |", "|---|---|---|"]
    with tempfile.TemporaryDirectory() as directory, _cgroups(_MANY) as parents:
        root = Path(directory)
        _state(root, _MANY + _PER_SECOND * _SECONDS)
        (root / "sys").symlink_to("/sys")
        host = Host(root=root, run=root / "run")
        before = _resident_mib()
        began = _cpu()
        events = CgroupEvents(host)
        inventory = Inventory(host)
        inventory.follow(events)
        lines += [
            f"| first scan, everything described | {(_cpu() - began) * 1e3:.0f} ms of CPU | |",
            f"| memory | {_resident_mib() - before:.1f} MiB | |",
        ]
        inventory.refresh()
        scan = _timed(rounds, lambda: inventory._scan(inventory._identity))
        lines += [
            f"| each interval | {_timed(rounds, inventory.refresh):.1f} ms of CPU | |",
            f"| a scan all the same, once a minute | {scan:.1f} ms of CPU | |",
            f"| cgroups to read, for other probes | {_timed(rounds, inventory.cgroups):.1f} ms | |",
        ]
        lines += _churned(inventory, events, parents)
        lines.append(f"| memory then | {_resident_mib() - before:.1f} MiB | |")
        events.close()
    lines.append(_listed())
    return "\n".join(lines)
