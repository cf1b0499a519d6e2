"""netdev.watchdog against a serial line whose other end takes nothing, and /sys/class/net."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from huatuo.enrich.enricher import Enricher
from huatuo.probes.netdev.watchdog import Watchdog
from tests.live.conftest import HOST, metric, need, row, running
from tests.live.network import host_in, ip, namespace, netns_inode, within

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

TIMEOUTS = "huatuo_netdev_watchdog_timeouts_total"
_TIOCSETD, _N_SLIP, _SIOCGIFNAME = 0x5423, 1, 0x8910
LIMIT_SECONDS = 20  # what the driver of such lines promises (drivers/net/slip/slip.c)


@contextmanager
def serial_line() -> Iterator[str]:
    """A network device on a pseudo terminal that nobody reads: it sends one packet, then stops."""
    if shutil.which("modprobe"):
        subprocess.run(["modprobe", "-q", "slip"], check=False)
    reader, line = os.openpty()
    try:
        tty.setraw(line)
        try:
            fcntl.ioctl(line, _TIOCSETD, struct.pack("i", _N_SLIP))
        except OSError as error:
            pytest.skip(f"no SLIP on this kernel: {error.strerror}")
        found = fcntl.ioctl(line, _SIOCGIFNAME, bytes(40))
        yield found.split(b"\0", 1)[0].decode()
    finally:
        os.close(line)
        os.close(reader)


def test_a_queue_that_stands_still() -> None:
    with (
        namespace("slip") as name,
        host_in(name) as host,
        serial_line() as device,
        running(Watchdog) as probe,
    ):
        subprocess.run(["ip", "link", "set", device, "netns", name], check=True)
        ip(name, f"address add 10.98.0.1 peer 10.98.0.2 dev {device}")
        ip(name, f"link set {device} up")
        queue = host.sys / "class/net" / device / "queues/tx-0/tx_timeout"
        need(queue.exists(), "this kernel counts no timeouts of transmit queues")
        with within(name, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
            began = time.monotonic()
            for _ in range(3):
                sender.sendto(b"x", ("10.98.0.2", 9))
            end = began + 3 * LIMIT_SECONDS
            while host.read_int(queue) == 0 and time.monotonic() < end:
                time.sleep(0.2)
            took = time.monotonic() - began
        found = [e for b in probe.drain() for e in Enricher(HOST).events(b, Watchdog)]
        events = [e for e in found if e.fields["interface"] == device]
        counted, timeouts = metric(probe, TIMEOUTS), host.read_int(queue)
        inode = netns_inode(name)
    assert took >= LIMIT_SECONDS
    assert len(events) == timeouts == 1
    assert counted.values[row(counted, device=device)].tolist() == [1]
    (event,) = events
    assert event.fields["limit_ns"] == LIMIT_SECONDS * 10**9
    assert (event.fields["queue"], event.fields["queues"]) == (0, 1)
    assert event.fields["netns"] == inode
    assert event.fields["driver"] == ""
    assert event.title == f"{device}: transmit queue 0 stood still for more than 20 s"


def test_nothing_is_told_while_queues_move() -> None:
    with running(Watchdog) as probe:
        assert list(probe.drain()) == []
        assert probe.account().produced == 0
