"""Errors that the hardware reports: machine checks, memory, PCI Express, firmware, heat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from huatuo.kernel.vmlinux import kernel_enum
from huatuo.probes.bpf import BpfProbe

__all__ = ["Ras"]

_RING = "ras_errors"
# status bits of PCI Express, as include/uapi/linux/pci_regs.h has them
_AER_CORRECTED = {
    0: "receiver error", 6: "bad TLP", 7: "bad DLLP", 8: "replay number rollover",
    12: "replay timer timeout", 13: "advisory non-fatal", 14: "corrected internal",
    15: "header log overflow",
}  # fmt: skip
_AER_UNCORRECTED = {
    4: "data link protocol", 5: "surprise down", 12: "poisoned TLP", 13: "flow control protocol",
    14: "completion timeout", 15: "completer abort", 16: "unexpected completion",
    17: "receiver overflow", 18: "malformed TLP", 19: "ECRC", 20: "unsupported request",
    21: "access control violation", 22: "uncorrected internal", 23: "blocked TLP",
    24: "atomic operation blocked", 25: "TLP prefix blocked", 26: "poisoned TLP blocked",
}  # fmt: skip
# Compound error codes (Intel SDM 3B, 17.9.2; AMD's are alike): first bit from the top says which
_MCE_KINDS = (
    (0x0800, "bus or interconnect"),
    (0x0400, "internal"),
    (0x0200, "memory hierarchy"),
    (0x0100, "cache"),
    (0x0080, "memory controller"),
    (0x0010, "TLB"),
    (0x0008, "cache hierarchy"),
)
_SOURCES = {
    "mce": "machine check",
    "edac": "memory",
    "aer": "PCI Express",
    "ghes": "memory, says the firmware",
    "firmware": "hardware, says the firmware",
    "arm": "processor",
}


class Ras(BpfProbe):
    """Errors that the hardware reports about itself, with what is known about place and kind.

    Uncorrected errors are events each; of corrected ones of one place the first, and then together
    those since the last event, after one minute, two, four, up to an hour while they go on. The
    counters count all of them.
    Hooks: mce:mce_record, ras:mc_event (EDAC), ras:aer_event, ras:extlog_mem_event (GHES),
    ras:non_standard_event, ras:arm_event, memory_failure_event, thermal:thermal_zone_trip,
    irq_vectors:threshold_apic_entry and deferred_error_apic_entry; each if it is there.
    Kernels: where RAS_CEC is compiled in, it takes corrected memory errors before EDAC sees them:
    they are here as machine checks.
    Cost: nothing until there is an error.
    """

    priority = 90
    late: ClassVar[Mapping[str, str]] = dict.fromkeys(
        (
            "mce",
            "edac",
            "aer",
            "ghes",
            "firmware",
            "memory_failure",
            "threshold",
            "deferred",
            "thermal",
        ),
        "",
    )
    optional = ("arm",)
    titles: ClassVar[Mapping[str, str]] = {_RING: "{severity} error: {source}"}

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        """One sentence; status registers in words."""
        source, severity = str(fields["source"]), str(fields["severity"])
        errors, device = int(fields["errors"]), str(fields["device"])
        many = f"{errors} {severity} errors" if errors > 1 else f"{severity} error"
        if source in ("mce", "aer"):
            fields["kind"] = _kind(source, severity, int(fields["status"]))
        said = fields.get("kind") or fields["message"]
        what = f": {said}" if said else ""
        if source == "mce":
            return f"machine check, CPU {fields['cpu']}, bank {fields['bank']}: {many}{what}"
        if source == "memory_failure":
            return _memory_failure(fields)
        if source == "thermal":
            celsius = int(fields["status"]) / 1000
            level = "critical" if severity == "fatal" else "hot"
            return f"{device or 'a thermal zone'} is {level}: {celsius:g} °C"
        if source in ("threshold", "deferred"):
            which = "corrected errors" if source == "threshold" else "deferred errors"
            return f"CPU {fields['cpu']} raised its interrupt for {which}"
        where = f" of {device}" if device else ""
        where += f", CPU {fields['cpu']}" if source == "arm" else ""
        return f"{_SOURCES.get(source, source)}{where}: {many}{what}"


def _kind(source: str, severity: str, status: int) -> str:
    if source == "aer":
        names = _AER_CORRECTED if severity == "corrected" else _AER_UNCORRECTED
        return ", ".join(name for bit, name in names.items() if status >> bit & 1)
    code = status & 0xEFFF  # without the bit that says "filtered"
    return next((name for bit, name in _MCE_KINDS if code >= bit), "")


def _memory_failure(fields: dict[str, Any]) -> str:
    """The kernel's own words for the type of page and for the result, from its BTF."""
    result = kernel_enum("mf_result").get(int(fields["status"]), str(fields["status"]))
    kind = kernel_enum("mf_action_page_type").get(int(fields["detail"]), "")
    fields["kind"] = kind
    page = f"{int(fields['address']):#x}"
    return f"memory of page {page} ({kind or 'unknown type'}) is broken: {result}"
