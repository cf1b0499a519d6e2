"""net.retransmit against losses of known size and TCP's own counters of each namespace."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections import Counter
from typing import Any

import pytest

from huatuo.enrich.enricher import Enricher
from huatuo.model.event import Event
from huatuo.probes.net.connection import Connection
from huatuo.probes.net.drop import Drop
from huatuo.probes.net.retransmit import Retransmit
from tests.live.conftest import HOST, cgroup, metric, need, running
from tests.live.network import PYTHON, Pair, netns_inode, pair

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

SEGMENTS = "huatuo_net_retransmit_segments_total"
NEEDLESS = "huatuo_net_retransmit_needless_recoveries_total"
NO_LIMIT = {"max_per_second": 1_000_000, "max_per_second_per_container": 1_000_000}
SYN = "tcp flags & (syn|ack) == syn"
SYN_ACK = "tcp flags & (syn|ack) == (syn|ack)"
FAMILIES = [socket.AF_INET, socket.AF_INET6]


def segments(probe: Retransmit) -> Counter[tuple[str, str]]:
    """(kind, phase) → segments so far, of all containers."""
    found = metric(probe, SEGMENTS)
    keys = zip(found.labels["kind"].values, found.labels["phase"].values, strict=True)
    counts: Counter[tuple[str, str]] = Counter()
    for key, value in zip(keys, found.values.tolist(), strict=True):
        counts[key] += int(value)
    return counts


def drained(probe: Retransmit, net: Pair, side: str = "client") -> list[Event]:
    """Events about sockets of that side, while it is there."""
    inode = netns_inode(net.names[side])
    batches = list(probe.drain())
    found = [e for b in batches for e in Enricher(HOST).events(b, Retransmit)]
    return [event for event in found if event.fields["netns"] == inode]


def connect_in_vain(net: Pair, server: socket.socket, seconds: float) -> socket.socket:
    client = net.socket("client")
    client.setblocking(False)
    assert client.connect_ex(server.getsockname()[:2]) == errno.EINPROGRESS
    time.sleep(seconds)
    return client


@pytest.mark.parametrize("family", FAMILIES)
def test_syn_that_this_host_dropped(family: int) -> None:
    """Each SYN sent again is counted, and the drop of the very segment is told with it."""
    with pair(family) as net, running(Drop), running(Retransmit, **NO_LIMIT) as probe:
        server = net.listen()
        with net.dropping("server", SYN) as dropped:
            before = net.count("client", "TcpExt.TCPSynRetrans")
            client = connect_in_vain(net, server, 3.4)
            lost = dropped()
            port, listening = client.getsockname()[1], server.getsockname()[1]
            client.close()
        sent = net.count("client", "TcpExt.TCPSynRetrans") - before
        assert sent == lost - 1 >= 2
        assert segments(probe)["syn", "connect"] >= sent
        found = drained(probe, net)
    assert len(found) == sent
    for event in found:
        fields = event.fields
        assert (fields["kind"], fields["phase"], fields["state"]) == ("syn", "connect", "syn_sent")
        assert fields["local_address"] == net.address("client")
        assert (fields["local_port"], fields["remote_port"]) == (port, listening)
        assert fields["same_segment"] == 1
        assert fields["drop_reason"] in ("netfilter_drop", "no_drop", "not_dropped_yet", "0")
        assert fields["drop_age_ns"] < 5e9
    assert [event.fields["retransmitted"] for event in found] == list(range(1, sent + 1))


def test_without_a_drop_here_none_is_told() -> None:
    with pair() as net, running(Retransmit, **NO_LIMIT) as probe:
        with net.dropping("server", SYN):
            connect_in_vain(net, net.listen(), 1.3)
        (event,) = drained(probe, net)
    assert "drop_reason" not in event.fields
    assert "dropped" not in event.title


@pytest.mark.parametrize("family", FAMILIES)
def test_syn_ack_is_the_servers(family: int) -> None:
    with pair(family) as net, running(Retransmit, **NO_LIMIT) as probe:
        server = net.listen()
        net.sysctl("client", "ipv4/tcp_syn_retries", 1)
        with net.dropping("client", SYN_ACK):
            client = connect_in_vain(net, server, 2.4)
            port, listening = client.getsockname()[1], server.getsockname()[1]
        sent = net.count("server", "TcpExt.TCPSynRetrans")
        assert sent >= 1
        assert segments(probe)["syn_ack", "connect"] >= sent
        found = drained(probe, net, "server")
    assert len(found) == sent
    assert {e.fields["kind"] for e in found} == {"syn_ack"}
    assert {e.fields["local_port"] for e in found} == {listening}
    assert {e.fields["remote_port"] for e in found} == {port}
    assert {e.fields["remote_address"] for e in found} == {net.address("client")}


def test_timeouts_and_tail_probes_are_those_that_tcp_counts() -> None:
    with pair() as net, running(Retransmit, **NO_LIMIT) as probe:
        client, accepted = net.connected()
        for _ in range(5):  # so that it knows its round-trip time
            client.send(b"x")
            accepted.recv(1)
        with net.dropping("server", f"tcp sport {client.getsockname()[1]}"):
            client.send(b"y" * 1000)
            time.sleep(2.0)
        assert len(accepted.recv(2000)) == 1000  # it came through at last
        found = drained(probe, net)
        again = net.count("client", "Tcp.RetransSegs")
        assert again == sum(event.fields["segments"] for event in found)
        kinds = Counter(event.fields["kind"] for event in found)
        assert kinds["tail_probe"] == net.count("client", "TcpExt.TCPLossProbes")
        assert kinds["timeout"] == net.count("client", "TcpExt.TCPTimeouts") >= 1
        assert set(kinds) <= {"tail_probe", "timeout"}
        assert {event.fields["phase"] for event in found} == {"data"}
        first = next(event for event in found if event.fields["kind"] == "timeout")
    assert first.fields["length_bytes"] == 1000
    assert 150e6 <= first.fields["timeout_ns"] <= 1e9


def transfer(client: socket.socket, accepted: socket.socket, size: int) -> None:
    """`size` bytes to the end, whatever is lost on the way."""

    def read() -> None:
        left = size
        while left:
            left -= len(accepted.recv(min(left, 1 << 16)))

    reader = threading.Thread(target=read)
    reader.start()
    client.sendall(bytes(size))
    reader.join(60)
    assert not reader.is_alive()


@pytest.mark.parametrize("family", FAMILIES)
def test_fast_retransmits_are_those_that_tcp_counts(family: int) -> None:
    """One of 30 packets is lost: every segment sent again is counted, under its cause."""
    with pair(family) as net, running(Retransmit, **NO_LIMIT) as probe:
        client, accepted = net.connected()
        before = segments(probe)
        with net.dropping("server", f"tcp sport {client.getsockname()[1]} numgen inc mod 30 0"):
            transfer(client, accepted, 8 << 20)
        counts = segments(probe) - before
        again = net.count("client", "Tcp.RetransSegs")
        assert again > 20
        assert counts["fast", "data"] == net.count("client", "TcpExt.TCPFastRetrans") > 0
        assert counts["after_timeout", "data"] == net.count("client", "TcpExt.TCPSlowStartRetrans")
        found = drained(probe, net)
    assert sum(counts.values()) == again == sum(event.fields["segments"] for event in found)
    assert all(event.fields["remote_address"] == net.address("server") for event in found)


def test_a_lost_fin_is_of_the_closing_phase() -> None:
    with pair() as net, running(Retransmit, **NO_LIMIT) as probe:
        client, _accepted = net.connected()
        with net.dropping("server", "tcp flags & fin == fin"):
            client.close()
            time.sleep(1.2)
        time.sleep(1)  # once it comes through, nothing is sent again
        found = drained(probe, net)
        again = net.count("client", "Tcp.RetransSegs")
    assert len(found) == again >= 1
    assert {event.fields["phase"] for event in found} == {"close"}
    assert {event.fields["state"] for event in found} == {"fin_wait1"}


def undone(net: Pair, *more: str) -> int:
    """Recoveries that TCP undid, by its own counters."""
    names = ("TCPFullUndo", "TCPPartialUndo", "TCPLossUndo", *more)
    return sum(net.count("client", f"TcpExt.{name}") for name in names)


def needless(probe: Retransmit) -> int:
    return int(metric(probe, NEEDLESS).values.sum())


def need_undo(probe: Retransmit) -> None:
    need(not probe.notes, "this kernel does not tell of recoveries")


def test_a_timeout_because_of_a_late_answer_was_needless() -> None:
    """Answers wait behind other packets for longer than TCP's timeout: nothing is lost."""
    with pair() as net, running(Retransmit, **NO_LIMIT) as probe:
        need_undo(probe)
        client, accepted = net.connected()
        for _ in range(5):
            client.send(b"x")
            accepted.recv(1)
        net.tc("server", "tbf rate 100kbit burst 1600 limit 100000")
        filler = net.socket("server", socket.SOCK_DGRAM)
        for _ in range(7):
            filler.sendto(bytes(1400), (net.address("client"), 9))  # 0.8 seconds
        client.send(b"y")
        time.sleep(1.5)
        client.send(b"z")
        time.sleep(0.3)
        recoveries = needless(probe)
        assert recoveries == undone(net) >= 1
        found = drained(probe, net)
    events = [event for event in found if str(event.fields["kind"]).startswith("needless")]
    assert len(events) == recoveries
    assert events[0].fields["kind"] == "needless_timeout"
    assert "nothing had been lost" in events[0].title
    assert any(event.fields["kind"] in ("timeout", "tail_probe") for event in found)


def test_reordering_makes_needless_recoveries() -> None:
    with pair() as net, running(Retransmit, **NO_LIMIT) as probe:
        need_undo(probe)
        net.tc("client", "netem delay 10ms reorder 50% 50% limit 10000")
        client, accepted = net.connected()
        transfer(client, accepted, 4 << 20)
        time.sleep(0.5)
        # what the peer's DSACKs undo may be part of a recovery, or come after it
        assert undone(net) <= needless(probe) <= undone(net, "TCPDSACKUndo")
        found = drained(probe, net)
    assert max((e.fields["reordered"] for e in found), default=0) > 0 or undone(net) == 0


CONNECTING = """
import socket, sys
s = socket.socket()
s.settimeout(2.5)
try:
    s.connect((sys.argv[1], int(sys.argv[2])))
except OSError:
    pass
"""


def test_process_and_container_are_those_that_connected() -> None:
    with pair() as net, cgroup("retransmit") as group, running(Connection):
        with running(Retransmit, **NO_LIMIT) as probe:
            server = net.listen()
            with net.dropping("server", SYN):
                where = [net.address("server"), str(server.getsockname()[1])]
                argv = ["ip", "netns", "exec", net.names["client"], PYTHON, "-c", CONNECTING]
                assert group.run([*argv, *where]).returncode == 0
            found = drained(probe, net)
            owners: Any = metric(probe, SEGMENTS).labels["container"].values
        assert found
        need(found[0].process, "this kernel keeps no owners with sockets (before 5.11)")
        assert group.id in owners.tolist()
        for event in found:
            assert event.process and event.process.comm.startswith("python")
            assert event.container and event.container.cgroup == f"/{group.directory.name}"


def test_storm_adds_up() -> None:
    """Hundreds at once: all counted, few recorded, none unaccounted."""
    with pair() as net, running(Retransmit) as probe:
        server = net.listen()
        before = segments(probe)
        with net.dropping("server", SYN):
            clients = [net.socket("client") for _ in range(300)]
            for client in clients:
                client.setblocking(False)
                client.connect_ex(server.getsockname()[:2])
            time.sleep(2.3)
            for client in clients:
                client.close()
        sent = net.count("client", "TcpExt.TCPSynRetrans")
        assert sent >= 300
        assert (segments(probe) - before)["syn", "connect"] == sent
        delivered = len(drained(probe, net))
        account = probe.account()
    assert account.produced == account.delivered + account.suppressed["rate_limited"]
    assert account.suppressed["rate_limited"] > sent * 0.6
    assert 0 < delivered <= 100
