"""netdev.bonding against bonds whose slaves are cut off one by one, and /proc/net/bonding."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from huatuo.enrich.enricher import Enricher
from huatuo.kernel.host import Host
from huatuo.model.event import Event
from huatuo.probes.netdev.bonding import Bonding
from tests.live.conftest import HOST, metric, row, running
from tests.live.network import host_in, ip, namespace

pytestmark = pytest.mark.live

PREFIX = "huatuo_netdev_bonding_"
NO_LIMIT = {"max_per_second": 1_000_000}
SLAVES = ("s0", "s1")
PEERS = ("p0", "p1")
SECONDS = 60  # LACP takes three to find a partner or to miss it; emulation takes longer


def bond(name: str, device: str, slaves: tuple[str, ...], options: str) -> None:
    ip(name, f"link add {device} type bond miimon 50 {options}")
    for slave in slaves:
        ip(name, f"link set {slave} down")
        ip(name, f"link set {slave} master {device}")
    ip(name, f"link set {device} up")


@contextmanager
def ends() -> Iterator[tuple[str, str, Host]]:
    """Two namespaces joined by two links, s0 to p0 and s1 to p1, and the first as a host."""
    with namespace("near") as near, namespace("far") as far, host_in(near) as host:
        for slave, peer in zip(SLAVES, PEERS, strict=True):
            ip(near, f"link add {slave} type veth peer name {peer} netns {far}")
            ip(far, f"link set {peer} up")
        yield near, far, host


def drained(probe: Bonding) -> list[Event]:
    return [e for batch in probe.drain() for e in Enricher(HOST).events(batch, Bonding)]


def until(probe: Bonding, slave: str, change: str) -> list[Event]:
    """Events up to that one, with metrics collected meanwhile."""
    end, found = time.monotonic() + SECONDS, list[Event]()
    while time.monotonic() < end:
        list(probe.collect())
        found += drained(probe)
        if one(found, slave, change):
            return found
        time.sleep(0.02)
    raise AssertionError(f"no {change} of {slave} among {[e.title for e in found]}")


def one(found: list[Event], slave: str, change: str) -> list[Event]:
    return [e for e in found if (e.fields["slave"], e.fields["change"]) == (slave, change)]


def proc(host: Host, slave: str = "", device: str = "bond9") -> str:
    """What /proc/net/bonding says of the bond, or of one slave."""
    text = host.read(host.proc / "1/net/bonding" / device)
    parts = re.split(r"(?m)^(?=Slave Interface: )", text)
    return next(p for p in parts if p.startswith(f"Slave Interface: {slave}\n")) if slave else text


def says(text: str, label: str) -> list[str]:
    return re.findall(rf"(?m)^ *{label}: (.*)$", text)


def wait(condition: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def value(probe: Bonding, name: str, **labels: object) -> int:
    found = metric(probe, PREFIX + name)
    return int(found.values[row(found, **labels)].sum())


def test_failover() -> None:
    with ends() as (near, far, host):
        bond(near, "bond9", SLAVES, "mode active-backup primary s0")
        wait(lambda: says(proc(host), "Currently Active Slave") == ["s0"])
        wait(lambda: says(proc(host, "s1"), "MII Status") == ["up"])
        with running(Bonding, host, **NO_LIMIT) as probe:
            assert value(probe, "active", slave="s0") == value(probe, "link_up", slave="s1") == 1
            for times in (1, 2):
                ip(far, "link set p0 down")
                found = until(probe, "s1", "active")
                found += [] if one(found, "s0", "link_down") else until(probe, "s0", "link_down")
                assert says(proc(host), "Currently Active Slave") == ["s1"]
                assert says(proc(host, "s0"), "MII Status") == ["down"]
                assert says(proc(host, "s0"), "Link Failure Count") == [str(times)]
                assert value(probe, "link_failures_total", slave="s0") == times
                assert value(probe, "active_slaves", device="bond9") == 1
                (lost,) = one(found, "s0", "link_down")
                assert lost.fields["failures"] == times
                assert (lost.fields["bond"], lost.fields["mode"]) == ("bond9", "active_backup")
                ip(far, "link set p0 up")
                found = until(probe, "s0", "active")
                assert len(one(found, "s0", "link_up")) == len(one(found, "s1", "backup")) == 1
            assert value(probe, "changes_total", change="link_down") == 2
    assert lost.title.startswith("bond9: s0 lost its link; ")


def test_slaves_that_come_and_go() -> None:
    with ends() as (near, _, host), running(Bonding, host, **NO_LIMIT) as probe:
        ip(near, "link set s0 up")
        bond(near, "bond9", SLAVES, "mode active-backup")
        found = until(probe, "s1", "added")
        assert len(one(found, "s0", "added")) == 1
        assert value(probe, "slaves", device="bond9") == proc(host).count("Slave Interface") == 2
        ip(near, "link set s1 nomaster")
        (removed,) = one(until(probe, "s1", "removed"), "s1", "removed")
        assert removed.fields["bond"] == "bond9"
        assert value(probe, "slaves", device="bond9") == proc(host).count("Slave Interface") == 1


def states(host: Host, slave: str) -> list[int]:
    """LACP states of both ends."""
    return [int(word) for word in says(proc(host, slave), "port state")]


def together(host: Host) -> bool:
    """Whether LACP has both slaves in one aggregate that carries traffic."""
    return all(len(found := states(host, s)) == 2 and found[0] & 0x20 for s in SLAVES)


def test_a_slave_whose_other_end_stops_to_talk() -> None:
    """Its link stays up, but nobody sends LACP any more: it falls out of the aggregate."""
    with ends() as (near, far, host):
        for name, device, slaves in ((near, "bond9", SLAVES), (far, "bond8", PEERS)):
            bond(name, device, slaves, "mode 802.3ad lacp_rate fast")
        wait(lambda: together(host))
        with running(Bonding, host, **NO_LIMIT) as probe:
            assert value(probe, "aggregated", device="bond9") == 2
            ip(far, "link set p1 nomaster")
            ip(far, "link set p1 up")
            found = until(probe, "s1", "partner_lost")
            wait(lambda: not states(host, "s1")[0] & 0x20)
            found += drained(probe)
            left = one(found, "s1", "separated")
            last = max((e for e in found if e.fields["slave"] == "s1"), key=lambda e: e.time)
            mac = ip(far, "-br link show bond8").split()[2]
            assert value(probe, "active_slaves", device="bond9") == 1
            ip(far, "link set p1 down")
            ip(far, "link set p1 master bond8")
            wait(lambda: together(host))
            again = until(probe, "s1", "aggregated")
            assert value(probe, "active_slaves", device="bond9") == 2
    assert len(left) == 1
    assert not one(found, "s0", "separated")
    assert left[0].fields["mode"] == "802.3ad"
    assert left[0].fields["active_slaves"] == 1
    assert left[0].fields["partner"] == mac
    assert "distributing" not in last.fields["actor_state"]
    (back,) = one(again, "s1", "aggregated")
    assert "distributing" in back.fields["actor_state"]
    assert back.fields["active_slaves"] == 2
