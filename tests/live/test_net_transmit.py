"""net.transmit against queues served at a known rate, and when packets came out of them."""

from __future__ import annotations

import socket
import struct
import threading
import time
from typing import Any

import numpy as np
import pytest

from huatuo.enrich.enricher import Enricher
from huatuo.model.event import Event
from huatuo.model.metric import edges
from huatuo.probes.net.connection import Connection
from huatuo.probes.net.transmit import Transmit
from tests.live.conftest import HOST, cgroup, disturbed, emulated, need, row, running
from tests.live.network import DEVICES, PYTHON, Pair, netns_inode, pair, within
from tests.live.stall import stall

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

PREFIX = "huatuo_net_transmit_"
NO_LIMIT = {"max_per_second": 1_000_000, "max_per_second_per_container": 1_000_000}
ALL = {"window": 10**9, "every": 10**9} | NO_LIMIT
FAMILIES = [socket.AF_INET, socket.AF_INET6]
SLOW = "tbf rate 800kbit burst 2000 limit 200000"  # 100 bytes per millisecond
SIZE = 958  # with the headers of UDP, IPv4 and Ethernet: a packet takes 10 ms
MS = 1_000_000


def seen(packets: int) -> int:
    """How many must be seen: some hosts run no programs in softirqs on top of certain tasks."""
    return packets if emulated() else packets // 2


def drained(probe: Transmit, net: Pair) -> list[Event]:
    """Events of packets of the client, while it is there."""
    inode = netns_inode(net.names["client"])
    found = [e for batch in probe.drain() for e in Enricher(HOST).events(batch, Transmit)]
    return [event for event in found if event.fields["netns"] == inode]


def slot_of(seconds: float) -> int:
    return int(np.searchsorted(edges(27), seconds, "right"))


def slots(probe: Transmit, name: str, **labels: object) -> Any:
    """Of a histogram, over all containers; zeros while it has no series."""
    found = {m.name: m for m in probe.collect()}.get(PREFIX + name)
    return np.zeros(27) if found is None else found.values[row(found, **labels)].sum(axis=0)


def waits(net: Pair, count: int) -> tuple[dict[int, float], int]:
    """Send datagrams at once, each a byte longer than the one before.

    Length of the packet in the queue → seconds until it came out at the other end; and the port.
    """
    headers = 14 + 8 + (20 if net.family == socket.AF_INET else 40)
    receiver = net.socket("server", socket.SOCK_DGRAM)
    receiver.bind((net.address("server"), 0))
    receiver.settimeout(20)
    sender = net.socket("client", socket.SOCK_DGRAM)
    sender.connect(receiver.getsockname()[:2])
    took: dict[int, float] = {}

    def receive() -> None:
        for _ in range(count):
            data = receiver.recv(2000)
            (sent,) = struct.unpack_from("d", data)
            took[headers + len(data)] = time.monotonic() - sent

    thread = threading.Thread(target=receive)
    thread.start()
    for number in range(count):
        sender.send(struct.pack("d", time.monotonic()).ljust(SIZE + number, b"x"))
    thread.join(60)
    assert not thread.is_alive()
    return took, sender.getsockname()[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_each_packet_waits_for_those_before_it(family: int) -> None:
    with pair(family) as net, running(Transmit, **ALL, queue_threshold=0) as probe:
        net.tc("client", SLOW)
        before = slots(probe, "queue_seconds")
        took, port = waits(net, 20)
        counted = slots(probe, "queue_seconds") - before
        found = [e for e in drained(probe, net) if e.fields["local_port"] == port]
        remote = net.address("server")
        index = within(net.names["client"], lambda: socket.if_nametoindex(DEVICES["client"]))
    assert seen(20) <= sum(event.fields["packets"] for event in found)
    assert seen(20) <= counted.sum()
    for event in found:
        wait, until_received = event.fields["queue_ns"] / 1e9, took[event.fields["length_bytes"]]
        assert wait <= until_received + 0.0002
        assert wait == pytest.approx(until_received, abs=1.0 if disturbed() else 0.01)
    longest = max(event.fields["queue_ns"] for event in found)
    assert longest >= 100 * MS, "they were not sent at once"
    assert counted[slot_of(0.067) :].sum() >= seen(10)
    for event in found:
        assert event.fields["protocol"] == "udp"
        assert event.fields["qdisc"] == "tbf"
        assert event.fields["interface"] in (DEVICES["client"], f"if{index}")
        assert event.fields["local_address"] == net.address("client")
        assert event.fields["remote_address"] == remote
    assert max(event.fields["waiting"] for event in found) >= 10
    assert "a packet waited " in found[-1].title


@pytest.mark.parametrize("family", FAMILIES)
def test_a_link_of_known_delay(family: int) -> None:
    with pair(family) as net, running(Transmit, **ALL) as probe:
        net.tc("client", "netem delay 80ms")
        before = slots(probe, "queue_seconds")
        took, port = waits(net, 5)
        counted = slots(probe, "queue_seconds") - before
        found = [e for e in drained(probe, net) if e.fields["local_port"] == port]
    assert counted[slot_of(0.08) :].sum() >= 5
    assert sum(event.fields["packets"] for event in found) >= 5
    for event in found:
        until_received = took[event.fields["length_bytes"]] * 1e9
        assert 80 * MS <= event.fields["queue_ns"] <= until_received + 0.2 * MS
        assert event.fields["qdisc"] == "netem"


def test_packets_that_find_the_queue_empty_do_not_count() -> None:
    with pair() as net, running(Transmit, **ALL, queue_threshold=0) as probe:
        waits(net, 20)  # veth has no queue
        assert drained(probe, net) == []


def test_tcp_held_up_before_the_queue() -> None:
    """The thread that sends spins between TCP and the queue, for a known time."""
    with pair() as net, running(Transmit, **ALL, stack_threshold=15 * MS) as probe:
        net.tc("client", "tbf rate 1gbit burst 100000 limit 100000")
        client, accepted = net.connected()
        client.send(b"warm")
        accepted.recv(4)
        before = slots(probe, "stack_seconds")
        with stall("net_dev_queue", milliseconds=20, tid=threading.get_native_id()) as stalls:
            client.send(b"x" * 100)
            accepted.recv(100)
            (stalled,) = stalls.rows()
        late = (slots(probe, "stack_seconds") - before)[slot_of(0.016) :]
        found = drained(probe, net)
        port = client.getsockname()[1]
    assert late.sum() == 1
    (event,) = [event for event in found if event.fields["local_port"] == port]
    assert event.fields["protocol"] == "tcp"
    more = 1000 * MS if disturbed() else 3 * MS
    assert 0 <= event.fields["stack_ns"] - int(stalled["duration"]) <= more
    assert "after TCP had sent it" in event.title


def test_what_tcp_paces_itself_is_no_waiting() -> None:
    """fq holds back what TCP stamped to leave later: 20 packets in a second at 20 kB/s."""
    with pair() as net, running(Transmit, **ALL) as probe:
        net.tc("client", "fq")
        client, accepted = net.connected()
        client.setsockopt(socket.SOL_SOCKET, 47, 20_000)  # SO_MAX_PACING_RATE
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        before = slots(probe, "queue_seconds")
        began = time.monotonic()
        left = 40_000
        sender = threading.Thread(target=client.sendall, args=(bytes(left),))
        sender.start()
        while left:
            left -= len(accepted.recv(left))
        took = time.monotonic() - began
        sender.join()
        counted = slots(probe, "queue_seconds") - before
        found = drained(probe, net)
    assert took >= 1, "it was not paced"
    assert counted.sum() >= 3  # packets of several segments
    assert counted[slot_of(0.05) :].sum() == 0 or disturbed()
    assert found == [] or disturbed()


SENDING = """
import socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
for _ in range(12):
    s.sendall(bytes(900))
s.shutdown(socket.SHUT_WR)
s.recv(1)
"""


def test_packets_belong_to_the_container_and_process_that_send() -> None:
    """Of a container's packets not more are counted than TCP has sent segments there."""
    with (
        pair() as net,
        cgroup("transmit") as group,
        running(Connection),
        running(Transmit, **ALL, queue_threshold=20 * MS) as probe,
    ):
        net.tc("client", SLOW)
        server = net.listen()
        where = [net.address("server"), str(server.getsockname()[1])]
        argv = ["ip", "netns", "exec", net.names["client"], PYTHON, "-c", SENDING]
        with group.start([*argv, *where]) as sender:
            accepted, _ = server.accept()
            while accepted.recv(65536):
                pass
            accepted.close()
            assert sender.wait(60) == 0
        counted = slots(probe, "queue_seconds", container=group.id)
        found = [e for e in drained(probe, net) if e.fields["protocol"] == "tcp"]
        segments = net.count("client", "Tcp.OutSegs")
    assert 1 <= len(found) <= counted[slot_of(0.02) :].sum() <= counted.sum() <= segments
    need(found[0].process, "this kernel keeps no owners with sockets (before 5.11)")
    for event in found:
        assert event.fields["remote_port"] == int(where[1])
        assert event.process and event.process.comm.startswith("python")
        assert event.container and event.container.cgroup == f"/{group.directory.name}"


def test_what_was_queued_before_a_window_is_not_known() -> None:
    """Packets pass by all the time, and wait 1 ms at most: none may seem to wait for a window."""
    with pair() as net, running(Transmit, **NO_LIMIT, window=100 * MS, every=300 * MS) as probe:
        need(probe.duty() < 1, "on this kernel it is attached always")
        net.tc("client", "tbf rate 8mbit burst 2000 limit 200000")
        receiver = net.socket("server", socket.SOCK_DGRAM)
        receiver.bind((net.address("server"), 0))
        sender = net.socket("client", socket.SOCK_DGRAM)
        sender.connect(receiver.getsockname()[:2])
        before = slots(probe, "queue_seconds")
        found, end = list[Event](), time.monotonic() + 4
        while time.monotonic() < end:
            for _ in range(5):
                sender.send(b"x" * SIZE)
            time.sleep(0.01)
            found += drained(probe, net)
        counted = slots(probe, "queue_seconds") - before
    assert counted.sum() > 20
    assert counted[slot_of(0.15) :].sum() == 0
    assert found == []


def test_storm_adds_up() -> None:
    """Every packet an event: produced = delivered + suppressed + lost."""
    packets = 5000
    with pair() as net, running(Transmit, queue_threshold=0, window=1, every=1) as probe:
        net.tc("client", "tbf rate 1gbit burst 100000 limit 10000000")
        before = slots(probe, "queue_seconds").sum()
        receiver = net.socket("server", socket.SOCK_DGRAM)
        receiver.bind((net.address("server"), 0))
        sender = net.socket("client", socket.SOCK_DGRAM)
        sender.connect(receiver.getsockname()[:2])
        for _ in range(packets):
            sender.send(b"x")
        time.sleep(0.3)
        list(probe.drain())
        counted, account = slots(probe, "queue_seconds").sum() - before, probe.account()
    known = account.delivered + sum(account.suppressed.values()) + sum(account.lost.values())
    assert account.produced == known
    assert counted >= packets
    assert account.produced >= packets
    assert account.suppressed["rate_limited"] > packets * 0.8
