"""netdev.qdisc against packets of known number and size, and `tc -s qdisc`."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from huatuo.kernel.host import Host
from huatuo.probes.netdev.qdisc import QdiscCounters
from tests.live.conftest import running
from tests.live.network import DEVICES, Pair, host_in, ip, namespace, pair
from tests.probes.tree import samples

pytestmark = pytest.mark.live

SIZE = 1000
FRAME = SIZE + 8 + 20 + 14  # with the headers of UDP, IP and Ethernet
SAME = {  # what `tc` calls it → family
    "bytes": "sent_bytes_total",
    "packets": "sent_packets_total",
    "drops": "dropped_packets_total",
    "requeues": "requeued_packets_total",
    "overlimits": "overlimits_total",
    "qlen": "queued_packets",
    "backlog": "queued_bytes",
}


@contextmanager
def client() -> Iterator[tuple[Pair, Host]]:
    with pair() as net, host_in(net.names["client"]) as host:
        net.without_ipv6()
        yield net, host


def now(host: Host, **settings: int) -> dict[str, dict[tuple[object, ...], float]]:
    with running(QdiscCounters, host, **settings) as probe:
        found = samples(probe)
        assert probe.collect_errors == 0
    return found


def tc(net: Pair) -> list[dict[str, Any]]:
    shown = net.run("client", "tc", "-s", "-j", "qdisc", "show", "dev", DEVICES["client"])
    return list(json.loads(shown))


def send(net: Pair, count: int, ports: int = 1) -> None:
    with net.socket("client", socket.SOCK_DGRAM) as sender:
        for number in range(count):
            sender.sendto(bytes(SIZE), (net.address("server"), 10_000 + number % ports))


def test_packets_that_a_bucket_let_pass_held_and_dropped() -> None:
    """The queue holds ten, and none leaves while we look: a packet takes ten seconds."""
    with client() as (net, host):
        net.tc("client", f"tbf rate 800bit burst 2000 limit {FRAME * 10}")
        send(net, 60)
        found = now(host)
        (shown,) = tc(net)
        key = (DEVICES["client"], "tbf", "root")
        assert {name: found[family][key] for name, family in SAME.items()} == {
            name: shown[name] for name in SAME
        }
    sent, queued = (int(found[name][key]) for name in ("sent_packets_total", "queued_packets"))
    dropped = int(found["dropped_packets_total"][key])
    assert queued == 10
    assert 1 <= sent <= 3
    assert sent + queued + dropped == 60
    assert found["sent_bytes_total"][key] == sent * FRAME
    assert found["queued_bytes"][key] == queued * FRAME


def test_loss_of_netem_is_dropped_packets() -> None:
    with client() as (net, host):
        net.tc("client", "netem loss 100%")
        send(net, 40)
        found = now(host)
        (shown,) = tc(net)
    key = (DEVICES["client"], "netem", "root")
    assert found["dropped_packets_total"][key] == shown["drops"] == 40
    assert found["sent_packets_total"][key] == shown["packets"] == 0


def test_children_of_one_kind_are_added_up() -> None:
    with namespace("queues") as name, host_in(name) as host:
        ip(name, "link add vc numtxqueues 4 numrxqueues 4 type veth peer name vs numrxqueues 4")
        net = Pair({"client": name, "server": name})
        net.without_ipv6()
        ip(name, "link set vs up")
        ip(name, "link set vc up")
        net.tc("client", "mq")
        ip(name, "address add 10.99.0.1/24 dev vc")
        ip(name, "neighbour add 10.99.0.2 lladdr 02:00:00:00:00:02 dev vc")
        before = now(host)
        send(net, 400, ports=100)
        found, shown = now(host), tc(net)
    kinds = Counter(each["kind"] for each in shown if "root" not in each)
    ((kind, number),) = kinds.items()
    assert number == 4
    assert sum(each["packets"] > 0 for each in shown if each["kind"] == kind) > 1
    for name in ("packets", "bytes"):
        sums = sum(each[name] for each in shown if each["kind"] == kind)
        assert found[SAME[name]]["vc", kind, "child"] == sums
    key = ("vc", kind, "child")
    assert found["sent_packets_total"][key] - before["sent_packets_total"][key] == 400


def test_idle_devices_are_left_out_first() -> None:
    with client() as (net, host):
        net.tc("client", "tbf rate 1gbit burst 100000 limit 100000")
        ip(net.names["client"], "link add v2 type veth peer name v3")
        argv = "tc qdisc replace dev v2 root tbf rate 1gbit burst 100000 limit 100000"
        net.run("client", *argv.split())
        send(net, 10)
        both, one = now(host), now(host, max_devices=1)
    assert {key[0] for key in both["sent_packets_total"]} == {DEVICES["client"], "v2"}
    assert {key[0] for key in one["sent_packets_total"]} == {DEVICES["client"]}
