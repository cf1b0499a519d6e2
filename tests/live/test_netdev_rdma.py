"""netdev.rdma on a soft RDMA device, beside what `rdma statistic` says of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from huatuo.probes.netdev.rdma import Rdma
from tests.live.conftest import HOST, need, running
from tests.live.network import DEVICES, Pair, pair
from tests.probes.tree import samples

pytestmark = pytest.mark.live

Samples = dict[str, dict[tuple[object, ...], float]]


@contextmanager
def soft_device(net: Pair, kind: str, device: str) -> Iterator[None]:
    """RDMA in software over the client's network device; skips where the kernel lacks it."""
    need(shutil.which("rdma"), "rdma (iproute2) is not installed")
    if shutil.which("modprobe"):
        module = {"rxe": "rdma_rxe"}.get(kind, kind)
        subprocess.run(["modprobe", "-q", module], check=False)
    inside = ["ip", "netns", "exec", net.names["client"], "rdma", "link"]
    argv = [*inside, "add", device, "type", kind, "netdev", DEVICES["client"]]
    done = subprocess.run(argv, capture_output=True, text=True)
    need(done.returncode == 0, f"no {kind} on this kernel: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run([*inside, "delete", device], check=True)


def now() -> Samples:
    with running(Rdma) as probe:
        found = samples(probe)
        assert probe.collect_errors == 0
    return found


def rdma(*argv: str) -> list[dict[str, Any]]:
    shown = subprocess.run(["rdma", "-j", *argv], check=True, capture_output=True, text=True)
    return list(json.loads(shown.stdout))


@pytest.mark.parametrize("kind", ["rxe", "siw"])
def test_a_soft_device(kind: str) -> None:
    device = f"{kind}7"
    with pair() as net, soft_device(net, kind, device):
        found = now()
        (link,) = [each for each in rdma("link") if each["ifname"] == device]
        counts = [each for each in rdma("statistic", "show") if each.get("ifname") == device]
    assert found["port_active"][device, "1"] == (link["state"] == "ACTIVE")
    told = {name: value for each in counts for name, value in each.items() if name not in KEYS}
    events = {key[2]: v for key, v in found.get("events_total", {}).items() if key[0] == device}
    assert events == {name: value for name, value in told.items() if value}
    assert (device, "1") not in after_it_is_gone()


KEYS = ("ifname", "ifindex", "port")


def after_it_is_gone() -> dict[tuple[object, ...], float]:
    return now().get("port_active", {})
