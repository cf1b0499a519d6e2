"""Received packets: how late they reach the stack, TCP and the reader; what they say of TCP."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from huatuo.errors import KernelLacks
from huatuo.kernel.host import Host
from huatuo.kernel.object import BpfObject
from huatuo.model.record import RecordBatch
from huatuo.model.units import show_duration
from huatuo.probes.base import Account
from huatuo.probes.net.flow import flow, local, remote
from huatuo.probes.windows import Windowed

__all__ = ["Receive"]

_TIMESTAMPS = 35  # SO_TIMESTAMPNS, include/uapi/asm-generic/socket.h
_STEP_NS = 1_000_000  # the clocks do not drift apart: more than this is somebody's doing
_REACHED = {
    "stack": "reached the network stack",
    "tcp": "reached TCP",
    "user": "was read",
}


class Receive(Windowed):
    """How late received packets reach the network stack, TCP and the program that reads them.

    All counted from when the driver hands a packet over: to the stack is the wait in a CPU's
    backlog, to TCP filters and the socket's own backlog come in, to the reader the wait until it
    reads (UDP: that is done with it). What TCP sends to this very host counts from its being sent
    until it is in the stack. Received segments also tell TCP's round-trip time, and how long the
    peer's closed window kept us from sending. IPv4 and IPv6, TCP and UDP.
    Seen in windows, half a second of every ten, in which one of `sample_every` packets is in the
    histograms and the thresholds see every packet. The true rate is that of the count divided by
    that of huatuo_net_receive_observed_seconds_total.

    Hooks: net:netif_receive_skb (net/core/dev.c), tcp:tcp_probe (net/ipv4/tcp_input.c),
    skb:skb_copy_datagram_iovec (net/core/datagram.c), skb_consume_udp() (net/ipv4/udp.c). In a
    window a socket asks the kernel to stamp received packets, which costs about 30 ns per packet
    unless somebody else has asked already.
    Kernels: process, and container on cgroup v1, of TCP segments since 5.11.
    Cost: in a window 20 to 40 ns per packet and stage, and entering the programs: 0.8 µs of a
    request and its answer over loopback, which is 5 % of it and the reason for the windows; about
    1 ms of CPU time per window; 5 µs per record. Always, where there is fentry: entering a program
    per datagram that is read.
    """

    priority = 55
    titles: ClassVar[Mapping[str, str]] = {
        "late_packets": "a packet was received late",
        "peer_stalls": "TCP could not send because the peer's window was full",
    }
    subjects: ClassVar[Mapping[str, str]] = dict.fromkeys(titles, "cgroup")
    shares = ("socket_owners",)
    stays = ("read_udp",)  # before 5.13 fentry can be attached only once

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self._stamping: socket.socket | None = None
        self._offset = 0
        self._stepped = 0  # records whose latency is wrong because the clock was set

    def prepare(self, opened: BpfObject) -> None:
        self._offset = self.host.utc_offset_ns()
        self._set_offset(opened, self._offset)

    def start(self) -> None:
        super().start()
        try:
            self._ask_for_stamps()
        except OSError as error:
            self.stop()
            raise KernelLacks(f"the kernel does not stamp packets: {error.strerror}") from error

    def stop(self) -> None:
        super().stop()
        self._stop_stamps()

    def open_window(self) -> None:
        self._ask_for_stamps()
        self._set_offset(self._running(), self._offset)
        super().open_window()

    def close_window(self) -> None:
        super().close_window()
        self._set_offset(self._running(), 0)  # nothing is watched
        self._stop_stamps()

    def _ask_for_stamps(self) -> None:
        self._stamping = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._stamping.setsockopt(socket.SOL_SOCKET, _TIMESTAMPS, 1)

    def _stop_stamps(self) -> None:
        if self._stamping is not None:
            self._stamping.close()
            self._stamping = None

    @property
    def notes(self) -> list[str]:
        if any("(in pieces)" in hook for hook in self.hooks):
            return ["reads of UDP are seen only of packets in several pieces: no fentry here"]
        return []

    def _set_offset(self, opened: BpfObject, offset: int) -> None:
        opened.maps["realtime_offset"].update(bytes(4), offset.to_bytes(8, "little"))

    def drain(self) -> Iterator[RecordBatch]:
        """Stamps are of the wall clock: what was measured while it was set is of no worth."""
        offset = self.host.utc_offset_ns()
        stepped = abs(offset - self._offset) > _STEP_NS
        if stepped:
            self._offset = offset
            if self._stamping is not None:
                self._set_offset(self._running(), offset)
        for batch in super().drain():
            if stepped and batch.ring == "late_packets":
                self._stepped += len(batch)
                self._delivered -= len(batch)
            else:
                yield batch

    def account(self) -> Account:
        account = super().account()
        return replace(account, lost={**account.lost, "clock_set": self._stepped})

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        if "stage" not in fields:
            return _stall(fields)
        protocol = {"tcp": "TCP", "udp": "UDP"}.get(str(fields["protocol"]), "IP")
        after = show_duration(fields["latency_ns"] / 1e9)
        reached = _REACHED.get(str(fields["stage"]), "was received")
        between = f"{remote(fields)} → {local(fields)}"
        return f"{protocol} {between}: a packet {reached} {after} after the driver had it"


def _stall(fields: dict[str, Any]) -> str:
    duration = show_duration(fields["duration_ns"] / 1e9)
    now = "could not send for" if fields["ended"] else "has not been able to send for"
    return f"TCP {flow(fields)}: {now} {duration}: the other end does not read"
