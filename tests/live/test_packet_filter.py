"""Filters of packets in the kernel: against libpcap's interpreter on made-up packets, and against
counters of nftables and TCP on real ones, in every probe that has packets."""

from __future__ import annotations

import ctypes.util
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from huatuo.enrich.enricher import Enricher
from huatuo.errors import ConfigError, KernelLacks
from huatuo.kernel import pcap
from huatuo.kernel.cbpf import LOOPS, translated
from huatuo.kernel.object import BpfObject
from huatuo.kernel.pcap import compiled
from huatuo.model.event import Event
from huatuo.probes.bpf import BpfProbe
from huatuo.probes.net.connection import Connection
from huatuo.probes.net.drop import Drop
from huatuo.probes.net.receive import Receive
from huatuo.probes.net.retransmit import Retransmit
from huatuo.probes.net.transmit import Transmit
from huatuo.probes.netdev.trap import Trap
from tests.live.conftest import HOST, emulated, need
from tests.live.network import Pair, ip, pair, within
from tests.live.packets import chosen_by_libpcap, expressions, packet
from tests.live.rawrun import run_raw
from tests.live.test_netdev_trap import DROP, driver, udp

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf", "need_libpcap")]

INJECT = Path(__file__).parent / "inject"
ROOM = 2048  # bytes of a packet in filter.bpf.c
COUNT = 32 if emulated() else 128
EXAMPLES = 25 if emulated() else 1000
NO_LIMIT = {"max_per_second": 1_000_000, "max_per_second_per_container": 1_000_000}
ODD = 0x88B5  # an EtherType for experiments, which nobody takes


@pytest.fixture(scope="session")
def need_libpcap() -> None:
    need(ctypes.util.find_library("pcap"), "libpcap is not installed")


class Filter:
    """An expression in the kernel, asked about packets of ours."""

    def __init__(self, opened: BpfObject) -> None:
        self._opened = opened

    def chosen(self, packets: list[tuple[bytes, int]]) -> list[bool]:
        """Which of these are wanted: what was captured, the length on the wire."""
        for number, (data, length) in enumerate(packets):
            value = struct.pack("<II", len(data), length) + data.ljust(ROOM, b"\0")
            self._opened.maps["packets"].update(number.to_bytes(4, "little"), value)
            run_raw(self._opened, "filtered", number)
        _, answers = self._opened.maps["answers"].read()
        return [bool(answer) for answer in answers["value"][: len(packets)]]

    def wants(self, data: bytes) -> bool:
        return self.chosen([(data, len(data))])[0]


@contextmanager
def filtering(expression: str) -> Iterator[Filter]:
    bodies = {"packet_filter": translated(compiled(expression))}
    opened = BpfObject(INJECT / "filter.bpf.o", {"has_packet_filter": 1}, bodies=bodies)
    opened.load()
    try:
        yield Filter(opened)
    finally:
        opened.close()


def made_up(rng: random.Random) -> list[tuple[bytes, int]]:
    """Some of them not captured whole."""
    whole = [packet(rng) for _ in range(COUNT)]
    cut = [data if rng.random() < 0.9 else data[: rng.randrange(len(data)) + 1] for data in whole]
    return [(part, len(data)) for part, data in zip(cut, whole, strict=True)]


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    phases=[Phase.generate],  # each try takes a load: making a failure smaller takes minutes
)
@given(expressions(), st.integers(0, 2**32))
def test_random_packets_are_chosen_as_by_libpcap(expression: str, seed: int) -> None:
    try:
        program = compiled(expression)
    except ConfigError:  # for example, it would reject everything
        return
    packets = made_up(random.Random(seed))
    with filtering(expression) as ours:
        assert ours.chosen(packets) == chosen_by_libpcap(program, packets)


WRITTEN = (
    "tcp and host 10.0.0.1 and not port 22",
    "tcp[13] & 2 != 0",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0 and not src and dst net 10.0.0.0/8",
    "ip6 and tcp dst portrange 1000-9000",
    "vlan 10 and udp port 53",
    "vlan and vlan 100",
    "len > 100 and less 200",
    "greater 90",
    "icmp[icmptype] = icmp-echo or icmp6[icmp6type] = icmp6-echo",
    "tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420",
    "ether multicast and not arp",
    "ip[6:2] & 0x1fff != 0",
    "ether[len - 1] & 1 = 1",
    "mpls",
)


@pytest.mark.parametrize("expression", WRITTEN)
def test_what_people_write(expression: str) -> None:
    """Over many packets, some of which are wanted and some not."""
    packets = [each for seed in range(2000 // COUNT) for each in made_up(random.Random(seed))]
    said = chosen_by_libpcap(compiled(expression), packets)
    with filtering(expression) as ours:
        found: list[bool] = []
        for first in range(0, len(packets), COUNT):
            found += ours.chosen(packets[first : first + COUNT])
    assert found == said
    assert emulated() or 0 < sum(said) < len(said)


def test_chains_of_headers() -> None:
    """As far as the verifier lets us follow them."""
    ends = bytes(12) + b"\x86\xdd" + struct.pack("!IHBB", 0x60000000, 400, 60, 64) + bytes(32)
    chains = [
        ends + b"".join(bytes([60 if left else 6, 0, *bytes(6)]) for left in range(size)[::-1])
        for size in range(1, 40)
    ]
    packets = [(each + bytes(20), len(each) + 20) for each in chains]
    said = chosen_by_libpcap(compiled("ip6 protochain 6"), packets)
    with filtering("ip6 protochain 6") as ours:
        found = ours.chosen(packets)
    assert all(said)
    assert found == [size < LOOPS for size in range(1, 40)]


def test_a_filter_of_three_hundred_hosts() -> None:
    """The verifier takes long ones."""
    hosts = [f"host 10.{n // 256}.{n % 256}.1" for n in range(300)]
    with filtering(" or ".join(hosts)) as ours:
        ip = bytes(12) + b"\x08\x00\x45" + bytes(11) + socket.inet_aton("10.1.43.1") + bytes(4)
        assert ours.wants(ip)
        assert not ours.wants(ip.replace(b"\x0a\x01\x2b\x01", b"\x0a\x01\x2c\x01"))


@pytest.mark.parametrize(
    ("expression", "message"),
    [("tcp port", "syntax error"), ("hots 10.0.0.1", "hots"), ("inbound", "inbound"),
     ("ip6 and arp", "rejects all packets"), ("a" * 70000, "longer than")],
)  # fmt: skip
def test_what_is_no_filter_is_told_in_one_line(expression: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        translated(compiled(expression))
    assert "\n" not in str(error.value)


def test_without_libpcap_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(pcap.c, "CDLL", absent)
    pcap._lib.cache_clear()
    try:
        with pytest.raises(KernelLacks, match=r"install libpcap0\.8"):
            compiled("tcp")
    finally:
        pcap._lib.cache_clear()


# real packets


@contextmanager
def watching(cls: type[BpfProbe], expression: str, **given: int) -> Iterator[BpfProbe]:
    """The probe, started with that filter."""
    if missing := cls.unavailable(HOST):
        pytest.skip(missing)
    known = {setting.name for setting in cls.settings_schema()}
    limits = {name: value for name, value in NO_LIMIT.items() if name in known}
    probe = cls(HOST, limits | given)
    probe.want_packets(expression)
    probe.start()
    try:
        yield probe
    finally:
        probe.stop()


def drained(probe: BpfProbe, seconds: float = 0.3) -> list[Event]:
    time.sleep(seconds)
    enricher = Enricher(HOST)
    return [event for batch in probe.drain() for event in enricher.events(batch, type(probe))]


def send_udp(net: Pair, family: int, port: int, count: int, size: int) -> None:
    address = {socket.AF_INET: "10.99.0.2", socket.AF_INET6: "fd99::2"}[family]
    with within(net.names["client"], lambda: socket.socket(family, socket.SOCK_DGRAM)) as sender:
        for _ in range(count):
            sender.sendto(bytes(size), (address, port))


V4, V6 = socket.AF_INET, socket.AF_INET6
SENT = {(V4, 5000): (11, 10), (V4, 5001): (7, 500), (V6, 5000): (5, 10)}  # packets, bytes


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("udp port 5000", [(V4, 5000), (V6, 5000)]),
        ("ip and udp dst port 5000", [(V4, 5000)]),
        ("ip6 host fd99::2 and udp", [(V6, 5000)]),
        ("udp dst portrange 5001-6000 and src net 10.99.0.0/24", [(V4, 5001)]),
        ("udp[4:2] = 18 and ip[8] <= 64", [(V4, 5000)]),
        ("udp and greater 500", [(V4, 5001)]),
        ("udp and not port 5000 and ip6", []),
    ],
)
def test_exactly_the_dropped_packets_that_are_wanted(
    expression: str, wanted: list[tuple[int, int]]
) -> None:
    """Of what nftables dropped and counted on its own."""
    with pair() as net, watching(Drop, expression) as probe, ExitStack() as stack:
        dropped = {}
        for (family, port), (count, size) in SENT.items():
            words = "ip" if family == V4 else "ip6"
            match = f"{words} daddr {'10.99.0.2' if family == V4 else 'fd99::2'} udp dport {port}"
            with net.dropping("server", match) as counter:
                send_udp(net, family, port, count, size)
                dropped[family, port] = counter()
        stack.close()
        found = drained(probe)
        account = probe.account()
    assert dropped == {key: count for key, (count, _) in SENT.items()}
    ports = Counter(
        (V4 if "ipv4" in e.fields["headers"] else V6, e.fields["headers"]["udp"]["dst_port"])
        for e in found
        if e.fields["headers"].get("udp", {}).get("dst_port") in (5000, 5001)
    )
    assert ports == {key: dropped[key] for key in wanted}
    assert account.produced == account.delivered == len(found)


def received_and_dropped(net: Pair) -> int:
    lines = net.run("server", "cat", "/proc/net/dev").splitlines()
    return int(next(line for line in lines if "vs:" in line).split()[4])


@contextmanager
def too_long(expression: str, tagged: bool) -> Iterator[tuple[Pair, BpfProbe]]:
    """What the client sends is dropped as too long for the server, still with its link header;
    10.98.0.2 is in VLAN 7 if it is `tagged`, by the kernel."""
    with pair() as net:
        client = net.names["client"]
        ip(client, "link set vc mtu 3000")
        if tagged:
            ip(client, "link add link vc name vc.7 type vlan id 7")
            ip(client, "link set vc.7 up mtu 3000")
            ip(client, "address add 10.98.0.1/24 dev vc.7")
            ip(client, "neigh add 10.98.0.2 lladdr 02:00:00:00:00:08 dev vc.7 nud permanent")
        with watching(Drop, expression) as probe:
            yield net, probe


def send_whole(net: Pair, address: str, size: int) -> None:
    sender = net.socket("client", socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER: in one piece or not at all
    for _ in range(5):
        sender.sendto(bytes(size), (address, 5000))


@pytest.mark.parametrize(
    ("expression", "sizes"),
    [
        ("vlan 7 and ether proto 0x88b5", {2018}),
        ("vlan 8", set()),
        ("ether proto 0x88b5", {2016}),
        ("ether src 02:00:00:00:00:07 and ether[15] = 9", {2016}),
        ("ip and not ether src 02:00:00:00:00:07 and len = 2042", {2042}),
        ("greater 2017", {2018, 2042}),
    ],
)
def test_link_headers(expression: str, sizes: set[int]) -> None:
    """Of frames that are sent as they are, and of what the kernel makes."""
    ends = bytes.fromhex("ffffffffffff020000000007")
    with too_long(expression, tagged=False) as (net, probe):
        before = received_and_dropped(net)
        send_whole(net, "10.99.0.2", 2000)
        raw = within(net.names["client"], lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
        with raw:
            raw.bind(("vc", 0))
            for _ in range(5):
                for frame in (struct.pack("!HHH", 0x8100, 7, ODD), struct.pack("!HBB", ODD, 0, 9)):
                    with suppress(OSError):  # the kernel says that it was dropped
                        raw.send((ends + frame).ljust(2012 + len(frame), b"\0"))
        assert received_and_dropped(net) - before == 15
        found = Counter(event.fields["length_bytes"] for event in drained(probe))
    assert {size: found[size] for size in (2016, 2018, 2042)} == {
        size: 5 * (size in sizes) for size in (2016, 2018, 2042)
    }


@pytest.mark.parametrize(
    ("expression", "count"),
    [
        ("vlan 7 and udp dst port 5000 and dst host 10.98.0.2", 5),
        ("vlan and ether dst 02:00:00:00:00:08 and len = 2046", 5),
        ("vlan 8", 0),
        ("udp dst port 5000 and dst host 10.98.0.2", 0),
    ],
)
def test_a_tag_is_where_it_was_on_the_wire(expression: str, count: int) -> None:
    """Though the kernel keeps it beside the packet."""
    with too_long(expression, tagged=True) as (net, probe):
        before = received_and_dropped(net)
        send_whole(net, "10.98.0.2", 2000)
        assert received_and_dropped(net) - before == 5
        found = [e for e in drained(probe) if e.fields["length_bytes"] == 2042]
    assert len(found) == count


@pytest.mark.parametrize("flags", ["", " and tcp[tcpflags] = tcp-syn", " and tcp[13] & 16 != 0"])
def test_segments_sent_again(flags: str) -> None:
    """Two connections whose SYN is lost, of which one is wanted; and no ACK is among them."""
    with pair() as net:
        servers = [net.listen(), net.listen()]
        ports = [server.getsockname()[1] for server in servers]
        expression = f"dst host 10.99.0.2 and tcp dst port {ports[0]}{flags}"
        with watching(Retransmit, expression) as probe, ExitStack() as stack:
            counters = [
                stack.enter_context(net.dropping("server", f"tcp dport {port}", hook))
                for port, hook in zip(ports, ("input", "prerouting"), strict=True)
            ]
            for server in servers:
                client = net.socket("client")
                client.setblocking(False)
                client.connect_ex(server.getsockname()[:2])
            time.sleep(3.4)
            lost = [counter() for counter in counters]
            found = drained(probe, 0)
    assert min(lost) >= 2
    assert len(found) == (0 if "& 16" in flags else lost[0] - 1)
    assert {event.fields["remote_port"] for event in found} <= {ports[0]}


@pytest.mark.parametrize(
    ("expression", "kinds"),
    [
        ("tcp dst port {0} and tcp[tcpflags] & tcp-syn != 0", {"connection_failures"}),
        ("tcp port {0}", {"connection_failures", "sent_resets"}),
        ("tcp src port {0} and tcp[tcpflags] & tcp-rst != 0", {"sent_resets"}),
    ],
)
def test_connections_that_fail(expression: str, kinds: set[str]) -> None:
    with pair() as net:
        for side in net.names:
            net.sysctl(side, "ipv4/tcp_syn_retries", 1)
        before = net.count("server", "Tcp.OutRsts")
        with watching(Connection, expression.format(81)) as probe:
            hidden = any("(socket)" in hook for hook in probe.hooks)  # no reset without a socket
            for port in (81, 82, 81):
                assert net.socket("client").connect_ex(("10.99.0.2", port)) != 0
            found = Counter(event.kind for event in drained(probe))
        assert net.count("server", "Tcp.OutRsts") - before == 3
    assert found == {kind: 2 for kind in kinds if not (hidden and kind == "sent_resets")}


def test_packets_that_wait_to_be_sent() -> None:
    with pair() as net:
        net.tc("client", "netem delay 80ms")
        with watching(Transmit, "udp dst port 5001", queue_threshold=40_000_000) as probe:
            send_udp(net, V4, 5000, 9, 10)
            send_udp(net, V4, 5001, 6, 10)
            found = drained(probe, 0.5)
    late = sum(event.fields["packets"] for event in found)
    assert {event.fields["remote_port"] for event in found} == {5001}
    assert late >= 1


def test_packets_that_are_read_late() -> None:
    """Of two connections that are read late, one is wanted."""
    with pair() as net:
        ends = [net.connected(), net.connected()]
        ports = [client.getsockname()[1] for client, _ in ends]
        always = {"window": 500_000_000, "every": 500_000_000}
        with watching(
            Receive, f"tcp src port {ports[1]}", user_threshold=200_000_000, **always
        ) as probe:
            for client, _ in ends:
                client.send(b"late")
            time.sleep(0.4)
            for _, accepted in ends:
                assert accepted.recv(10) == b"late"
            found = [e for e in drained(probe) if e.fields.get("stage") == "user"]
    assert [event.fields["remote_port"] for event in found] == [ports[1]]


@pytest.mark.parametrize("has_link_header", [True, False])
def test_packets_that_hardware_trapped(has_link_header: bool) -> None:
    with watching(Trap, "udp dst port 2000 and greater 70") as probe, driver(probe) as card:
        for size in (50, 5, 60):
            card.report("ttl_value_is_too_small", DROP, udp(size), has_link_header)
        lengths = [event.fields["length_bytes"] for event in drained(probe, 0)]
    assert lengths == [len(udp(50)), len(udp(60))]


def test_buffers_that_are_no_packets_are_not_wanted() -> None:
    """Of a unix socket that is closed with unread data, whatever the filter."""
    with watching(Drop, "greater 0") as probe:
        for _ in range(20):
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            one.send(b"unread")
            one.close()
            other.close()
        found = drained(probe)
    assert not [e for e in found if e.fields["family"] == "unix"]


def test_answers_are_rows_of_one_map() -> None:
    """The oracle is not fooled: it says no where it must."""
    data = bytes(12) + b"\x08\x06" + bytes(28)
    said = chosen_by_libpcap(compiled("arp"), [(data, len(data)), (bytes(60), 60)])
    assert said == [True, False]
    assert np.dtype(pcap.INSTRUCTION).itemsize == 8
