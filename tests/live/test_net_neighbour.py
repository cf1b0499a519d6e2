"""net.neighbour against so many neighbours, `ip neigh`, and what senders are told."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from huatuo.enrich.enricher import Enricher
from huatuo.kernel.cgroupfs import Cgroup, hierarchies
from huatuo.model.event import Event
from huatuo.probes.net.neighbour import Neighbour
from tests.live.conftest import HOST, cgroup, metric, need, row, running
from tests.live.network import Pair, ip, pair

pytestmark = pytest.mark.live

PREFIX = "huatuo_net_neighbour_"
FAMILIES = [socket.AF_INET, socket.AF_INET6]
NAMES: dict[int, str] = {socket.AF_INET: "ipv4", socket.AF_INET6: "ipv6"}
FIRST: dict[int, str] = {
    socket.AF_INET: "10.99.0.100",
    socket.AF_INET6: "fd99::100",
}  # nobody has these
TELL_ERRORS: dict[
    int, tuple[int, int]
] = {  # IP_RECVERR, IPV6_RECVERR: the sender is told why it could not
    socket.AF_INET: (socket.IPPROTO_IP, 11),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 25),
}


def ask_for(net: Pair, count: int) -> int:
    """A datagram to each of so many neighbours that are not there; how many could not be sent."""
    first, failed = ipaddress.ip_address(FIRST[net.family]), 0
    with net.socket("client", socket.SOCK_DGRAM) as sender:
        sender.setsockopt(*TELL_ERRORS[net.family], 1)
        for number in range(count):
            try:
                sender.sendto(b"x", (str(first + number), 9))
            except OSError:
                failed += 1
    return failed


def value(probe: Neighbour, name: str, **labels: object) -> int:
    found = metric(probe, PREFIX + name)
    return int(found.values[row(found, **labels)].sum())


def of_kernel(family: int, column: str) -> int:
    """A column of /proc/net/stat, whose lines are CPUs and whose numbers are hexadecimal."""
    file = "arp_cache" if family == socket.AF_INET else "ndisc_cache"
    head, *lines = Path("/proc/net/stat", file).read_text().splitlines()
    values = [int(line.split()[head.split().index(column)], 16) for line in lines]
    return values[0] if column == "entries" else sum(values)


def listed(net: Pair) -> int:
    """All neighbours, with multicast ones: IPv6 has one for each address that it asks for."""
    flag = "-4" if net.family == socket.AF_INET else "-6"
    return ip(net.names["client"], f"{flag} neigh show nud all").count("\n")


@pytest.mark.parametrize("family", FAMILIES)
def test_neighbours_are_counted(family: int) -> None:
    """The table is that of all namespaces: others may add a few meanwhile."""
    with pair(family) as net, running(Neighbour) as probe:
        probe.targets = list
        label = {"family": NAMES[family]}
        before, entries = listed(net), value(probe, "entries", **label)
        made = value(probe, "events_total", event="allocs", **label)
        assert ask_for(net, 40) == 0
        added = listed(net) - before
        assert value(probe, "entries", **label) - entries == pytest.approx(added, abs=5)
        assert value(probe, "entries", **label) == pytest.approx(
            of_kernel(family, "entries"), abs=5
        )
        allocated = value(probe, "events_total", event="allocs", **label) - made
    assert added >= 40
    assert added <= allocated <= added + 10


def test_neighbours_of_a_container() -> None:
    with pair() as net, cgroup("neigh") as group, running(Neighbour) as probe:
        root = hierarchies(HOST).identity
        assert root
        container = Cgroup(group.id, f"/{group.directory.relative_to(root)}")
        inside = ["ip", "netns", "exec", net.names["client"], "sh", "-c", "echo; exec sleep 100"]
        with group.start(inside) as process:
            assert process.stdout
            process.stdout.readline()
            probe.targets = lambda: [container]
            before = value(probe, "container_arp_entries", container=group.id)
            ask_for(net, 25)
            after = value(probe, "container_arp_entries", container=group.id)
            process.kill()
    assert (before, after) == (1, 26)  # the server's, which pair() has asked for


@contextmanager
def smaller_table(family: int, entries: int) -> Iterator[None]:
    """Of the whole machine: only where nobody else needs it."""
    directory = Path(f"/proc/sys/net/{NAMES[family]}/neigh/default")
    kept = {name: (directory / name).read_text() for name in ("gc_thresh2", "gc_thresh3")}
    try:
        for name in kept:
            (directory / name).write_text(str(entries))
        yield
    finally:
        for name, text in kept.items():
            (directory / name).write_text(text)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_full_table(family: int) -> None:
    """As many are refused as senders are told of, and as the kernel counts."""
    need(os.environ.get("HUATUO_DISPOSABLE_HOST"), "the table is filled only on a disposable host")
    with pair(family) as net, running(Neighbour) as probe:
        probe.targets = list
        assert list(probe.drain()) == []
        limit = of_kernel(family, "entries") + 20
        with smaller_table(family, limit):
            before = of_kernel(family, "table_fulls")
            refused = ask_for(net, 60)
            fulls = of_kernel(family, "table_fulls") - before
            found = [e for b in probe.drain() for e in Enricher(HOST).events(b, Neighbour)]
            label = {"family": NAMES[family]}
            assert value(probe, "limit_entries", **label) == limit
            counted = value(probe, "events_total", event="table_fulls", **label)
            assert before + fulls <= counted <= of_kernel(family, "table_fulls")
    assert refused >= 30
    check(found, NAMES[family], fulls, limit)
    assert fulls == pytest.approx(refused, abs=3)


def check(found: list[Event], family: str, fulls: int, limit: int) -> None:
    (event,) = found
    assert event.fields["family"] == family
    assert event.fields["refused"] == fulls
    assert event.fields["limit"] == limit
    assert event.fields["entries"] == pytest.approx(limit, abs=2)
    assert event.title.startswith(f"the {family} neighbour table is full: ")
