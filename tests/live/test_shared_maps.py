"""Maps that probes share: in whatever order these start and stop, the rest finds its own."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from huatuo.enrich.enricher import Enricher
from huatuo.errors import KernelLacks
from huatuo.model.event import Event
from huatuo.probes.base import Probe, discover
from tests.live.conftest import HOST, need
from tests.live.network import Pair, netns_inode, pair

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

SHARING = ("net.connection", "net.drop", "net.receive", "net.retransmit", "net.transmit")
ORDERS = (SHARING, SHARING[::-1], ("net.retransmit", "net.receive", "net.drop", "net.connection"))
DESCRIPTORS = Path("/proc/self/fd")
NO_LIMIT = {"max_per_second": 1_000_000, "max_per_second_per_container": 1_000_000}


def started(names: Sequence[str]) -> dict[str, Probe]:
    probes = {name: discover()[name](HOST, NO_LIMIT) for name in names}
    for name, probe in probes.items():
        try:
            probe.start()
        except KernelLacks as error:
            pytest.skip(f"{name}: {error}")
    return probes


def maps() -> Counter[str]:
    """Ids of the BPF maps that this process has open → by how many descriptors."""
    found: Counter[str] = Counter()
    for fd in DESCRIPTORS.iterdir():
        try:
            lines = Path("/proc/self/fdinfo", fd.name).read_text().splitlines()
        except OSError:
            continue  # the directory's own
        found.update(line.split()[1] for line in lines if line.startswith("map_id"))
    return found


def lost_syn(net: Pair, retransmit: Probe) -> Event:
    """The event of a SYN that is dropped on this host and sent again."""
    list(retransmit.drain())
    server = net.listen()
    with net.dropping("server", "tcp flags & (syn|ack) == syn"):
        client = net.socket("client")
        client.setblocking(False)
        client.connect_ex(server.getsockname()[:2])
        time.sleep(1.3)
        client.close()
    inode = netns_inode(net.names["client"])
    batches = list(retransmit.drain())
    found = [e for batch in batches for e in Enricher(HOST).events(batch, type(retransmit))]
    (event,) = [event for event in found if event.fields["netns"] == inode]
    return event


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_in_any_order(order: Sequence[str]) -> None:
    before = maps()
    probes = started(order)
    try:
        with pair() as net:
            event = lost_syn(net, probes["net.retransmit"])
            assert event.fields["same_segment"] == 1
            knows_owners = bool(event.process)
            for name in ("net.drop", "net.connection"):  # shed and taken back by the governor
                probes[name].stop()
                without = lost_syn(net, probes["net.retransmit"])
                assert ("same_segment" in without.fields) == (name != "net.drop")
                assert bool(without.process) == (name != "net.connection" and knows_owners)
                probes[name].start()
            again = lost_syn(net, probes["net.retransmit"])
            assert again.fields["same_segment"] == 1
            assert bool(again.process) == knows_owners
    finally:
        for probe in probes.values():
            probe.stop()
    assert maps() == before
    need(knows_owners, "this kernel keeps no owners with sockets (before 5.11)")


def test_many_starts_and_stops_leave_nothing() -> None:
    before, descriptors = maps(), len(list(DESCRIPTORS.iterdir()))
    for order in (*ORDERS, *ORDERS):
        probes = started(order)
        for probe in list(probes.values())[::2]:
            probe.stop()
            probe.start()
        for probe in probes.values():
            probe.stop()
            probe.stop()
    assert maps() == before
    assert len(list(DESCRIPTORS.iterdir())) <= descriptors  # an earlier test may close its own late


def test_a_probe_that_cannot_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = maps()
    drop = discover()["net.drop"](HOST)

    def refuse(_: object) -> None:
        raise KernelLacks("left out by the test")

    monkeypatch.setattr(drop, "prepare", refuse)
    with pytest.raises(KernelLacks):
        drop.start()
    drop.stop()
    assert maps() == before
