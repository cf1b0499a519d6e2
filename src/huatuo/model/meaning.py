"""What a field is: its unit and its identity, given by the C typedef in bpf/record.bpf.h.

The name of a meaning is the typedef's name. Units, JSON suffixes, metric suffixes, the container
join and symbolisation all hang on it; no probe converts or joins anything itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["MEANINGS", "Meaning", "Role", "meaning_of"]


class Role(StrEnum):
    """What a field does when it stands in the value of an exported map."""

    NONE = ""
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Meaning:
    """`json` replaces or extends the field's name in JSON, `unit` and `scale` give base units."""

    name: str
    role: Role = Role.NONE
    unit: str = ""  # base unit, as in metric names: seconds, bytes
    scale: float = 1.0  # stored value * scale = base unit
    suffix: str = ""  # appended to the C name in JSON: wait → wait_ns
    rename: str = ""  # replaces the C name's last part in JSON: victim_tgid → victim_pid


_ALL = (
    Meaning("plain"),
    Meaning("ktime_ns_t"),
    Meaning("duration_ns_t", unit="seconds", scale=1e-9, suffix="_ns"),
    Meaning("bytes_t", unit="bytes", suffix="_bytes"),
    Meaning("pages_t", suffix="_pages"),
    Meaning("count_t"),
    Meaning("per_second_t"),
    Meaning("cgroup_id_t"),
    Meaning("blkcg_id_t"),
    Meaning("tgid_t", rename="pid"),
    Meaning("tid_t", rename="tid"),
    Meaning("comm_t"),
    Meaning("disk_t"),
    Meaning("ifindex_t"),
    Meaning("netns_t"),
    Meaning("ip_address_t"),
    Meaning("kaddr_t"),
    Meaning("gfp_flags_t"),
    Meaning("kstack_t"),
    Meaning("text_t"),
    Meaning("path_t"),
    Meaning("packet_t"),
    Meaning("counter_t", Role.COUNTER),
    Meaning("counter_ns_t", Role.COUNTER, unit="seconds", scale=1e-9),
    Meaning("counter_bytes_t", Role.COUNTER, unit="bytes"),
    Meaning("gauge_t", Role.GAUGE),
    Meaning("gauge_ns_t", Role.GAUGE, unit="seconds", scale=1e-9),
    Meaning("duration_histogram_t", Role.HISTOGRAM, unit="seconds", scale=1e-9),
)

MEANINGS: dict[str, Meaning] = {meaning.name: meaning for meaning in _ALL}


def meaning_of(typedefs: tuple[str, ...]) -> Meaning:
    """The meaning of a field whose type is reached through `typedefs`, outermost first."""
    for name in typedefs:
        if name in MEANINGS:
            return MEANINGS[name]
    return MEANINGS["plain"]
