"""TCP connections: how long they take to open, why they fail, resets, what they say at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from huatuo.kernel.object import BpfObject
from huatuo.model.units import show_duration
from huatuo.probes.bpf import BpfProbe
from huatuo.probes.net.flow import flow, remote

__all__ = ["Connection"]

_OUTCOMES = {
    "refused": "was refused",
    "timed_out": "timed out",
    "unreachable": "failed: the other end cannot be reached",
    "reset": "was reset",
    "abandoned": "was given up by the program",
    "other": "failed",
}


class Connection(BpfProbe):
    """TCP connections: how long they take to open, why they fail or break, and resets.

    Connections that fail to open, take long, or break are events; so are resets, those sent with
    the kernel's reason and stack. What a connection says when it ends (round-trip time, needless
    retransmissions, what it waited for) is added to its container then, not before. Process and
    container are those that called connect() or listen().

    Hooks: sock:inet_sock_set_state (net/ipv4/af_inet.c), tcp:tcp_send_reset and
    tcp:tcp_receive_reset (net/ipv4/tcp_ipv4.c, tcp_input.c).
    Kernels: the reason of a reset, and resets where nobody listens, since 6.10; process, and
    container on cgroup v1, since 5.11.
    Cost: about 2 µs per connection; 5 µs more per reset that is recorded, most of it the stack.
    """

    priority = 85
    titles: ClassVar[Mapping[str, str]] = {
        "connection_failures": "a TCP connection failed",
        "sent_resets": "a TCP reset was sent",
        "received_resets": "a TCP connection was reset by the other end",
    }
    subjects: ClassVar[Mapping[str, str]] = dict.fromkeys(titles, "cgroup")
    shares = ("socket_owners",)

    @property
    def notes(self) -> list[str]:
        if any("(socket)" in hook for hook in self.hooks):
            return ["this kernel gives no reasons for resets, and hides those without a socket"]
        return []

    def prepare(self, opened: BpfObject) -> None:
        """Sockets that are there already get their owners."""
        opened.run_iterator("once_per_file")

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        if "outcome" in fields:
            return _failure(fields)
        between = flow(fields)
        if "reason" in fields:
            return f"TCP {between}: reset sent: {fields['reason']}"
        return f"TCP {between}: reset by the other end in state {fields['state']}"


def _failure(fields: dict[str, Any]) -> str:
    outcome, seconds = str(fields["outcome"]), fields["duration_ns"] / 1e9
    again = fields["retransmitted"]
    tries = f", {again} segments sent again" if again > 1 else ", 1 segment sent again" * again
    if outcome == "opened":
        return f"TCP connection to {remote(fields)} took {show_duration(seconds)} to open{tries}"
    if fields["phase"] == "connect":
        after = show_duration(seconds)
        return f"TCP connection to {remote(fields)} {_OUTCOMES[outcome]} after {after}{tries}"
    return f"TCP {flow(fields)}: the connection broke: it {_OUTCOMES[outcome]}{tries}"
