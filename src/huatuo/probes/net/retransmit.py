"""TCP segments sent again: why, in which phase, and whether this host had dropped them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from huatuo.probes.bpf import BpfProbe
from huatuo.probes.net.flow import flow

__all__ = ["Retransmit"]

_WHY = {
    "timeout": "after a timeout",
    "after_timeout": "following a timeout",
    "fast": "by fast retransmit",
    "tail_probe": "as a tail loss probe",
    "syn": "because the SYN was not answered",
    "syn_ack": "because the SYN-ACK was not answered",
    "other": "",
}
_NEEDLESS = {
    "needless_timeout": "the retransmission timeout was needless: nothing had been lost",
    "needless_fast": "the fast retransmit was needless: nothing had been lost",
}
_DROP = ("drop_age_ns", "drop_location", "drop_reason", "same_segment")


class Retransmit(BpfProbe):
    """TCP segments sent again: why, in which phase, and whether this host dropped them before.

    Every one is counted by container, cause and phase; records are limited. A record that names a
    drop means that net.drop saw a packet of the same connection dropped on this host, in either
    direction and any namespace, shortly before: `same_segment` if it was this very one. That there
    is none proves nothing. Recoveries that TCP itself found needless are events of their own.
    Process and container are those that called connect() or listen().

    Hooks: tcp:tcp_retransmit_skb, tcp:tcp_retransmit_synack (net/ipv4/tcp_output.c) and
    tcp:tcp_cong_state_set (net/ipv4/tcp_cong.c).
    Kernels: needless recoveries only where there is tcp_cong_state_set; process, and container on
    cgroup v1, since 5.11. Both come from net.connection, drops from net.drop.
    Cost: nothing unless something is sent again.
    """

    priority = 85
    titles: ClassVar[Mapping[str, str]] = {"retransmissions": "a TCP segment was sent again"}
    subjects: ClassVar[Mapping[str, str]] = {"retransmissions": "cgroup"}
    optional: ClassVar[Collection[str]] = ("recovery_end",)
    shares: ClassVar[Collection[str]] = ("flow_drops", "socket_owners")

    @property
    def notes(self) -> list[str]:
        if any("cong_state_set" in hook for hook in self.hooks):
            return []
        return ["needless recoveries are not seen: no tracepoint tcp:tcp_cong_state_set"]

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        """Leaves out the drop where there was none; returns the event's title."""
        drop = {name: fields.pop(name) for name in _DROP}
        kind, between = str(fields["kind"]), flow(fields)
        if kind in _NEEDLESS:
            return f"TCP {between}: {_NEEDLESS[kind]}"
        if drop["drop_age_ns"]:
            fields.update(drop)
        number = fields["segments"]
        what = "1 segment" if number == 1 else f"{number} segments"
        title = f"TCP {between}: {what} sent again {_WHY.get(kind, '')}".rstrip()
        if drop["drop_age_ns"]:
            which = "it" if drop["same_segment"] else "a packet of this connection"
            title += f"; this host had dropped {which}: {drop['drop_reason']}"
        return title
