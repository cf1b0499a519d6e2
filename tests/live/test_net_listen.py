"""net.listen against accept queues filled by so many connections, ListenOverflows, `ss -ltnm`."""

from __future__ import annotations

import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from huatuo.enrich.enricher import Enricher
from huatuo.kernel.cgroupfs import Cgroup, hierarchies, identity_is_v1, root_id
from huatuo.kernel.host import Host
from huatuo.model.event import Event
from huatuo.probes.net.listen import Listen
from tests.live.conftest import HOST, cgroup, metric, need, row, running
from tests.live.network import PYTHON, Pair, host_in, pair

pytestmark = pytest.mark.live

PREFIX = "huatuo_net_listen_"
BACKLOG = 3
REFUSED = 16
FAMILIES = [socket.AF_INET, socket.AF_INET6]


@contextmanager
def server_host(family: int = socket.AF_INET) -> Iterator[tuple[Pair, Host]]:
    with pair(family) as net, host_in(net.names["server"]) as host:
        yield net, host


def fill(net: Pair, where: tuple[str, int]) -> None:
    """One connection more than the backlog waits to be accepted: then the queue is full."""
    for _ in range(BACKLOG + 1):
        net.socket("client").connect(where)
    time.sleep(0.2)


def overflow(net: Pair, where: tuple[str, int], count: int = REFUSED) -> None:
    """As many attempts, each given up before TCP tries it again."""
    for _ in range(count):
        with net.socket("client") as client:
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect(where)
    time.sleep(0.2)


def shown(net: Pair, port: int) -> tuple[int, int, int]:
    """Connections that wait, that may, and that were refused, as ss has them."""
    need(shutil.which("ss"), "ss (iproute2) is not installed")
    line = net.run("server", "ss", "-ltnmH", f"sport = :{port}")
    _, waiting, limit, *_ = line.split()
    drops = re.search(r",d(\d+)\)", line)
    assert drops, line
    return int(waiting), int(limit), int(drops[1])


def drained(probe: Listen) -> list[Event]:
    return [e for batch in probe.drain() for e in Enricher(HOST).events(batch, Listen)]


@pytest.mark.parametrize("family", FAMILIES)
def test_refused_connections_are_those_that_tcp_counts(family: int) -> None:
    with server_host(family) as (net, host), running(Listen, host) as probe:
        probe.targets = list
        other, server = net.listen(BACKLOG), net.listen(BACKLOG)
        where = server.getsockname()[:2]
        fill(net, where)
        fill(net, other.getsockname()[:2])
        assert drained(probe) == []
        overflow(net, where)
        assert net.count("server", "TcpExt.ListenOverflows") == REFUSED
        (event,) = drained(probe)
        assert shown(net, where[1]) == (BACKLOG + 1, BACKLOG, REFUSED)
        counted = metric(probe, PREFIX + "overflows_total")
        assert counted.values.tolist() == [REFUSED]
        overflow(net, where, 5)
        (more,) = drained(probe)
    assert event.fields["refused"] == REFUSED
    assert (event.fields["waiting"], event.fields["limit"]) == (BACKLOG + 1, BACKLOG)
    assert event.fields["local_address"] == net.address("server")
    assert event.fields["local_port"] == where[1]
    assert more.fields["refused"] == 5
    assert f"refused {REFUSED} connections" in event.title


def test_how_full_the_fullest_is() -> None:
    with server_host() as (net, host), running(Listen, host) as probe:
        probe.targets = list
        server = net.listen(9)
        for _ in range(5):
            net.connect(server)
        time.sleep(0.2)
        waiting, limit, _ = shown(net, server.getsockname()[1])
        ratio = metric(probe, PREFIX + "fullest_ratio").values.tolist()
    assert (waiting, limit) == (5, 9)
    assert ratio == [pytest.approx(waiting / (limit + 1))]


LISTENING = f"""
import socket, sys, time
s = socket.socket()
s.bind((sys.argv[1], 0))
s.listen({BACKLOG})
print(s.getsockname()[1], flush=True)
time.sleep(100)
"""


def test_in_a_container_with_a_namespace_of_its_own() -> None:
    with pair() as net, cgroup("listen") as group:
        root = hierarchies(HOST).identity
        assert root
        container = Cgroup(group.id, f"/{group.directory.relative_to(root)}")
        inside = ["ip", "netns", "exec", net.names["server"], PYTHON, "-c", LISTENING]
        with group.start([*inside, net.address("server")]) as server, running(Listen) as probe:
            assert server.stdout
            where = (net.address("server"), int(server.stdout.readline()))
            probe.targets = lambda: [container]
            fill(net, where)
            ratio = metric(probe, PREFIX + "fullest_ratio")
            assert ratio.values[row(ratio, container=group.id)].tolist() == [1]
            overflow(net, where)
            counted = metric(probe, PREFIX + "overflows_total")
            assert net.count("server", "TcpExt.ListenOverflows") == REFUSED
            assert counted.values[row(counted, container=group.id)].tolist() == [REFUSED]
            (event,) = [e for e in drained(probe) if e.fields["local_port"] == where[1]]
            server.kill()
    assert event.fields["refused"] == REFUSED
    assert event.container and event.container.cgroup == container.path


def test_containers_in_the_hosts_namespace_are_told_apart() -> None:
    need(not identity_is_v1(HOST), "cgroup v1: sockets have no container")
    with server_host() as (net, host), cgroup("listen") as group:
        inside = ["ip", "netns", "exec", net.names["server"], PYTHON, "-c", LISTENING]
        with group.start([*inside, net.address("server")]) as server:
            assert server.stdout
            where = (net.address("server"), int(server.stdout.readline()))
            with running(Listen, host) as probe:
                probe.targets = list
                fill(net, where)
                overflow(net, where)
                (event,) = drained(probe)
                owners = metric(probe, PREFIX + "fullest_ratio").labels["container"].values
                server.kill()
        need(owners[0] != root_id(HOST), "this kernel does not tell the cgroup of a socket")
        assert owners[0] == group.id
    assert event.container and event.container.cgroup.endswith(group.directory.name)
