"""`huatuo trace` with its filters, `huatuo net` and `huatuo mem`, as a user calls them."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from huatuo.cli.wanted import Wanted
from huatuo.enrich.containers.inventory import Inventory
from huatuo.errors import UsageError
from huatuo.probes.base import discover
from huatuo.probes.memory.reclaim import Reclaim
from tests.live.conftest import HOST, Group, cgroup, need, running
from tests.live.disk import loop
from tests.live.memory import limit
from tests.live.network import pair
from tests.live.test_memory_reclaim import LIMIT, opened_loop, read_through

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

START_SECONDS = 120


@dataclass
class Command:
    """A running `huatuo …`; what it printed once it has ended."""

    process: subprocess.Popen[str]
    out: str = ""
    err: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)


@contextmanager
def command(*words: str, last: str = "") -> Iterator[Command]:
    """It has attached its probes in the block, gets Ctrl-C at its end, has printed all after."""
    last = last or {"drops": "net.drop", "retrans": "net.retransmit"}.get(
        words[1], "memory.reclaim"
    )
    argv = [sys.executable, "-m", "huatuo", *words, "--duration", "60s"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(argv, text=True, **pipes) as process:  # type: ignore[call-overload]
        found = Command(process)
        try:
            assert process.stderr
            while f"{last}: " not in found.err:
                line = process.stderr.readline()
                need("no hook works on this kernel" not in line, line)
                assert line, f"it ended: {found.err}"
                found.err += line
            yield found
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            found.out, rest = process.communicate(timeout=START_SECONDS)
            found.err += rest
        finally:
            process.kill()
    documents = [json.loads(line) for line in found.out.splitlines()] if "--json" in words else []
    found.events = [each for each in documents if "probe" in each]
    found.summary = next((each["summary"] for each in documents if "summary" in each), {})


def name_of(group: Group) -> str:
    """A cgroup that is nobody's is called by its path."""
    return f"/{group.directory.name}"


def reclaim_in(*groups: Group) -> None:
    """Every one of them reads more than its limit allows, so its programs reclaim."""
    with opened_loop() as disk:
        for group in groups:
            limit(group, LIMIT)
            read_through(group, disk)


def test_the_kernel_leaves_out_other_containers() -> None:
    """And what has come since it was told; user space need not look at them at all."""
    with cgroup("mine") as mine, cgroup("other") as other:
        probe = Reclaim(HOST, {"slow_threshold": 0, "max_per_second": 2000})
        Wanted(container=name_of(mine)).leave_out([probe], Inventory(HOST))
        probe.start()
        try:
            reclaim_in(other)
            account = probe.account()
            assert account.produced == account.suppressed["excluded"] > 0
            assert not list(probe.drain())
            reclaim_in(mine)
            found = {int(row["cgroup"]) for batch in probe.drain() for row in batch.rows}
            assert found == {mine.id}
            with cgroup("new") as new:
                reclaim_in(new)
                found = {int(row["cgroup"]) for batch in probe.drain() for row in batch.rows}
                assert found == {new.id}, "nobody has said whose it is"
                Wanted(container=name_of(mine)).leave_out([probe], Inventory(HOST))
                reclaim_in(new)
            assert not list(probe.drain())
            probe.exclude(set())
            reclaim_in(other)
            assert {int(r["cgroup"]) for batch in probe.drain() for r in batch.rows} == {other.id}
        finally:
            probe.stop()


def test_requests_of_other_containers_are_left_out_by_their_own_numbers() -> None:
    """On cgroup v1 those of another hierarchy than a task's."""
    with cgroup("mine", "blkio") as mine, cgroup("other", "blkio") as other, loop(16) as disk:
        probe = discover()["block.latency"](HOST, {"slow_threshold": 0, "max_per_second": 2000})
        Wanted(container=name_of(mine)).leave_out([probe], Inventory(HOST))
        probe.start()
        try:
            reads = ["dd", f"if={disk.path}", "of=/dev/null", "iflag=direct", "bs=1M", "count=4"]
            for group in (other, mine):
                done = group.run(reads)
                assert done.returncode == 0, done.stdout
            found = [
                int(row["cgroup"])
                for batch in probe.drain()
                for row in batch.rows
                if row["comm"] == b"dd"
            ]
            assert set(found) == {mine.id}
            assert len(found) >= 4
        finally:
            probe.stop()


def test_without_a_filter_nobody_is_left_out() -> None:
    with cgroup("any") as group, running(Reclaim, slow_threshold=0) as probe:
        assert probe.object
        assert probe.object.maps["listed_cgroups"].max_entries == 1
        reclaim_in(group)
        assert probe.account().produced > 0


def test_trace_shows_one_container_one_program() -> None:
    with cgroup("web") as web, cgroup("db") as db:
        words = ("trace", "memory.reclaim", "--set", "slow_threshold=1us", "--json")
        with command(*words, "--container", name_of(web), "--comm", "d?") as traced:
            reclaim_in(web, db)
    names = {event["container"]["name"] for event in traced.events}
    assert names == {name_of(web)}
    assert {event["process"]["comm"] for event in traced.events} == {"dd"}


def test_trace_shows_one_process_and_one_function() -> None:
    with cgroup("pid") as group:
        limit(group, LIMIT)
        with opened_loop() as disk:
            # waits for a line, then becomes dd under the same number
            argv = ["sh", "-c", 'read line; exec dd "if=$0" of=/dev/null bs=256k', str(disk.path)]
            sleeper = group.start(argv, stdin=True)
            words = ("trace", "memory.reclaim", "--set", "slow_threshold=1us", "--json")
            narrow = ("--pid", str(sleeper.pid), "--stack", "try_to_free_mem_cgroup_pages")
            with command(*words, *narrow) as traced, sleeper:
                sleeper.communicate("go\n")
                read_through(group, disk)
    assert {event["process"]["pid"] for event in traced.events} == {sleeper.pid}
    for event in traced.events:
        assert any(frame.startswith("try_to_free_mem_cgroup_pages") for frame in event["stack"])


@pytest.mark.parametrize(
    ("probe", "wanted", "why"),
    [
        ("memory.reclaim", Wanted(filter="tcp"), "sees no packets"),
        ("memory.oom", Wanted(device="sda"), "do not tell --device"),
        ("netdev.trap", Wanted(pid=1), "do not tell --pid"),
        ("net.listen", Wanted(stack="tcp"), "do not tell --stack"),
    ],
)
def test_what_a_probe_cannot_tell_is_refused(probe: str, wanted: Wanted, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        wanted.settings(discover()[probe], {})


def test_net_drops_shows_what_nftables_dropped() -> None:
    words = ("net", "drops", "--json", "--filter", "udp dst portrange 5000-5001 and not len = 142")
    with pair() as net, net.dropping("server", "udp dport 5000") as dropped:
        sender = net.socket("client", socket.SOCK_DGRAM)
        with command(*words) as drops:
            for size in (10, 100, 10):
                for _ in range(40):
                    sender.sendto(bytes(size), ("10.99.0.2", 5000))
            lost = dropped()
    assert lost == 120
    assert len(drops.events) == drops.summary["events"] == 80
    (row,) = drops.summary["rows"]
    assert row["events"] == 80
    assert row["bytes"] == sum(event["fields"]["length_bytes"] for event in drops.events)
    assert {event["fields"]["headers"]["udp"]["length"] for event in drops.events} == {18}


def test_net_retrans_counts_as_tcp_does() -> None:
    """With where this host dropped the segment, which net.drop beside it knows."""
    with pair() as net:
        server = net.listen()
        port = server.getsockname()[1]
        words = ("net", "retrans", "--json", "--filter", f"tcp dst port {port}")
        with net.dropping("server", f"tcp dport {port}") as dropped, command(*words) as retrans:
            client = net.socket("client")
            client.setblocking(False)
            client.connect_ex(server.getsockname()[:2])
            time.sleep(3.4)
            client.close()
            lost = dropped()
        again = net.count("client", "Tcp.RetransSegs")
    assert again == lost - 1 >= 2
    assert len(retrans.events) == retrans.summary["events"] == again
    (row,) = retrans.summary["rows"]
    assert (row["why"], row["segments"], row["to"]) == ("syn", again, f"10.99.0.2:{port}")
    assert all(event["fields"]["same_segment"] for event in retrans.events)


def test_net_latency_shows_late_reads_and_late_sends() -> None:
    with pair() as net:
        client, accepted = net.connected()
        port = client.getsockname()[1]
        words = ("net", "latency", "--json", "--threshold", "200ms", "--filter", f"port {port}")
        with command(*words, last="net.transmit") as latency:
            client.send(b"late")
            time.sleep(0.4)
            assert accepted.recv(10) == b"late"
    assert Counter(event["fields"]["stage"] for event in latency.events) == {"user": 1}
    (row,) = latency.summary["rows"]
    assert row["protocol"] == "tcp"
    assert 400e6 <= row["longest_ns"] == row["latency_ns"] < 5e9


def test_mem_reclaim_adds_up() -> None:
    with cgroup("mem") as group:
        words = ("mem", "reclaim", "--threshold", "1us", "--container", name_of(group))
        with command(*words, "--json") as reclaim:
            reclaim_in(group)
    assert reclaim.events
    rows = [row for row in reclaim.summary["rows"] if row["kind"] == "memcg"]
    fields = [e["fields"] for e in reclaim.events if e["fields"].get("kind") == "memcg"]
    assert sum(row["events"] for row in rows) == len(fields)
    assert sum(row["waited_ns"] for row in rows) == sum(each["duration_ns"] for each in fields)
    assert max(row["longest_ns"] for row in rows) == max(each["duration_ns"] for each in fields)
    assert all(row["container"] == name_of(group) for row in rows)


def test_lines_are_for_people() -> None:
    words = ("net", "drops", "--filter", "udp port 5000")
    with pair() as net, net.dropping("server", "udp dport 5000"), command(*words) as drops:
        net.socket("client", socket.SOCK_DGRAM).sendto(b"x", ("10.99.0.2", 5000))
    head, line, empty, total, _, totals, row = drops.out.splitlines()
    assert head.split() == ["TIME", "CONTAINER", "DEVICE", "REASON", "PLACE", "PACKET"]
    assert line.endswith("→ 10.99.0.2:5000")
    assert line.index("UDP") == head.index("PACKET"), "columns stand below their heads"
    assert empty == ""
    assert total.startswith("dropped packets: 1 in ")
    assert totals.split()[:2] == ["EVENTS", "BYTES"]
    assert row.split()[0] == "1"
