"""Network namespaces of one's own, joined by a veth pair, and what can be done to packets there.

with pair() as net:
    client, accepted = net.connected()  # sockets of the namespaces, in this process
    with net.dropping("server", "tcp dport 80"):  …
    net.count("client", "TcpExt.TCPTimeouts")
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from huatuo.kernel.host import Host
from huatuo.kernel.netns import in_netns
from huatuo.kernel.procfs import parse_headed, parse_pairs
from tests.live.conftest import need

__all__ = [
    "PYTHON",
    "Pair",
    "host_in",
    "in_namespace",
    "ip",
    "namespace",
    "netns_inode",
    "nft",
    "pair",
    "within",
]

PYTHON = shutil.which("python3") or "python3"
ADDRESSES = {
    "client": {socket.AF_INET: "10.99.0.1", socket.AF_INET6: "fd99::1"},
    "server": {socket.AF_INET: "10.99.0.2", socket.AF_INET6: "fd99::2"},
}
DEVICES = {"client": "vc", "server": "vs"}
Made = TypeVar("Made")


@contextmanager
def namespace(name: str) -> Iterator[str]:
    """A network namespace of its own with loopback up; yields its full name."""
    need(shutil.which("ip"), "ip (iproute2) is not installed")
    full = f"huatuo-{name}-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", full], capture_output=True, text=True)
    need(made.returncode == 0, f"cannot make a network namespace: {made.stderr.strip()}")
    try:
        subprocess.run(["ip", "-n", full, "link", "set", "lo", "up"], check=True)
        yield full
    finally:
        subprocess.run(["ip", "netns", "del", full], check=True)


def ip(name: str, words: str) -> str:
    """What `ip -n NAME WORDS` prints; skips where the kernel lacks that kind of device."""
    done = subprocess.run(["ip", "-n", name, *words.split()], capture_output=True, text=True)
    need("Unknown device type" not in done.stderr, f"ip {words}: {done.stderr.strip()}")
    assert done.returncode == 0, f"ip {words}: {done.stderr}"
    return done.stdout


@contextmanager
def host_in(name: str) -> Iterator[Host]:
    """This machine as it would be if its first process lived in that namespace.

    What probes take for the host's network, in /proc, /sys and netlink, is then the namespace's.
    """
    argv = ["ip", "netns", "exec", name, "sleep", "1000"]
    with subprocess.Popen(argv) as first, tempfile.TemporaryDirectory() as directory:
        try:
            process = Path(f"/proc/{first.pid}")
            while (process / "comm").read_text() != "sleep\n":
                time.sleep(0.01)
            for link, target in (("1", process), ("self", "/proc/self"), ("sys", "/proc/sys")):
                Path(directory, link).symlink_to(target)
            yield Host(proc=Path(directory), sys=process / "root/sys")
        finally:
            first.kill()


def netns_inode(name: str) -> int:
    return Path("/run/netns", name).stat().st_ino


def in_namespace(name: str, program: str) -> str:
    """Run Python there, in a process of its own."""
    argv = ["ip", "netns", "exec", name, PYTHON, "-c", program]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout


def within(name: str, make: Callable[[], Made]) -> Made:
    """Run a function there, in this process: sockets it makes stay there."""
    return in_netns(f"/run/netns/{name}", make)


def nft(name: str, *statements: str) -> str:
    """Packet filter rules in a namespace; skips where the kernel or the tool cannot."""
    need(shutil.which("nft"), "nft (nftables) is not installed")
    done = subprocess.run(
        ["ip", "netns", "exec", name, "nft", *statements], capture_output=True, text=True
    )
    need(done.returncode == 0, f"nft cannot: {done.stderr.strip().splitlines()[:1]}")
    return done.stdout


@dataclass
class Pair:
    """Two namespaces, "client" and "server", one hop apart; `family` is that of its sockets."""

    names: dict[str, str]
    family: int = socket.AF_INET
    _sockets: list[socket.socket] = field(default_factory=list)

    def address(self, side: str) -> str:
        return ADDRESSES[side][self.family]

    def run(self, side: str, *argv: str) -> str:
        command = ["ip", "netns", "exec", self.names[side], *argv]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def tc(self, side: str, qdisc: str) -> None:
        """Set the queueing discipline of the side's device; skips where the kernel lacks it."""
        argv = ["tc", "-n", self.names[side], "qdisc", "replace", "dev", DEVICES[side], "root"]
        done = subprocess.run([*argv, *qdisc.split()], capture_output=True, text=True)
        need(done.returncode == 0, f"no {qdisc.split()[0]} on this kernel: {done.stderr.strip()}")

    def sysctl(self, side: str, name: str, value: int, optional: bool = False) -> None:
        """A setting below /proc/sys/net; `optional`: where this kernel has it."""

        def write() -> None:
            path = Path("/proc/sys/net", name)
            if path.exists() or not optional:
                path.write_text(f"{value}\n")

        within(self.names[side], write)

    def without_ipv6(self) -> None:
        """It speaks unasked: for tests that count every packet."""
        for side in self.names:
            self.sysctl(side, "ipv6/conf/all/disable_ipv6", 1)

    def socket(self, side: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket of that side, closed with the pair."""
        made = within(self.names[side], lambda: socket.socket(self.family, kind))
        self._sockets.append(made)
        return made

    def listen(self, backlog: int = 128) -> socket.socket:
        """A TCP server on a port that the kernel chooses."""
        server = self.socket("server")
        server.bind((self.address("server"), 0))
        server.listen(backlog)
        return server

    def connect(self, server: socket.socket) -> socket.socket:
        client = self.socket("client")
        client.connect(server.getsockname()[:2])
        return client

    def connected(self) -> tuple[socket.socket, socket.socket]:
        """Both ends of a TCP connection: the client's, the server's."""
        server = self.listen()
        client = self.connect(server)
        accepted, _ = server.accept()
        self._sockets.append(accepted)
        return client, accepted

    def count(self, side: str, name: str) -> int:
        """A counter of /proc/net/snmp, netstat or snmp6 there: Tcp.OutRsts, TcpExt.TCPTimeouts."""
        group, _, event = name.partition(".")

        def read() -> int:
            net = Path("/proc/thread-self/net")
            if group == "Udp6":
                return parse_pairs((net / "snmp6").read_text())[f"Udp6{event}"]
            file = "snmp" if group in ("Tcp", "Udp", "Ip") else "netstat"
            return parse_headed((net / file).read_text(), group)[group][event]

        return within(self.names[side], read)

    @contextmanager
    def dropping(self, side: str, match: str, hook: str = "input") -> Iterator[Callable[[], int]]:
        """Drop what matches there (nft's words); yields how many packets that was so far."""
        name, table = self.names[side], f"drop_{hook}"
        nft(name, "add", "table", "inet", table)
        nft(name, "add", "chain", "inet", table, "c", f"{{ type filter hook {hook} priority 0 ; }}")
        nft(name, "add", "rule", "inet", table, "c", *match.split(), "counter", "drop")

        def dropped() -> int:
            rules = json.loads(nft(name, "-j", "list", "chain", "inet", table, "c"))["nftables"]
            (rule,) = [each["rule"] for each in rules if "rule" in each]
            (packets,) = [e["counter"]["packets"] for e in rule["expr"] if "counter" in e]
            return int(packets)

        try:
            yield dropped
        finally:
            nft(name, "delete", "table", "inet", table)


@contextmanager
def pair(family: int = socket.AF_INET) -> Iterator[Pair]:
    with namespace("client") as client, namespace("server") as server:
        names = {"client": client, "server": server}
        made = subprocess.run(
            f"ip -n {client} link add vc type veth peer name vs netns {server}".split(),
            capture_output=True,
            text=True,
        )
        need(made.returncode == 0, f"no veth device here: {made.stderr.strip()}")
        for side, name in names.items():
            for address, length in ((socket.AF_INET, 24), (socket.AF_INET6, 64)):
                where = f"{ADDRESSES[side][address]}/{length} dev {DEVICES[side]}"
                extra = " nodad" if address == socket.AF_INET6 else ""
                subprocess.run(f"ip -n {name} address add {where}{extra}".split(), check=True)
            subprocess.run(f"ip -n {name} link set {DEVICES[side]} up".split(), check=True)
        net = Pair(names, family)
        try:
            _settle(net)
            yield net
        finally:
            for each in net._sockets:
                each.close()


def _settle(net: Pair) -> None:
    """Both ends know each other's link address: nothing is lost or late because of that."""
    for family in (socket.AF_INET, socket.AF_INET6):
        for side, other in (("client", "server"), ("server", "client")):
            with within(net.names[side], lambda f=family: socket.socket(f, socket.SOCK_DGRAM)) as s:
                s.sendto(b"", (ADDRESSES[other][family], 9))
