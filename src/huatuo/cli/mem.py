"""Show who has to wait until memory is freed, now and without an agent."""

from __future__ import annotations

import argparse

from huatuo.cli.live import add_view
from huatuo.cli.views import CONTAINER, PROCESS, TIME, Amount, Column, View, run_view, shown_ns
from huatuo.cli.wanted import add_filters
from huatuo.model.event import Event
from huatuo.model.units import show_bytes

__all__ = ["configure", "run"]

_TEXT = """Programs that were held up for at least --threshold because memory had to be freed first.
KIND: direct, the host had no free pages; memcg, a limit of the container or of a cgroup above it
was reached (memory.max); high, the same for memory.high; node, a NUMA node had none; kswapd, the
kernel's own thread runs for so long. FREED: of so many pages looked at."""
_EXAMPLES = """examples:
  huatuo mem reclaim                                who is held up for 1 ms and more, until Ctrl-C
  huatuo mem reclaim --container web --duration 1m  only this container's programs
  huatuo mem reclaim --threshold 100us --comm 'java*'
  huatuo mem reclaim --json | jq .fields.duration_ns
"""


def _kind(event: Event) -> str:
    kind = {"over_high_waits": "high", "kswapd_long_runs": "kswapd"}.get(event.kind)
    return kind or str(event.fields["kind"])


def _freed(event: Event) -> str:
    if "scanned_pages" not in event.fields:
        return "-"
    return f"{event.fields['reclaimed_pages']}/{event.fields['scanned_pages']}"


def _limit(event: Event) -> str:
    """The cgroup whose limit it is, with what it uses of it."""
    fields = event.fields
    if event.kind == "kswapd_long_runs":
        return f"node {fields['node']}, {'done' if fields['finished'] else 'still running'}"
    if not fields["domain_limit_bytes"]:
        return "-"
    used, limit = show_bytes(fields["domain_used_bytes"]), show_bytes(fields["domain_limit_bytes"])
    return f"{used} of {limit} ({fields['domain_cgroup'] or 'host'})"


KIND = Column("KIND", 6, _kind)
RECLAIM = View(
    what="waits for memory",
    probes={"memory.reclaim": {}},
    kinds=("slow_reclaims", "over_high_waits", "kswapd_long_runs"),
    thresholds={"memory.reclaim": ("slow_threshold", "over_high_threshold")},
    columns=(
        TIME,
        CONTAINER,
        PROCESS,
        KIND,
        Column("WAITED", 8, lambda event: shown_ns(event.fields["duration_ns"])),
        Column("FREED", 12, _freed),
        Column("LIMIT", 0, _limit),
    ),
    groups=(KIND, PROCESS, CONTAINER),
    amounts=(
        Amount("WAITED", "waited_ns", lambda event: event.fields["duration_ns"], shown=shown_ns),
        Amount("LONGEST", "longest_ns", lambda e: e.fields["duration_ns"], max, shown_ns),
        Amount("FREED", "reclaimed_pages", lambda e: e.fields.get("reclaimed_pages", 0)),
    ),
)


def configure(parser: argparse.ArgumentParser) -> None:
    views = parser.add_subparsers(dest="what", metavar="reclaim", required=True)
    reclaim = add_view(views, "reclaim", "who waits until memory is freed", _TEXT, _EXAMPLES)
    reclaim.add_argument(
        "--threshold", default="1ms", metavar="TIME", help="shortest wait shown (default: 1ms)"
    )
    add_filters(reclaim, "container", "pid", "comm")


def run(arguments: argparse.Namespace) -> int:
    return run_view(RECLAIM, arguments)
