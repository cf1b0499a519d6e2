"""Every query of every dashboard has data in a real Prometheus that scrapes a real agent under
load; so has every recording rule. What this host or a short load cannot give is listed, with why.
"""

from __future__ import annotations

import itertools
import json
import math
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from huatuo.kernel.cgroupfs import hierarchies
from tests.live.agent import EATER, Running, agent, eventually, limit_memory
from tests.live.conftest import HOST, Group, cgroup, need
from tests.live.limited import limited_cpu
from tests.live.network import PYTHON, Pair, pair
from tests.test_deploy import RULES, dashboards

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

LOAD_SECONDS = 24  # probes that watch in windows have one every ten seconds
VARIABLES = {"$__rate_interval": "10s", "$instance": ".*", "$container": ".*", "$device": ".*"}
# panel, or panel and legend → the probe that has to run for it; the agent says why it does not
PROBES = {
    "Temperatures": "hardware.thermal",
    "CPU frequency, mean": "hardware.frequency",
    "Memory errors": "hardware.edac",
    "RDMA traffic": "netdev.rdma",
    "PFC frames": "netdev.dcb",
    "Endurance used": "hardware.disks",
    "Temperature": "hardware.disks",
    "Latency of file operations p99": "fs.latency",
    "fsync p99": "fs.sync",
    "Major faults wait, p99": "memory.faults",
    "Time lost to major faults": "memory.faults",
}
# what no test provokes here
RARE = {
    "Errors reported by hardware": "counted from the first error on; no hardware fails in a test",
    "kswapd": "runs only when the whole host is short of memory",
    "Time lost to reclaim and compaction: compaction, {{kind}}": "would move memory of all others",
    "Writers paused": "the page cache of the whole host would have to be dirty",
    "Errors on record: {{device}} found per second": "counted from the first error on",
    "Governor's decisions": "counted from the first decision on",
}
NETWORK_LOAD = """
import socket, sys, time
address, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
end = time.monotonic() + seconds
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while time.monotonic() < end:
    with socket.create_connection((address, port), 5) as connection:
        connection.sendall(b"x" * 100_000)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
    try:
        socket.create_connection((address, 1), 5)
    except ConnectionRefusedError:
        pass
    udp.sendto(b"nobody", (address, 1))
    time.sleep(0.01)
"""
SERVER = """
import socket, sys
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
while True:
    connection, _ = server.accept()
    while connection.recv(65536):
        pass
    connection.sendall(b"y" * 50_000)
    connection.close()
"""
DISK_LOAD = """
import mmap, os, sys, time
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    with open(sys.argv[1], "wb") as file:
        file.write(b"z" * (4 << 20))
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with open(sys.argv[1], "rb") as file:
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
            memory.madvise(mmap.MADV_RANDOM)
            memory[0], memory[1 << 20], memory[3 << 20]
        file.read()
    time.sleep(0.2)
"""


@dataclass(frozen=True, slots=True)
class Prometheus:
    address: str

    def get(self, path: str, **params: object) -> Any:
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(params)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def has_data(self, expression: str, since: float) -> bool:
        """Whether it has a number at any time since then. Raises HTTPError if it is not valid."""
        found = self.get("query_range", query=expression, start=since, end=time.time(), step=1)
        values = (value for series in found["result"] for _, value in series["values"])
        return any(math.isfinite(float(value)) for value in values)


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Prometheus]:
    """A Prometheus with our rules that scrapes `target` every second."""
    need(shutil.which("prometheus"), "prometheus is not installed (scripts/setup --tests)")
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "huatuo", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    with subprocess.Popen(["prometheus", *words]) as process:
        running = Prometheus(address)
        try:
            assert eventually(lambda: scraped(running), 30), "nothing is scraped"
            yield running
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def scraped(running: Prometheus) -> bool:
    return bool(running.get("query", query="huatuo_agent_info")["result"])


def load(net: Pair, folder: Path) -> None:
    """A throttled hog, an OOM kill, a disk that is written, connections that work and that fail,
    packets that are lost: for LOAD_SECONDS."""
    with ExitStack() as stack:
        limited = stack.enter_context(limited_cpu("dashboards", 0.2))
        network, disk, ram = (
            stack.enter_context(cgroup(f"dashboards-{name}")) for name in ("net", "disk", "ram")
        )

        def start(group: Group, *argv: str) -> None:
            process = stack.enter_context(group.start(argv))
            stack.callback(process.kill)

        process = stack.enter_context(limited.start([sys.executable, "-c", "while True: pass"]))
        stack.callback(process.kill)
        accounted(stack, limited.group)
        net.tc("client", "tbf rate 200mbit burst 16kb latency 50ms")  # all packets are queued
        where = ("ip", "netns", "exec")
        address = net.address("server")
        start(network, *where, net.names["server"], PYTHON, "-c", SERVER, address, "7000")
        time.sleep(0.5)
        words = (address, "7000", str(LOAD_SECONDS))
        start(network, *where, net.names["client"], PYTHON, "-c", NETWORK_LOAD, *words)
        start(disk, PYTHON, "-c", DISK_LOAD, str(folder / "file"), str(LOAD_SECONDS))
        time.sleep(LOAD_SECONDS / 3)
        limit_memory(ram)
        ram.run([sys.executable, "-c", EATER])
        with net.dropping("server", "tcp dport 7000"):
            time.sleep(0.7)  # segments are sent again after 200 ms
        time.sleep(LOAD_SECONDS / 3)
        ram.run([sys.executable, "-c", EATER])  # its counters grow now
        time.sleep(LOAD_SECONDS / 3)


def accounted(stack: ExitStack, group: Group) -> None:
    """On v1, what readers of other hierarchies look for under the container's path."""
    trees = hierarchies(HOST)
    for root in {trees.v1.get("pids"), trees.v2} - {None}:
        directory = Path(root) / group.directory.name
        if not directory.exists():
            directory.mkdir()
            stack.callback(directory.rmdir)


def queries() -> Iterator[tuple[str, str, str]]:
    """(title of the panel, legend, expression) of all dashboards."""
    for dashboard in dashboards().DASHBOARDS:
        for panel in dashboard.panels:
            for expression, legend in panel.queries.items():
                for name, value in VARIABLES.items():
                    expression = expression.replace(name, value)
                yield panel.title, legend, expression


def excused(title: str, legend: str, running: Running) -> str:
    """Why this query may have no data here, or ""."""
    for key in (title, f"{title}: {legend}"):
        if key in RARE:
            return RARE[key]
        if key in PROBES:
            state = running.state(PROBES[key])
            return state["reason"] if state["status"] != "running" else ""
    return ""


def test_every_query_has_data(tmp_path: Path) -> None:
    with agent(tmp_path / "store") as running:
        began = time.time()
        with pair() as net, prometheus(tmp_path, running.address) as server:
            load(net, tmp_path)
            empty = {}
            for title, legend, expression in queries():
                if not server.has_data(expression, began):
                    reason = excused(title, legend, running)
                    print(f"no data: {title}: {reason or 'NO REASON'}")
                    if not reason:
                        empty[title, legend] = expression
            rules = server.get("rules")["groups"]
            bad = [r for r in itertools.chain(*(g["rules"] for g in rules)) if r["health"] != "ok"]
            recorded = {
                rule["name"]: server.has_data(rule["name"], began)
                for group in rules
                for rule in group["rules"]
                if rule["type"] == "recording"
            }
    assert not empty
    assert not bad
    assert len(recorded) == 5
    assert all(recorded.values()), recorded


def test_what_is_excused_is_a_panel() -> None:
    known = {title for title, _, _ in queries()}
    known |= {f"{title}: {legend}" for title, legend, _ in queries()}
    assert set(PROBES) | set(RARE) <= known
