"""netdev.trap on reports as a driver makes them.

No driver of Debian's kernels traps packets without its hardware (netdevsim is not built), so the
loaded program is run with a packet, a device and a trap that lie in memory as this kernel lays
them out.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from huatuo.enrich.enricher import Enricher
from huatuo.kernel.object import BpfObject
from huatuo.model.event import Event
from huatuo.probes.netdev.trap import Trap
from tests.live.conftest import HOST, metric, row, running
from tests.live.rawrun import run_raw

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

LAYOUT = Path(__file__).parent / "inject/trap.bpf.o"
PACKETS = "huatuo_netdev_trap_packets_total"
DROP, EXCEPTION = 0, 1  # enum devlink_trap_type
NETNS = (HOST.proc / "self/ns/net").stat().st_ino
LOOPBACK = 1
NO_LIMIT = {"max_per_second": 1_000_000}


def udp(size: int) -> bytes:
    """An Ethernet frame with a datagram from 192.0.2.1:1000 to 192.0.2.2:2000, hop limit 1."""
    addresses = socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.2")
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 28 + size, 0, 0, 1, socket.IPPROTO_UDP, 0) + addresses
    return (
        bytes(12) + b"\x08\x00" + ip + struct.pack("!HHHH", 1000, 2000, 8 + size, 0) + bytes(size)
    )


class Driver:
    """Makes reports: `report` hands a packet to the probe's program."""

    def __init__(self, layout: BpfObject, probe: Trap) -> None:
        self._layout, self._probe = layout, probe

    def report(self, name: str, kind: int, packet: bytes, has_link_header: bool = True) -> None:
        memory = self._layout.maps["memory"]
        assert memory.value
        value = np.zeros(1, memory.value.dtype)
        wanted = value["wanted"]
        wanted["name"], wanted["group"] = name.encode(), b"l3_drops"
        wanted["packet"][0, : len(packet)] = np.frombuffer(packet, np.uint8)
        wanted["length"], wanted["type"] = len(packet), kind
        wanted["ifindex"], wanted["netns"] = LOOPBACK, NETNS
        wanted["has_link_header"] = has_link_header
        memory.update(bytes(4), value.tobytes())
        run_raw(self._layout, "lay_out")
        _, (found,) = self._layout.maps["arguments"].read()
        assert self._probe.object
        addresses = (int(found[name]) for name in ("devlink", "skb", "metadata"))
        run_raw(self._probe.object, "devlink_trap_report", *addresses)


@contextmanager
def driver(probe: Trap) -> Iterator[Driver]:
    layout = BpfObject(LAYOUT)
    layout.load()
    try:
        yield Driver(layout, probe)
    finally:
        layout.close()


def drained(probe: Trap) -> list[Event]:
    return [e for batch in probe.drain() for e in Enricher(HOST).events(batch, Trap)]


@pytest.mark.parametrize("has_link_header", [True, False])
def test_a_dropped_packet(has_link_header: bool) -> None:
    with running(Trap, **NO_LIMIT) as probe, driver(probe) as card:
        for _ in range(3):
            card.report("ttl_value_is_too_small", DROP, udp(50), has_link_header)
        found = drained(probe)
        counted = metric(probe, PACKETS)
        at = row(counted, trap="ttl_value_is_too_small", type="drop")
        assert counted.values[at].tolist() == [3]
    assert len(found) == 3
    fields = found[0].fields
    assert (fields["trap"], fields["group"]) == ("ttl_value_is_too_small", "l3_drops")
    assert (fields["type"], fields["protocol"]) == ("drop", "0x0800")
    assert fields["length_bytes"] == len(udp(50))
    assert (fields["interface"], fields["netns"]) == ("lo", NETNS)
    assert fields["headers"]["ipv4"]["src"] == "192.0.2.1"
    assert fields["headers"]["udp"] == {"src_port": 1000, "dst_port": 2000, "length": 58}
    assert "packet" not in fields, "what it carried stays in the probe"
    title = "UDP 192.0.2.1:1000 → 192.0.2.2:2000 dropped by lo: ttl_value_is_too_small"
    assert found[0].title == title


def test_an_exception_is_no_drop() -> None:
    with running(Trap, **NO_LIMIT) as probe, driver(probe) as card:
        card.report("mtu_value_is_too_small", EXCEPTION, udp(50))
        (event,) = drained(probe)
    assert event.fields["type"] == "exception"
    assert "handed over by lo" in event.title


@pytest.mark.parametrize("length", [0, 1, 13, 20, 41])
def test_packets_that_are_cut_off(length: int) -> None:
    with running(Trap, **NO_LIMIT) as probe, driver(probe) as card:
        card.report("blackhole_route", DROP, udp(50)[:length])
        (event,) = drained(probe)
    assert event.fields["length_bytes"] == length
    assert "udp" not in event.fields["headers"] or event.fields["headers"]["udp"].get("truncated")


def test_storm_adds_up() -> None:
    with running(Trap, max_per_second=10) as probe, driver(probe) as card:
        for _ in range(300):
            card.report("blackhole_route", DROP, udp(10))
        delivered, account = len(drained(probe)), probe.account()
        counted = metric(probe, PACKETS)
        assert counted.values[row(counted, trap="blackhole_route")].tolist() == [300]
    assert account.produced == 300 == account.delivered + account.suppressed["rate_limited"]
    assert delivered == account.delivered < 100
