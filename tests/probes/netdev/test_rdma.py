"""netdev.rdma on trees of files as /sys/class/infiniband has them."""

from __future__ import annotations

from pathlib import Path

from huatuo.kernel.host import Host
from huatuo.probes.netdev.rdma import Rdma
from tests.probes.tree import samples


def tree(root: Path, ports: dict[str, dict[str, str]]) -> Host:
    """Files by port (mlx5_0/1): name below it → content."""
    for place, files in ports.items():
        device, port = place.split("/")
        for name, content in files.items():
            path = root / "class/infiniband" / device / "ports" / port / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content + "\n")
    return Host(sys=root)


CARD = {
    "state": "4: ACTIVE",
    "counters/port_rcv_data": "1000",
    "counters/port_xmit_data": "2000",
    "counters/port_rcv_packets": "30",
    "counters/port_xmit_packets": "40",
    "counters/port_xmit_wait": "5",
    "counters/symbol_error": "0",
    "counters/VL15_dropped": "N/A (no PMA)",
    "hw_counters/lifespan": "10",
    "hw_counters/out_of_sequence": "7",
}


def test_a_port(tmp_path: Path) -> None:
    probe = Rdma(tree(tmp_path, {"mlx5_0/1": CARD}))
    found = samples(probe)
    assert found == {
        "port_active": {("mlx5_0", "1"): 1},
        "bytes_total": {("mlx5_0", "1", "receive"): 4000, ("mlx5_0", "1", "transmit"): 8000},
        "packets_total": {("mlx5_0", "1", "receive"): 30, ("mlx5_0", "1", "transmit"): 40},
        "events_total": {
            ("mlx5_0", "1", "port_xmit_wait"): 5,
            ("mlx5_0", "1", "out_of_sequence"): 7,
        },
    }
    assert probe.collect_errors == 0


def test_ports_come_and_go(tmp_path: Path) -> None:
    host = tree(tmp_path, {"rxe0/1": {"state": "1: DOWN"}})
    probe = Rdma(host)
    assert samples(probe)["port_active"] == {("rxe0", "1"): 0}
    tree(tmp_path, {"mlx5_0/1": CARD, "mlx5_0/2": CARD | {"state": "1: DOWN"}})
    assert samples(probe)["port_active"] == {
        ("mlx5_0", "1"): 1,
        ("mlx5_0", "2"): 0,
        ("rxe0", "1"): 0,
    }
    (tmp_path / "class/infiniband/rxe0").rename(tmp_path / "gone")
    assert len(samples(probe)["port_active"]) == 2
    limited = Rdma(host, {"max_ports": 1})
    assert samples(limited)["port_active"] == {("mlx5_0", "1"): 1}


def test_without_rdma_it_says_so(tmp_path: Path) -> None:
    assert "RDMA is not loaded" in Rdma.unavailable(Host(sys=tmp_path))
    (tmp_path / "class/infiniband").mkdir(parents=True)
    assert Rdma.unavailable(Host(sys=tmp_path)) == ""


def test_garbage_is_no_number(tmp_path: Path) -> None:
    odd = {"counters/a": "-1", "counters/b": "", "counters/c": "9" * 40, "counters/d": "²"}
    probe = Rdma(tree(tmp_path, {"odd/1": {"state": ""} | odd, "mlx5_0/1": CARD}))
    found = samples(probe)
    assert set(found["port_active"]) == {("mlx5_0", "1")}
    assert probe.collect_errors == 1
