"""Packets that network hardware dropped itself, as it reports them through devlink."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from huatuo.kernel.host import Host
from huatuo.kernel.vmlinux import kernel_enum
from huatuo.probes.bpf import BpfProbe
from huatuo.probes.net.packet import captured_layers, summary

__all__ = ["Trap"]


class Trap(BpfProbe):
    """Packets that a network card or switch dropped itself, by the name of the trap, with headers.

    Hardware drops silently unless the administrator sets a trap's action to `trap`, as with
    `devlink trap set`; then each such packet is counted here, and a limited number recorded. Traps
    of type exception and control are packets that hardware hands over, and no drops.

    Hooks: devlink:devlink_trap_report (net/devlink/trap.c).
    Kernels: with CONFIG_NET_DEVLINK.
    Cost: about 1 µs per packet that is trapped; drivers limit their number.
    """

    priority = 70
    titles: ClassVar[Mapping[str, str]] = {"trapped_packets": "hardware trapped a packet: {trap}"}

    @classmethod
    def unavailable(cls, host: Host) -> str:
        known = kernel_enum("devlink_trap_type")
        return super().unavailable(host) or (
            "" if known else "this kernel is built without devlink"
        )

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        """Replace the captured bytes by the headers in them; returns the event's title."""
        layers = captured_layers(fields)
        what = summary(layers) or f"packet of {fields.get('length_bytes', 0)} bytes"
        act = "dropped" if fields["type"] == "drop" else "handed over"
        return f"{what} {act} by {fields['interface'] or 'a device'}: {fields['trap']}"
