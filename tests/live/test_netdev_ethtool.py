"""netdev.ethtool against packets that a driver drops, and `ethtool -S`."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from huatuo.kernel.host import Host
from huatuo.probes.netdev.ethtool import DriverStatistics
from tests.live.conftest import HOST, need, running
from tests.live.network import Pair, host_in, ip, pair
from tests.probes.tree import samples

pytestmark = pytest.mark.live

XDP_DROP = Path(__file__).parent / "inject/xdp_drop.bpf.o"


def now(host: Host, **settings: int) -> dict[tuple[object, ...], float]:
    with running(DriverStatistics, host, **settings) as probe:
        found = samples(probe)
        assert probe.collect_errors == 0
    return found.get("statistics_total", {})


def ethtool(device: str, *before: str) -> dict[str, int]:
    need(shutil.which("ethtool"), "ethtool is not installed")
    shown = subprocess.run(
        [*before, "ethtool", "-S", device], check=True, capture_output=True, text=True
    ).stdout
    return {name.strip(): int(value) for name, value in re.findall(r"(?m)^(.+): (\d+)$", shown)}


@contextmanager
def as_hardware(net: Pair, directory: Path, *devices: str) -> Iterator[Host]:
    """The client's side, where these virtual devices look as if they were hardware."""
    for device in devices:
        (directory / "class/net" / device / "device").mkdir(parents=True)
    with host_in(net.names["client"]) as host:
        yield replace(host, sys=directory)


def drop_all(net: Pair) -> None:
    """An XDP program drops what the client's device receives; skips where it cannot."""
    argv = ["ip", "-n", net.names["client"], "link", "set", "vc", "xdpdrv", "obj", str(XDP_DROP)]
    done = subprocess.run([*argv, "sec", "xdp"], capture_output=True, text=True)
    need(done.returncode == 0, f"no XDP on veth here: {done.stderr.strip()}")


def test_packets_that_the_driver_dropped(tmp_path: Path) -> None:
    with pair() as net, as_hardware(net, tmp_path, "vc") as host:
        net.without_ipv6()
        drop_all(net)
        before = now(host).get(("vc", "rx_xdp_drops"), 0)
        with net.socket("server", socket.SOCK_DGRAM) as sender:
            for _ in range(50):
                sender.sendto(b"x", (net.address("client"), 9))
        time.sleep(0.3)
        found = now(host)
        shown = ethtool("vc", "ip", "netns", "exec", net.names["client"])
    dropped = {name: value for name, value in found.items() if "drop" in str(name[1])}
    ((key, value),) = dropped.items()
    assert key[0] == "vc"
    assert value == sum(
        v for name, v in shown.items() if re.fullmatch(r"rx_queue_\d+_\w*drops", name)
    )
    assert value - before == 50


def test_what_the_driver_says_at_all(tmp_path: Path) -> None:
    """Everything, numbers of queues left out, is what the tool prints; limits hold."""
    with pair() as net, as_hardware(net, tmp_path, "vc") as host:
        found = now(host, all=1)
        shown = ethtool("vc", "ip", "netns", "exec", net.names["client"])
        peer = int(ip(net.names["server"], "-o link show vs").split(":")[0])
        nothing = now(host, all=1, max_devices=0)
        limited = now(host, all=1, max_statistics=1)
    assert found["vc", "peer_ifindex"] == shown["peer_ifindex"] == peer
    assert nothing == {}
    assert len(limited) == 1


def test_hardware_of_this_machine() -> None:
    """Counters only grow: what the probe says lies between what the tool says before and after."""
    if missing := DriverStatistics.unavailable(HOST):
        pytest.skip(missing)
    devices = [d.parent.name for d in (HOST.sys / "class/net").glob("*/device")]
    before = {device: ethtool(device) for device in devices}
    found = now(HOST, all=1)
    after = {device: ethtool(device) for device in devices}
    compared = 0
    for (device, name), value in found.items():
        low, high = (each[str(device)].get(str(name)) for each in (before, after))
        if low is not None and high is not None:
            assert low <= value <= high, (device, name)
            compared += 1
    assert compared or not any(any(each.values()) for each in after.values())
