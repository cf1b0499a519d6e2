"""Show TCP retransmissions, dropped packets and late packets, now and without an agent."""

from __future__ import annotations

import argparse
from typing import Any

from huatuo.cli.live import add_view
from huatuo.cli.views import CONTAINER, PROCESS, TIME, Amount, Column, View, run_view, shown_ns
from huatuo.cli.wanted import add_filters
from huatuo.model.event import Event
from huatuo.model.units import show_bytes
from huatuo.probes.net.flow import flow, local, remote

__all__ = ["configure", "run"]

_EXAMPLES = """examples:
  huatuo net retrans                                TCP segments sent again, until Ctrl-C
  huatuo net retrans --container web --duration 1m
  huatuo net drops --filter 'udp port 53 or icmp6'  in tcpdump's language: man pcap-filter
  huatuo net drops --device eth0 --json | jq .fields.reason
  huatuo net latency --threshold 20ms --filter 'host 10.0.0.1 and tcp port 443'
"""
_RETRANS = """TCP segments that this host sent again, and why. WHY: timeout, after_timeout, fast
(duplicate acknowledgements), tail_probe, syn, syn_ack; needless_…: TCP found later that nothing
had been lost.
FLOW: with the smoothed round-trip time, and whether this host itself had dropped it, and where."""
_DROPS = """Packets that the kernel dropped: why, where in the kernel, and which. What nobody misses
(what a closing socket left unread, frames for other stations) is not shown. The container is that
of the packet's socket, or else of its network namespace."""
_LATENCY = """Packets that took at least --threshold. STAGE, of received ones since the driver had
them: stack, tcp, user (read by the program, so its own slowness counts); of sent ones: queue (in a
queueing discipline), sent (from TCP to there)."""
_ALWAYS = {"window": 500_000_000, "every": 500_000_000}


def _flow(event: Event) -> str:
    """With what is known of it."""
    fields = event.fields
    notes = [f"rtt {shown_ns(fields['rtt_ns'])}"] if fields["rtt_ns"] else []
    if fields["timeouts"]:
        notes.append(f"timeout {fields['timeouts']} in a row")
    if fields.get("drop_age_ns"):
        which = "it" if fields["same_segment"] else "a packet of this connection"
        place = str(fields["drop_location"]).partition("+")[0]
        notes.append(f"this host dropped {which}: {fields['drop_reason']} at {place}")
    return flow(fields) + (f" ({', '.join(notes)})" if notes else "")


WHY = Column("WHY", 16, lambda event: str(event.fields["kind"]))
RETRANS = View(
    what="retransmissions",
    probes={"net.retransmit": {}},
    helpers=("net.connection", "net.drop"),
    kinds=("retransmissions",),
    columns=(
        TIME,
        CONTAINER,
        PROCESS,
        WHY,
        Column("SEGMENTS", 8, lambda event: str(event.fields["segments"])),
        Column("FLOW", 0, _flow),
    ),
    groups=(WHY, Column("TO", 0, lambda event: remote(event.fields)), PROCESS, CONTAINER),
    amounts=(Amount("SEGMENTS", "segments", lambda event: event.fields["segments"]),),
)

REASON = Column("REASON", 24, lambda event: str(event.fields["reason"]))
PLACE = Column("PLACE", 28, lambda event: str(event.fields["location"]).partition("+")[0])
DEVICE = Column("DEVICE", 10, lambda event: event.fields["interface"] or "-")
DROPS = View(
    what="dropped packets",
    probes={"net.drop": {}},
    kinds=("drops",),
    columns=(
        TIME,
        CONTAINER,
        DEVICE,
        REASON,
        PLACE,
        Column("PACKET", 0, lambda event: event.title.partition(" dropped: ")[0]),
    ),
    groups=(REASON, PLACE, DEVICE, CONTAINER),
    amounts=(Amount("BYTES", "bytes", lambda e: e.fields["length_bytes"], shown=show_bytes),),
)


def _sent(event: Event) -> bool:
    return event.kind == "late_transmissions"


def _stage(event: Event) -> str:
    fields = event.fields
    if not _sent(event):
        return str(fields["stage"])
    return "queue" if fields["queue_ns"] >= fields["stack_ns"] else "sent"


def _latency(event: Event) -> int:
    fields: dict[str, Any] = event.fields
    if _sent(event):
        return max(int(fields["queue_ns"]), int(fields["stack_ns"]))
    return int(fields["latency_ns"])


def _way(event: Event) -> str:
    source, target = local(event.fields), remote(event.fields)
    return f"{source} → {target}" if _sent(event) else f"{target} → {source}"


STAGE = Column("STAGE", 6, _stage)
PROTOCOL = Column("PROTOCOL", 8, lambda event: str(event.fields["protocol"]))
LATENCY = View(
    what="late packets",
    probes=dict.fromkeys(("net.receive", "net.transmit"), _ALWAYS),
    helpers=("net.connection",),
    kinds=("late_packets", "late_transmissions"),
    thresholds={
        "net.receive": ("stack_threshold", "tcp_threshold", "user_threshold"),
        "net.transmit": ("queue_threshold", "stack_threshold"),
    },
    columns=(
        TIME,
        CONTAINER,
        PROCESS,
        STAGE,
        Column("LATENCY", 8, lambda event: shown_ns(_latency(event))),
        PROTOCOL,
        Column("PACKET", 0, _way),
    ),
    groups=(STAGE, PROTOCOL, PROCESS, CONTAINER),
    amounts=(
        Amount("LONGEST", "longest_ns", _latency, max, shown_ns),
        Amount("IN ALL", "latency_ns", _latency, shown=shown_ns),
    ),
)
_VIEWS = {"retrans": RETRANS, "drops": DROPS, "latency": LATENCY}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog, parser.formatter_class = _EXAMPLES, argparse.RawDescriptionHelpFormatter
    views = parser.add_subparsers(dest="what", metavar="VIEW", title="views", required=True)
    retrans = add_view(views, "retrans", "TCP segments sent again", _RETRANS, _EXAMPLES)
    drops = add_view(views, "drops", "dropped packets", _DROPS, _EXAMPLES)
    latency = add_view(views, "latency", "late packets", _LATENCY, _EXAMPLES)
    latency.add_argument(
        "--threshold", default="10ms", metavar="TIME", help="shortest latency shown (10ms)"
    )
    add_filters(retrans, "filter", "container", "pid", "comm")
    add_filters(drops, "filter", "container", "device", "stack")
    add_filters(latency, "filter", "container", "device", "pid", "comm")


def run(arguments: argparse.Namespace) -> int:
    return run_view(_VIEWS[arguments.what], arguments)
