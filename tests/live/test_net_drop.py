"""net.drop against drops of known number, the kernel's SNMP counters and packet filter counters."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.enricher import Enricher
from huatuo.kernel.cgroupfs import identity_is_v1
from huatuo.kernel.object import BpfObject
from huatuo.kernel.vmlinux import kernel_enum
from huatuo.model.event import Event
from huatuo.probes.net.drop import Drop
from tests.live.conftest import HOST, cgroup, metric, need, row, running
from tests.live.network import PYTHON, in_namespace, namespace, netns_inode, nft

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

PACKETS = "huatuo_net_drop_packets_total"
NO_LIMIT = {"max_per_second": 1_000_000, "max_per_second_per_container": 1_000_000}
ANY_REASON = not kernel_enum("skb_drop_reason")  # before 5.17


def counted(probe: Drop, reason: str, **labels: object) -> int:
    """Drops so far, of all containers and namespaces unless labels say otherwise."""
    found = metric(probe, PACKETS)
    return int(
        found.values[row(found, reason="not_given" if ANY_REASON else reason, **labels)].sum()
    )


def drained(probe: Drop, seconds: float = 0.3) -> list[Event]:
    enricher = Enricher(HOST)
    time.sleep(seconds)
    return [event for batch in probe.drain() for event in enricher.events(batch, Drop)]


def to_port(found: list[Event], port: int) -> list[dict[str, Any]]:
    """Headers of the events about packets to that port."""
    headers = [event.fields["headers"] for event in found]
    return [
        layers
        for layers in headers
        if any(layers.get(name, {}).get("dst_port") == port for name in ("tcp", "udp"))
    ]


def closed_port(kind: int, family: int = socket.AF_INET) -> int:
    with socket.socket(family, kind) as probe:
        probe.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        return int(probe.getsockname()[1])


def send(count: int, port: int, address: str = "127.0.0.1", size: int = 1) -> int:
    """Datagrams from one socket that nobody answers; its port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        for _ in range(count):
            sender.sendto(b"x" * size, (address, port))
        return int(sender.getsockname()[1])


def snmp(name: str) -> int:
    """A counter of /proc/net/snmp, such as Udp.RcvbufErrors."""
    protocol, _, field = name.partition(".")
    lines = Path("/proc/net/snmp").read_text().splitlines()
    names, values = [line.split() for line in lines if line.startswith(f"{protocol}:")]
    return int(values[names.index(field)])


SENDING = """
import socket
s = socket.socket(socket.{family}, socket.SOCK_DGRAM)
for _ in range({count}):
    try:
        s.sendto(b"hello", ("{address}", {port}))
    except OSError:
        pass
"""


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_udp_to_a_closed_port_counts_each_packet(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    port = closed_port(socket.SOCK_DGRAM, family)
    with running(Drop, **NO_LIMIT) as probe:
        before = counted(probe, "no_socket")
        source = send(50, port, address, size=11)
        found = drained(probe)
        layers = to_port(found, port)
        assert len(layers) == 50
        if not ANY_REASON:
            assert counted(probe, "no_socket") - before == 50
        for each in layers:
            ip = each["ipv6" if ":" in address else "ipv4"]
            assert each["udp"] == {"src_port": source, "dst_port": port, "length": 19}
            assert (ip["src"], ip["dst"], ip["protocol"]) == (address, address, "udp")


def test_event_says_reason_place_device_and_stack() -> None:
    port = closed_port(socket.SOCK_DGRAM)
    with running(Drop, **NO_LIMIT) as probe:
        send(1, port)
        (event,) = [e for e in drained(probe) if to_port([e], port)]
    udp = event.fields["headers"]["udp"]
    reason = "not_given" if ANY_REASON else "no_socket"
    assert event.title.startswith(
        f"UDP 127.0.0.1:{udp['src_port']} → 127.0.0.1:{port} dropped: {reason} at "
    )
    assert event.fields["reason"] == reason
    assert event.fields["interface"] == "lo"
    assert event.fields["netns"] == Path("/proc/self/ns/net").stat().st_ino
    assert event.fields["protocol"] == "0x0800"
    assert "udp" in event.fields["location"]
    assert event.stack[0] == event.fields["location"]
    assert any("udp_sendmsg" in frame for frame in event.stack)


@pytest.mark.parametrize("form", ["reason", "location"])
def test_forms_of_older_kernels_count_the_same(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    load = BpfObject.load

    def load_one(opened: BpfObject) -> None:
        for other in {"receiver", "reason", "location"} - {form}:
            opened._missing[f"drop__{other}"] = "left out by the test"
        load(opened)

    monkeypatch.setattr(BpfObject, "load", load_one)
    port = closed_port(socket.SOCK_DGRAM)
    with running(Drop, **NO_LIMIT) as probe:
        send(20, port)
        found = [e for e in drained(probe) if to_port([e], port)]
        assert len(found) == 20
        assert int(metric(probe, PACKETS).values.sum()) >= probe.account().produced >= 20
    assert {e.fields["interface"] for e in found} == {"lo"}
    if form == "location":
        assert {e.fields["reason"] for e in found} <= {"not_given", "0", "not_dropped_yet"}


def test_tcp_to_a_closed_port() -> None:
    port = closed_port(socket.SOCK_STREAM)
    with running(Drop, **NO_LIMIT) as probe:
        for _ in range(5):
            with socket.socket() as client:
                assert client.connect_ex(("127.0.0.1", port)) != 0
        found = [each for each in to_port(drained(probe), port) if "tcp" in each]
    assert len(found) == 5
    assert all(each["tcp"]["flags"] == ["SYN"] and each["tcp"]["ack"] == 0 for each in found)


def test_full_socket_buffer_agrees_with_the_kernels_counter() -> None:
    need(not ANY_REASON, "this kernel gives no reasons, and UDP errors are not the only drops")
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        running(Drop, **NO_LIMIT) as probe,
    ):
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        receiver.bind(("127.0.0.1", 0))
        port = receiver.getsockname()[1]
        errors, before = snmp("Udp.RcvbufErrors"), counted(probe, "socket_rcvbuff")
        send(200, port)
        lost = snmp("Udp.RcvbufErrors") - errors
        assert 100 < lost <= 200
        assert counted(probe, "socket_rcvbuff") - before == lost
        found = [e for e in drained(probe) if to_port([e], port)]
        assert len(found) == lost
        assert {e.fields["reason"] for e in found} == {"socket_rcvbuff"}
        assert {e.fields["interface"] for e in found} <= {"lo", ""}  # 6.1 may lose both
        inode = Path(f"/proc/self/fd/{receiver.fileno()}").stat().st_ino
        for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
            if line.split()[9] == str(inode):
                assert int(line.split()[-1]) == lost


@pytest.mark.parametrize(
    ("family", "address", "network"),
    [("AF_INET", "127.0.0.1", "ipv4"), ("AF_INET6", "::1", "ipv6")],
)
def test_packet_filter_agrees_with_its_counter(family: str, address: str, network: str) -> None:
    with namespace("nft") as name, running(Drop, **NO_LIMIT) as probe:
        chain = "{ type filter hook input priority 0 ; }"
        nft(name, "add", "table", "inet", "t")
        nft(name, "add", "chain", "inet", "t", "c", chain)
        nft(name, "add", "rule", "inet", "t", "c", "udp", "dport", "5000", "counter", "drop")
        in_namespace(name, SENDING.format(family=family, address=address, count=37, port=5000))
        rules = json.loads(nft(name, "-j", "list", "chain", "inet", "t", "c"))["nftables"]
        (rule,) = [each["rule"] for each in rules if "rule" in each]
        (packets,) = [e["counter"]["packets"] for e in rule["expr"] if "counter" in e]
        assert packets == 37
        found = [e for e in drained(probe) if to_port([e], 5000)]
        assert len(found) == 37
        assert {e.fields["netns"] for e in found} == {netns_inode(name)}
        assert {e.fields["headers"][network]["dst"] for e in found} == {address}
        if not ANY_REASON:
            assert counted(probe, "netfilter_drop") == 37
            assert {e.fields["reason"] for e in found} == {"netfilter_drop"}


def test_drop_on_sending_is_the_senders() -> None:
    """In the sender's context the packet still has its socket, and that its cgroup."""
    need(not identity_is_v1(HOST), "cgroup v1: sockets have no container")
    with namespace("out") as name, cgroup("drop") as group, running(Drop, **NO_LIMIT) as probe:
        chain = "{ type filter hook output priority 0 ; }"
        nft(name, "add", "table", "inet", "t")
        nft(name, "add", "chain", "inet", "t", "c", chain)
        nft(name, "add", "rule", "inet", "t", "c", "udp", "dport", "5001", "counter", "drop")
        program = SENDING.format(family="AF_INET", address="127.0.0.1", count=10, port=5001)
        done = group.run(
            ["ip", "netns", "exec", name, shutil.which("python3") or "", "-c", program]
        )
        assert done.returncode == 0, done.stdout
        found = [e for e in drained(probe) if to_port([e], 5001)]
        assert len(found) == 10
        assert all(e.container and group.directory.name in e.container.cgroup for e in found)
        if not ANY_REASON:
            assert counted(probe, "netfilter_drop", container=group.id) == 10


def test_without_a_socket_the_namespace_tells_the_container() -> None:
    sending = SENDING.format(family="AF_INET", address="127.0.0.1", count=7, port=5002)
    program = f"print(1, flush=True); input()\n{sending}\nprint(2, flush=True); input()"
    with namespace("own") as name, cgroup("own") as group, running(Drop, **NO_LIMIT) as probe:
        inventory = Inventory(HOST)
        enricher = Enricher(HOST, inventory)
        join = f"echo $$ > {group.directory}/cgroup.procs && exec ip netns exec {name} "
        argv = ["sh", "-c", join + '"$0" -c "$1"', PYTHON, program]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(argv, text=True, **pipes) as sender:
            assert sender.stdin and sender.stdout
            assert sender.stdout.readline() == "1\n"
            inventory.refresh()
            print(file=sender.stdin, flush=True)
            assert sender.stdout.readline() == "2\n"
            found = [e for batch in probe.drain() for e in enricher.events(batch, Drop)]
            (joined,) = [m for m in enricher.metrics(probe.collect()) if m.name == PACKETS]
            sender.kill()
        found = [e for e in found if to_port([e], 5002)]
        assert len(found) == 7
        owner = f"/{group.directory.name}"
        assert all(e.container and e.container.cgroup == owner for e in found)
        reason = "not_given" if ANY_REASON else "no_socket"  # its other sockets have drops too
        total = joined.values[row(joined, container=owner, reason=reason)].sum()
        assert total >= 7 if ANY_REASON else total == 7


def test_full_socket_belongs_to_the_receiver() -> None:
    need(not identity_is_v1(HOST), "cgroup v1: sockets have no container")
    program = """
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
time.sleep(60)
"""
    with cgroup("recv") as group, running(Drop, **NO_LIMIT) as probe:
        need(any("receiver" in hook for hook in probe.hooks), "this kernel does not tell receivers")
        with group.start([PYTHON, "-c", program]) as receiver:
            assert receiver.stdout
            errors = snmp("Udp.RcvbufErrors")
            send(100, int(receiver.stdout.readline()))
            lost = snmp("Udp.RcvbufErrors") - errors
            assert counted(probe, "socket_rcvbuff", container=group.id) == lost > 0
            receiver.kill()


def adds_up(probe: Drop) -> bool:
    list(probe.drain())
    account = probe.account()
    known = account.delivered + sum(account.suppressed.values()) + sum(account.lost.values())
    return account.produced == known


def test_storm_adds_up() -> None:
    """Far above the limits: produced = delivered + suppressed + lost, and equal to the counter."""
    storm = 200_000
    port = closed_port(socket.SOCK_DGRAM)
    with running(Drop) as probe:
        send(storm, port)
        delivered = len(drained(probe, 0.5))
        before = counted(probe, "no_socket")
        account = probe.account()
        after = int(metric(probe, PACKETS).values.sum())  # with what others drop meanwhile
        assert account.produced <= after
        if not ANY_REASON:
            assert storm <= before <= account.produced
        assert any(adds_up(probe) for _ in range(50))  # with nothing under way in the ring
        account = probe.account()
    assert 0 < delivered <= 1000
    assert account.suppressed["rate_limited"] > storm * 0.9


def test_a_storm_that_lasts_is_told_less_and_less_often() -> None:
    """The rate is halved each half second here, down to a sixteenth, and comes back afterwards."""
    port = closed_port(socket.SOCK_DGRAM)
    rate = 160
    limits = {"max_per_second": rate, "max_per_second_per_container": rate}
    with running(Drop, back_off_after=500_000_000, **limits) as probe:
        told: list[int] = []
        for _ in range(5):
            until = time.monotonic() + 1
            before = probe.account().suppressed["rate_limited"]
            while time.monotonic() < until:
                send(200, port)
            seen = probe.account()
            assert seen.suppressed["rate_limited"] > before, "it is no storm"
            told.append(sum(len(batch) for batch in probe.drain()))
        assert told[0] > rate, "at first as much as the bucket and a second's rate"
        assert told[-1] < rate / 4, told
        time.sleep(4)  # four levels of half a second each, and as long before the first
        send(1, port)
        assert drained(probe)
        assert adds_up(probe)
