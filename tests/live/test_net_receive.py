"""net.receive against delays of known length at each stage, and what ss says of TCP."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from typing import Any

import numpy as np
import pytest

from huatuo.enrich.enricher import Enricher
from huatuo.model.event import Event
from huatuo.model.metric import edges
from huatuo.probes.net.receive import Receive
from tests.live.conftest import HOST, cgroup, disturbed, emulated, metric, need, row, running
from tests.live.network import PYTHON, Pair, netns_inode, pair
from tests.live.stall import stall
from tests.live.test_net_connection import ss

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

PREFIX = "huatuo_net_receive_"
ALWAYS = {"window": 10**9, "every": 10**9}
ALL = {"sample_every": 1, "max_per_second": 1_000_000, "max_per_second_per_container": 1_000_000}
ALL |= ALWAYS
FAMILIES = [socket.AF_INET, socket.AF_INET6]
NET_RX = 3
MS = 1_000_000


def drained(probe: Receive, net: Pair, stage: str) -> list[Event]:
    """Events of that stage, "" for stalls, in the pair's namespaces, while they are there."""
    inodes = {netns_inode(name) for name in net.names.values()}
    found = [event for batch in probe.drain() for event in Enricher(HOST).events(batch, Receive)]
    return [
        event
        for event in found
        if event.fields.get("stage", "") == stage and event.fields["netns"] in inodes
    ]


def slot_of(seconds: float) -> int:
    return int(np.searchsorted(edges(27), seconds, "right"))


def slots(probe: Receive, name: str, **labels: object) -> Any:
    """Of a histogram, over all containers; zeros while it has no series."""
    found = {m.name: m for m in probe.collect()}.get(PREFIX + name)
    return np.zeros(27) if found is None else found.values[row(found, **labels)].sum(axis=0)


def datagrams(net: Pair) -> tuple[socket.socket, socket.socket]:
    """A sender on the client's side, connected to a receiver on the server's."""
    receiver = net.socket("server", socket.SOCK_DGRAM)
    receiver.bind((net.address("server"), 0))
    sender = net.socket("client", socket.SOCK_DGRAM)
    sender.connect(receiver.getsockname()[:2])
    return sender, receiver


@pytest.mark.parametrize("family", FAMILIES)
def test_a_busy_cpu_delays_packets_to_the_stack(family: int) -> None:
    """The softirq that takes packets from the backlog is held up: exact number and length."""
    with pair(family) as net, running(Receive, **ALL, stack_threshold=15 * MS) as probe:
        sender, receiver = datagrams(net)
        sender.send(b"warm")
        before = slots(probe, "stack_seconds")
        only = {"vector": NET_RX, "tid": threading.get_native_id()}
        with stall("softirq_entry", milliseconds=20, count=5, **only) as stalls:
            for _ in range(60):
                sender.send(b"x" * 100)
                time.sleep(0.002)
            assert len(stalls) == 5
        late = (slots(probe, "stack_seconds") - before)[slot_of(0.016) :]
        found = drained(probe, net, "stack")
        port = receiver.getsockname()[1]
    assert 5 <= late.sum() <= (60 if disturbed() else 5)
    assert len(found) >= 5
    exact = [e for e in found if 20e6 <= e.fields["latency_ns"] < (1e9 if disturbed() else 25e6)]
    assert len(exact) >= 5
    for event in found:
        assert event.fields["protocol"] == "udp"
        assert event.fields["local_port"] == port
        assert event.fields["local_address"] == net.address("server")
        assert event.fields["remote_address"] == net.address("client")
        assert any("netif_receive" in frame for frame in event.stack)


def test_a_locked_socket_delays_packets_to_tcp() -> None:
    """Another thread reads, and is held up while it has the socket: what comes now waits for it."""
    cpus = sorted(os.sched_getaffinity(0))
    need(len(cpus) > 1, "needs two CPUs")
    with pair() as net, running(Receive, **ALL, tcp_threshold=8 * MS) as probe:
        client, accepted = net.connected()
        client.send(b"first")
        reading: list[int] = []

        def read() -> None:
            os.sched_setaffinity(0, {cpus[1]})  # of this thread
            reading.append(threading.get_native_id())
            start.wait()
            accepted.recv(5)

        start = threading.Event()
        reader = threading.Thread(target=read)
        reader.start()
        while not reading:
            time.sleep(0.001)
        with stall("skb_copy_datagram_iovec", milliseconds=40, tid=reading[0]) as stalls:
            os.sched_setaffinity(0, {cpus[0]})
            start.set()
            time.sleep(0.01)
            sent = time.monotonic_ns()
            client.send(b"second")
            os.sched_setaffinity(0, cpus)
            reader.join()
            (stalled,) = stalls.rows()
        rest = int(stalled["time"] + stalled["duration"]) - sent
        found = drained(probe, net, "tcp")
        port = accepted.getsockname()[1]
    assert rest > 10 * MS, "both threads ran at the same time"
    found = [event for event in found if event.fields["local_port"] == port]
    assert len(found) >= 1
    assert found[0].fields["latency_ns"] == pytest.approx(rest, abs=3e6 if not disturbed() else 1e9)
    assert any("release_sock" in frame for frame in found[0].stack)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_late_reader_of_tcp(family: int) -> None:
    with pair(family) as net, running(Receive, **ALL, user_threshold=100 * MS) as probe:
        client, accepted = net.connected()
        before = slots(probe, "user_seconds", protocol="tcp")
        for _ in range(3):
            client.send(b"x" * 100)
            time.sleep(0.15)
            accepted.recv(100)
        client.send(b"y")
        accepted.recv(1)
        late = slots(probe, "user_seconds", protocol="tcp") - before
        found = drained(probe, net, "user")
        ends = client.getsockname()[:2], accepted.getsockname()[:2]
    assert late.sum() == 4
    assert late[slot_of(0.15) :].sum() == 3
    assert len(found) == 3
    for event in found:
        assert event.fields["latency_ns"] == pytest.approx(
            150e6, abs=20e6 if not disturbed() else 1e9
        )
        assert event.fields["latency_ns"] >= 149e6
        remote, local = ends
        assert (event.fields["remote_address"], event.fields["remote_port"]) == remote
        assert (event.fields["local_address"], event.fields["local_port"]) == local
        assert event.process and event.process.pid == os.getpid()
        assert "was read" in event.title


@pytest.mark.parametrize("family", FAMILIES)
def test_a_late_reader_of_udp(family: int) -> None:
    """Small ones where the kernel has the hook for it; those in several pieces everywhere."""
    with pair(family) as net, running(Receive, **ALL, user_threshold=100 * MS) as probe:
        need(not probe.notes, "; ".join(probe.notes))
        sender, receiver = datagrams(net)
        before = slots(probe, "user_seconds", protocol="udp")
        sizes = [100, 4000]
        for size in sizes:
            sender.send(bytes(size))
            time.sleep(0.15)
            assert len(receiver.recv(10000)) == size
        late = slots(probe, "user_seconds", protocol="udp") - before
        found = drained(probe, net, "user")
        port = receiver.getsockname()[1]
    assert late.sum() == late[slot_of(0.15) :].sum() == len(sizes)
    assert len(found) == len(sizes)
    for event in found:
        assert event.fields["latency_ns"] >= 149e6
        assert (event.fields["protocol"], event.fields["local_port"]) == ("udp", port)
        assert event.fields["local_address"] == net.address("server")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_late_reader_of_large_datagrams(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with running(Receive, **ALL, user_threshold=100 * MS) as probe:
        before = slots(probe, "user_seconds", protocol="udp")
        with (
            socket.socket(family, socket.SOCK_DGRAM) as receiver,
            socket.socket(family, socket.SOCK_DGRAM) as sender,
        ):
            receiver.bind((address, 0))
            sender.sendto(bytes(30000), receiver.getsockname())
            time.sleep(0.15)
            assert len(receiver.recv(40000)) == 30000
            port = receiver.getsockname()[1]
        late = slots(probe, "user_seconds", protocol="udp") - before
        found = [e for batch in probe.drain() for e in Enricher(HOST).events(batch, Receive)]
    assert late[slot_of(0.15) :].sum() >= 1
    (event,) = [event for event in found if event.fields["local_port"] == port]
    assert event.fields["local_address"] == event.fields["remote_address"] == address
    assert (event.fields["stage"], event.fields["protocol"]) == ("user", "udp")
    assert event.fields["latency_ns"] >= 149e6
    assert event.process and event.process.pid == os.getpid()


READING = """
import socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
for _ in range(10):
    s.sendall(b"x")
    time.sleep(0.03)
    s.recv(1)
"""


def test_reads_belong_to_the_container_that_reads() -> None:
    with pair() as net, cgroup("read") as group, running(Receive, **ALL) as probe:
        server = net.listen()
        where = [net.address("server"), str(server.getsockname()[1])]
        argv = ["ip", "netns", "exec", net.names["client"], PYTHON, "-c", READING]
        with group.start([*argv, *where]) as reader:
            accepted, _ = server.accept()
            for _ in range(10):
                accepted.send(accepted.recv(1))
            assert reader.wait(60) == 0
        accepted.close()
        found = slots(probe, "user_seconds", container=group.id, protocol="tcp")
    assert found.sum() == 10
    assert found[slot_of(0.02) :].sum() == 10


def test_one_of_so_many_is_measured() -> None:
    packets = 6000
    with pair() as net, running(Receive, **(ALL | {"sample_every": 10})) as probe:
        sender, _receiver = datagrams(net)
        before = slots(probe, "stack_seconds").sum()
        for _ in range(packets):
            sender.send(b"x")
        measured = slots(probe, "stack_seconds").sum() - before
    assert measured == pytest.approx(packets / 10, rel=0.15)


def test_round_trip_time_of_a_link_of_known_delay() -> None:
    with pair() as net, running(Receive, **ALL) as probe:
        net.tc("client", "netem delay 50ms")
        client, accepted = net.connected()
        before = slots(probe, "rtt_seconds")
        for _ in range(12):
            client.send(b"x")
            accepted.recv(1)
            accepted.send(b"y")
            client.recv(1)
        shown = re.search(r" rtt:([0-9.]+)/", ss(net, "client", client))
        found = slots(probe, "rtt_seconds") - before
    assert shown
    assert 50 <= float(shown[1]) < 70
    assert found[slot_of(float(shown[1]) / 1e3)] >= 10


def fill(client: socket.socket) -> None:
    """Until the other end's window is closed."""
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            client.send(bytes(65536))


def read_all(end: socket.socket) -> None:
    end.setblocking(False)
    try:
        while end.recv(1 << 20):
            time.sleep(0.001)
    except BlockingIOError:
        pass


def told(probe: Receive, net: Pair) -> list[Event]:
    """Events of stalls, of which one comes."""
    end = time.monotonic() + 10
    while not (found := drained(probe, net, "")) and time.monotonic() < end:
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_a_closed_window_stalls_us(family: int) -> None:
    """As long as TCP itself says that the peer's window was the limit; once while it lasts."""
    with pair(family) as net, running(Receive, **ALL, stall_threshold=300 * MS) as probe:
        client, accepted = net.connected()
        before = slots(probe, "peer_stall_seconds").sum()
        fill(client)
        time.sleep(2.6)  # the other end answers not more than two probes a second
        found = told(probe, net)
        read_all(accepted)
        time.sleep(0.2)
        limited = re.search(r"rwnd_limited:([0-9]+)ms", ss(net, "client", client))
        found += told(probe, net)
        stalls = slots(probe, "peer_stall_seconds").sum() - before
        port = client.getsockname()[1]
    assert limited
    assert stalls >= 1
    going_on, *rest = found
    assert (going_on.fields["ended"], rest[0].fields["ended"]) == (0, 1)
    assert going_on.fields["duration_ns"] >= 300e6
    ended = sum(event.fields["duration_ns"] for event in rest if event.fields["ended"]) / 1e6
    assert ended == pytest.approx(float(limited[1]), abs=100)
    assert ended >= 2500
    assert {event.fields["local_port"] for event in found} == {port}
    assert {event.fields["remote_address"] for event in found} == {net.address("server")}


def test_setting_the_clock_makes_no_events() -> None:
    need(os.environ.get("HUATUO_DISPOSABLE_HOST"), "the clock is set only on a disposable host")
    with pair() as net, running(Receive, **ALL, user_threshold=100 * MS) as probe:
        client, accepted = net.connected()
        list(probe.drain())
        now = time.time()
        try:
            client.send(b"x")
            time.sleep(0.05)
            time.clock_settime(time.CLOCK_REALTIME, now + 100)
            accepted.recv(1)  # its stamp is of before
            client.send(b"y")  # its stamp is of after, the offset is still that of before
            accepted.recv(1)
            assert drained(probe, net, "user") == []
            assert probe.account().lost["clock_set"] + probe.account().lost["negative"] >= 1
            client.send(b"z")
            time.sleep(0.15)
            accepted.recv(1)
            (event,) = drained(probe, net, "user")
        finally:
            time.clock_settime(time.CLOCK_REALTIME, time.time() - 100)
    assert event.fields["latency_ns"] < 1e9


def test_storm_adds_up() -> None:
    """Every packet an event: produced = delivered + suppressed + lost."""
    least = 20_000 if emulated() else 18_000  # some hosts run no programs on top of certain tasks
    with pair() as net, running(Receive, **ALWAYS, sample_every=1, stack_threshold=0) as probe:
        sender, _receiver = datagrams(net)
        before = slots(probe, "stack_seconds").sum()
        for _ in range(20_000):
            sender.send(b"x")
        assert slots(probe, "stack_seconds").sum() - before >= least
        list(probe.drain())
        account = probe.account()
        known = account.delivered + sum(account.suppressed.values()) + sum(account.lost.values())
    assert account.produced == known >= least
    assert account.suppressed["rate_limited"] > 15_000


def test_what_is_seen_in_windows_stands_for_all() -> None:
    """A third of the time: a third of the packets, and between windows nothing is attached."""
    with pair() as net, running(Receive, sample_every=1, window=200 * MS, every=600 * MS) as probe:
        sender, _receiver = datagrams(net)
        before, began = slots(probe, "stack_seconds").sum(), time.monotonic()
        packets = attached = 0
        while (took := time.monotonic() - began) < 6:
            sender.send(b"x")
            packets += 1
            time.sleep(0.001)
            list(probe.drain())
            assert probe.object
            links = any(p.links for p in probe.object.programs if p.role not in probe.stays)
            assert links == (probe._stamping is not None)
            attached += links
        seen = slots(probe, "stack_seconds").sum() - before
        observed = metric(probe, PREFIX + "observed_seconds_total").values[0]
        assert probe.hooks
    assert probe.duty() == pytest.approx(1 / 3)
    assert observed == pytest.approx(took / 3, rel=0.2 if not disturbed() else 0.5)
    assert seen >= attached * 0.9
    assert seen * took / observed == pytest.approx(packets, rel=0.2 if not disturbed() else 0.5)
