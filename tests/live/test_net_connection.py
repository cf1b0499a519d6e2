"""net.connection against connections of known fate, TCP's own counters and ss."""

from __future__ import annotations

import errno
import re
import shutil
import socket
import struct
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from huatuo.enrich.enricher import Enricher
from huatuo.model.event import Event
from huatuo.model.metric import edges
from huatuo.probes.net.connection import Connection
from tests.live.conftest import HOST, cgroup, metric, need, row, running
from tests.live.network import PYTHON, Pair, netns_inode, pair

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

PREFIX = "huatuo_net_connection_"
NO_LIMIT = {"max_per_second": 1_000_000, "max_per_second_per_container": 1_000_000}
FAMILIES = [socket.AF_INET, socket.AF_INET6]
LINGER_RESET = struct.pack("ii", 1, 0)


def drained(probe: Connection, net: Pair, kind: str) -> list[Event]:
    """Events of that ring about sockets of either side, while the namespaces are there."""
    inodes = {netns_inode(name) for name in net.names.values()}
    batches = [batch for batch in probe.drain() if batch.ring == kind]
    found = [event for batch in batches for event in Enricher(HOST).events(batch, Connection)]
    return [event for event in found if event.fields["netns"] in inodes]


def total(probe: Connection, name: str, **labels: object) -> int:
    """Of a counter, or the number in a histogram, over all containers."""
    found = {m.name: m for m in probe.collect()}.get(PREFIX + name)
    return 0 if found is None else int(found.values[row(found, **labels)].sum())


def histogram(probe: Connection, name: str) -> Any:
    found = metric(probe, PREFIX + name)
    return found.values.sum(axis=0)


def slot_of(seconds: float) -> int:
    return int(np.searchsorted(edges(27), seconds, "right"))


@pytest.mark.parametrize("family", FAMILIES)
def test_each_connection_is_timed(family: int) -> None:
    with pair(family) as net, running(Connection) as probe:
        server = net.listen()
        before = total(probe, "connect_seconds")
        began = time.monotonic()
        for _ in range(40):
            with net.connect(server):
                accepted, _ = server.accept()
                accepted.close()
        spent = time.monotonic() - began
        opened = net.count("client", "Tcp.ActiveOpens")
        assert opened == total(probe, "connect_seconds") - before == 40
        sums = metric(probe, PREFIX + "connect_seconds").sums
        assert sums is not None
        assert 0 < sums.sum() < spent


def test_a_slow_connection_is_an_event() -> None:
    """The first SYN is lost: it takes the second that TCP waits before it tries again."""
    with pair() as net, running(Connection, **NO_LIMIT) as probe:
        server = net.listen()
        rule = "tcp flags & (syn|ack) == syn numgen inc mod 100 0"
        before = histogram(probe, "connect_seconds") if total(probe, "connect_seconds") else 0
        with net.dropping("server", rule) as dropped:
            began = time.monotonic()
            client = net.connect(server)
            seconds = time.monotonic() - began
            assert dropped() == 1
        slots = histogram(probe, "connect_seconds") - before
        (event,) = drained(probe, net, "connection_failures")
        port = client.getsockname()[1]
    assert slots[slot_of(1.0) :].sum() == 1
    assert event.fields["outcome"] == "opened"
    assert event.fields["duration_ns"] / 1e9 == pytest.approx(seconds, abs=0.1)
    assert event.fields["retransmitted"] == 1
    assert event.fields["local_port"] == port
    assert re.search(r"took 1(\.\d+)? s", event.title)
    assert "1 segment sent again" in event.title


def test_a_link_of_known_delay() -> None:
    """Opening takes one round trip, and that is the smoothed round-trip time at the end."""
    with pair() as net, running(Connection) as probe:
        net.tc("client", "netem delay 60ms")
        server = net.listen()
        connects = total(probe, "connect_seconds")
        began = time.monotonic()
        client = net.connect(server)
        seconds = time.monotonic() - began
        accepted, _ = server.accept()
        client.sendall(b"x")
        accepted.recv(1)
        time.sleep(0.2)
        shown = ss(net, "client", client)
        client.close()
        accepted.close()
        time.sleep(0.3)
        slots = histogram(probe, "connect_seconds")
        assert total(probe, "connect_seconds") == connects + 1
        assert slots[slot_of(0.06)] == 1
        assert seconds >= 0.06
        rtt = float(re.search(r" rtt:([0-9.]+)/", shown)[1]) / 1e3  # type: ignore[index]
        assert 0.06 <= rtt < 0.12
        assert histogram(probe, "rtt_seconds")[slot_of(rtt)] >= 1


def ss(net: Pair, side: str, end: socket.socket) -> str:
    """What `ss -ti` says of one socket."""
    need(shutil.which("ss"), "ss (iproute2) is not installed")
    port = end.getsockname()[1]
    return net.run(side, "ss", "-tinH", f"sport = :{port}").replace("\n", " ")


@pytest.mark.parametrize("family", FAMILIES)
def test_refused(family: int) -> None:
    with pair(family) as net, running(Connection, **NO_LIMIT) as probe:
        before = total(probe, "failures_total", outcome="refused", phase="connect")
        for _ in range(10):
            client = net.socket("client")
            assert client.connect_ex((net.address("server"), 9)) == errno.ECONNREFUSED
        after = total(probe, "failures_total", outcome="refused", phase="connect")
        assert after - before == net.count("client", "Tcp.AttemptFails") == 10
        found = drained(probe, net, "connection_failures")
    assert len(found) == 10
    for event in found:
        assert (event.fields["outcome"], event.fields["phase"]) == ("refused", "connect")
        assert event.fields["remote_address"] == net_address(family)
        assert event.fields["remote_port"] == 9
        assert event.fields["error"] == errno.ECONNREFUSED


def net_address(family: int) -> str:
    return "10.99.0.2" if family == socket.AF_INET else "fd99::2"


def test_timed_out_unreachable_and_abandoned() -> None:
    with pair() as net, running(Connection, **NO_LIMIT) as probe:
        net.sysctl("client", "ipv4/tcp_syn_retries", 1)
        net.sysctl("client", "ipv4/tcp_syn_linear_timeouts", 0, optional=True)
        server = net.listen()
        outcomes: dict[str, int] = {}
        with net.dropping("server", "tcp flags & (syn|ack) == syn"):
            silent, given_up = net.socket("client"), net.socket("client")
            given_up.setblocking(False)
            given_up.connect_ex(server.getsockname()[:2])
            given_up.close()
            missing = net.socket("client")
            missing.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 5)
            runs = [
                threading.Thread(
                    target=lambda: outcomes.update(gone=connect(missing, "10.99.0.77"))
                ),
                threading.Thread(
                    target=lambda: outcomes.update(silent=connect(silent, *server.getsockname()))
                ),
            ]
            for each in runs:
                each.start()
            for each in runs:
                each.join(30)
        assert outcomes == {"gone": errno.EHOSTUNREACH, "silent": errno.ETIMEDOUT}
        found = {e.fields["outcome"]: e for e in drained(probe, net, "connection_failures")}
        assert net.count("client", "Tcp.AttemptFails") == 2  # without the one given up
    assert set(found) == {"abandoned", "timed_out", "unreachable"}
    assert found["unreachable"].fields["remote_address"] == "10.99.0.77"
    assert found["timed_out"].fields["retransmitted"] == 1
    assert 2.5e9 < found["timed_out"].fields["duration_ns"] < 8e9
    assert "timed out after" in found["timed_out"].title


def connect(client: socket.socket, address: str, port: int = 9) -> int:
    return client.connect_ex((address, port))


def test_a_connection_that_breaks() -> None:
    """Nothing is acknowledged any more: the program is told after TCP_USER_TIMEOUT."""
    with pair() as net, running(Connection, **NO_LIMIT) as probe:
        client, _accepted = net.connected()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000)
        with net.dropping("server", "tcp dport != 0"):
            client.send(b"x")
            with pytest.raises(OSError, match="timed out"):
                client.recv(1)
        (event,) = drained(probe, net, "connection_failures")
    assert (event.fields["outcome"], event.fields["phase"]) == ("timed_out", "data")
    assert event.fields["state"] == "established"
    assert event.fields["retransmitted"] >= 1
    assert "the connection broke" in event.title


@pytest.mark.parametrize("family", FAMILIES)
def test_resets_are_those_that_tcp_counts(family: int) -> None:
    """Sent: unread data, linger of 0, nobody listens. Received: as many at the other end."""
    with pair(family) as net, running(Connection, **NO_LIMIT) as probe:
        reasons = "(reason)" in probe.hooks[1]
        client, accepted = net.connected()
        client.send(b"unread")
        time.sleep(0.05)
        accepted.close()
        second, other = net.connected()
        second.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        second.close()
        third = net.socket("client")
        assert third.connect_ex((net.address("server"), 9)) == errno.ECONNREFUSED
        time.sleep(0.1)
        counted = net.count("server", "Tcp.OutRsts") + net.count("client", "Tcp.OutRsts")
        assert counted == 3
        sent = drained(probe, net, "sent_resets")
        assert sum(net.count(side, "Tcp.EstabResets") for side in net.names) >= 1
        ports = {client.getsockname()[1], other.getsockname()[1]}
    assert len(sent) == (3 if reasons else 2)
    if reasons:
        found = {event.fields["reason"] for event in sent}
        assert {"no_socket", "tcp_abort_on_close"} < found
        (nobody,) = [event for event in sent if event.fields["reason"] == "no_socket"]
        assert nobody.fields["local_port"] == 9
        assert nobody.fields["local_address"] == net_address(family)
        assert nobody.fields["state"] == "none"
    assert all(any("tcp" in frame for frame in event.stack) for event in sent)
    assert ports


def test_received_resets_have_their_connection() -> None:
    with pair() as net, running(Connection, **NO_LIMIT) as probe:
        before = total(probe, "received_resets_total")
        client, accepted = net.connected()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        accepted.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        (event,) = drained(probe, net, "received_resets")
        port = client.getsockname()[1]
        assert total(probe, "received_resets_total") - before == 1
        assert net.count("client", "Tcp.EstabResets") == 1
    assert event.fields["state"] == "established"
    assert (event.fields["local_port"], event.fields["local_address"]) == (port, "10.99.0.1")


CONNECTING = """
import socket, sys
for _ in range(int(sys.argv[3])):
    with socket.socket() as s:
        try:
            s.connect((sys.argv[1], int(sys.argv[2])))
        except OSError:
            pass
"""


def test_connections_belong_to_the_container_and_process_that_made_them() -> None:
    with pair() as net, cgroup("connect") as group, running(Connection, **NO_LIMIT) as probe:
        server = net.listen()
        to = [net.address("server"), str(server.getsockname()[1])]
        argv = ["ip", "netns", "exec", net.names["client"], PYTHON, "-c", CONNECTING]
        assert group.run([*argv, *to, "15"]).returncode == 0
        assert group.run([*argv, to[0], "9", "3"]).returncode == 0
        found = drained(probe, net, "connection_failures")
        assert len(found) == 3
        need(found[0].process, "this kernel keeps no owners with sockets (before 5.11)")
        for event in found:
            assert event.process and event.process.comm.startswith("python")
            assert event.container and event.container.cgroup == f"/{group.directory.name}"
        assert total(probe, "connect_seconds", container=group.id) == 15
        assert total(probe, "failures_total", container=group.id) == 3


def test_sockets_from_before_the_start_have_owners() -> None:
    with pair() as net:
        client, accepted = net.connected()
        with running(Connection, **NO_LIMIT) as probe:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
            accepted.close()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            (event,) = drained(probe, net, "received_resets")
    need(event.process, "this kernel keeps no owners with sockets (before 5.11)")
    assert event.process and event.process.comm.startswith(("python", "pytest"))


def test_what_it_waited_for_is_what_ss_says() -> None:
    """The peer does not read for a while: time limited by its window."""
    with pair() as net, running(Connection) as probe:
        client, accepted = net.connected()
        before = seconds(probe, "peer_limited_seconds_total")
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                client.send(bytes(65536))
        time.sleep(0.8)
        reader = threading.Thread(target=read_all, args=(accepted,))
        reader.start()
        client.setblocking(True)
        time.sleep(0.3)
        shown = ss(net, "client", client)
        client.close()
        reader.join(20)
        time.sleep(0.1)
        after = seconds(probe, "peer_limited_seconds_total")
    found = re.search(r"rwnd_limited:([0-9]+)ms", shown)
    assert found, shown
    assert float(found[1]) > 500, "milliseconds"
    assert after - before == pytest.approx(float(found[1]) / 1e3, abs=0.1)


def read_all(end: socket.socket) -> None:
    while end.recv(1 << 20):
        pass


def seconds(probe: Connection, name: str) -> float:
    found: Mapping[str, Any] = {m.name: m for m in probe.collect()}
    return float(found[PREFIX + name].values.sum()) if PREFIX + name in found else 0.0


def test_storm_adds_up() -> None:
    with pair() as net, running(Connection) as probe:
        before = total(probe, "failures_total", outcome="refused")
        for _ in range(500):
            with net.socket("client") as client:
                client.connect_ex((net.address("server"), 9))
        assert total(probe, "failures_total", outcome="refused") - before == 500
        list(probe.drain())
        account = probe.account()
        known = account.delivered + sum(account.suppressed.values()) + sum(account.lost.values())
        assert account.produced == known >= 500
        assert account.suppressed["rate_limited"] > 250
