"""netdev.link against links that go up and down so many times, /sys/class/net and `ethtool -i`."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import pytest

from huatuo.enrich.enricher import Enricher
from huatuo.kernel.host import Host
from huatuo.model.event import Event
from huatuo.probes.netdev.link import DeviceLink
from tests.live.conftest import HOST, metric, row, running
from tests.live.network import host_in, ip, namespace

pytestmark = pytest.mark.live

PREFIX = "huatuo_netdev_link_"
NO_LIMIT = {"max_per_second": 1_000_000}


@contextmanager
def veths() -> Iterator[tuple[str, Host]]:
    """A namespace with the ends `va` and `vb` of one link, both up, and the host that it makes."""
    with namespace("link") as name, host_in(name) as host:
        ip(name, "link add va type veth peer name vb")
        ip(name, "link set va up")
        ip(name, "link set vb up")
        yield name, host


def drained(probe: DeviceLink, device: str) -> list[Event]:
    found = [e for batch in probe.drain() for e in Enricher(HOST).events(batch, DeviceLink)]
    return [event for event in found if event.fields["interface"] == device]


def until(probe: DeviceLink, device: str, change: str) -> list[Event]:
    """Events about the device up to that change."""
    end, found = time.monotonic() + 10, list[Event]()
    while time.monotonic() < end:
        found += drained(probe, device)
        if any(event.fields["change"] == change for event in found):
            return found
        time.sleep(0.01)
    raise AssertionError(f"no {change} of {device} among {[e.title for e in found]}")


def sysfs(host: Host, device: str, file: str) -> int:
    return host.read_int(host.sys / "class/net" / device / file)


def value(probe: DeviceLink, name: str, **labels: object) -> int:
    found = metric(probe, PREFIX + name)
    return int(found.values[row(found, **labels)].sum())


def test_each_loss_of_the_link_is_told_once() -> None:
    times = 7
    with veths() as (name, host), running(DeviceLink, host, veth=1, **NO_LIMIT) as probe:
        before = sysfs(host, "va", "carrier_down_count")
        found = []
        for _ in range(times):
            ip(name, "link set vb down")
            found += until(probe, "va", "carrier_down")
            ip(name, "link set vb up")
            found += until(probe, "va", "carrier_up")
        losses = sysfs(host, "va", "carrier_down_count")
        assert losses - before == times
        assert value(probe, "carrier_losses_total", device="va") == losses
        assert value(probe, "changes_total", change="carrier_down") >= times
    changes = [str(event.fields["change"]) for event in found]
    assert changes == ["carrier_down", "carrier_up"] * times
    told = [e.fields["carrier_losses"] for e in found if e.fields["change"] == "carrier_down"]
    assert told == list(range(before + 1, losses + 1))
    assert found[0].title == "va (veth) lost its link"


def test_what_appears_is_switched_and_vanishes() -> None:
    """With driver, versions and bus as `ethtool -i` has them."""
    with (
        namespace("link") as name,
        host_in(name) as host,
        running(DeviceLink, host, **NO_LIMIT) as probe,
    ):
        ip(name, "link add br9 type bridge")
        ip(name, "link set br9 up")
        found = until(probe, "br9", "admin_up")
        shown = subprocess.run(
            ["ip", "netns", "exec", name, "ethtool", "-i", "br9"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        index = sysfs(host, "br9", "ifindex")
        ip(name, "link set br9 down")
        found += until(probe, "br9", "admin_down")
        ip(name, "link del br9")
        found += until(probe, "br9", "vanished")
    changes = [str(e.fields["change"]) for e in found if "carrier" not in str(e.fields["change"])]
    assert changes == ["appeared", "admin_up", "admin_down", "vanished"]
    assert {event.fields["kind"] for event in found} == {"bridge"}
    assert {event.fields["ifindex"] for event in found} == {index}
    says = dict(line.split(": ", 1) for line in shown.splitlines() if ": " in line)
    (switched,) = [e for e in found if e.fields["change"] == "admin_up"]
    for field, label in (
        ("driver", "driver"),
        ("driver_version", "version"),
        ("firmware", "firmware-version"),
        ("bus", "bus-info"),
    ):
        assert switched.fields[field] == says.get(label, "").strip()
    assert says["driver"] == "bridge"


def test_veth_devices_are_left_out_unless_wanted() -> None:
    with veths() as (name, host), running(DeviceLink, host, **NO_LIMIT) as probe:
        ip(name, "link set vb down")
        ip(name, "link add br9 type bridge")
        until(probe, "br9", "appeared")
        assert value(probe, "changes_total", change="carrier_down") == 0
        assert "va" not in metric(probe, PREFIX + "carrier_losses_total").labels["device"].values


def drops(host: Host, probe: DeviceLink) -> int:
    """Messages that the kernel could not give to the probe's socket."""
    assert probe._netlink is not None
    inode = (HOST.proc / "self/fd" / str(probe._netlink.fd)).stat().st_ino
    lines = [line.split() for line in host.read(host.proc / "1/net/netlink").splitlines()]
    (found,) = [line for line in lines if line[lines[0].index("Inode")] == str(inode)]
    return int(found[lines[0].index("Drops")])


def test_after_an_overrun_the_state_is_right() -> None:
    """More changes than the socket holds: what they led to is told all the same, once."""
    with veths() as (name, host), running(DeviceLink, host, veth=1, **NO_LIMIT) as probe:
        list(probe.drain())
        lines = [f"link set va mtu {1000 + number % 2}" for number in range(4000)]
        lines += ["link set va down"]
        batch = "\n".join(lines)
        argv = ["ip", "-n", name, "-batch", "-"]
        subprocess.run(argv, check=True, input=batch, text=True, timeout=100)
        assert drops(host, probe) > 0
        changes = Counter(str(event.fields["change"]) for event in drained(probe, "va"))
        ip(name, "link set va up")
        until(probe, "va", "admin_up")
    assert changes["admin_down"] == changes["carrier_down"] == 1
    assert set(changes) == {"admin_down", "carrier_down"}


def test_a_flapping_device_is_limited_and_adds_up() -> None:
    with veths() as (name, host), running(DeviceLink, host, veth=1, max_per_second=5) as probe:
        batch = "\n".join(["link set va down", "link set va up"] * 50)
        argv = ["ip", "-n", name, "-batch", "-"]
        began = time.monotonic()
        subprocess.run(argv, check=True, input=batch, text=True, timeout=60)
        until(probe, "va", "admin_up")
        took = time.monotonic() - began
        account, counted = probe.account(), metric(probe, PREFIX + "changes_total")
        all_changes: npt.NDArray[np.float64] = counted.values
    assert account.produced == account.delivered + account.suppressed["rate_limited"]
    assert account.produced == all_changes.sum() >= 100
    assert account.delivered <= 5 * (took + 1) + 2
