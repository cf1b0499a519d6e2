"""Priority flow control: pause frames sent and received per priority, from the DCB netlink."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from huatuo.errors import Malformed
from huatuo.kernel.host import Host
from huatuo.kernel.netlink import ROUTE, Netlink, attribute, attributes
from huatuo.kernel.netns import in_host_netns
from huatuo.probes.reader import Reader, Reading, counter, gauge

__all__ = ["PriorityFlowControl"]

_GET_DCB, _IEEE_GET = 78, 21  # linux/rtnetlink.h, linux/dcbnl.h
_IFNAME, _IEEE, _IEEE_PFC = 1, 13, 2
_MESSAGE = struct.Struct("=BBH")  # struct dcbmsg: family, command
_PFC = struct.Struct("=BBBxHxx8Q8Q")  # struct ieee_pfc
_PRIORITIES = 8

_ENABLED = gauge("enabled", "1 if the priority is paused by PFC", "device", "priority")
_PAUSES = counter("pause_frames", "PFC frames sent and received", "device", "priority", "direction")


class PriorityFlowControl(Reader):
    """PFC frames per priority: sent because we were full, received because the other end was.

    Reads: RTM_GETDCB of rtnetlink (net/dcb/dcbnl.c) of each device of hardware.
    Kernels: with CONFIG_DCB.
    Cost: one question per device of hardware.
    """

    priority = 60

    @classmethod
    def unavailable(cls, host: Host) -> str:
        if any(_asked(host, device) for device in _devices(host)):
            return ""
        return "no network device with DCB"

    @property
    def hooks(self) -> list[str]:
        return ["rtnetlink"]

    def parts(self) -> Iterator[Iterator[Reading]]:
        for device in _devices(self.host):
            yield self._device(device)

    def _device(self, device: str) -> Iterator[Reading]:
        answer = _asked(self.host, device)
        if not answer:
            return
        if len(answer) < _PFC.size:
            raise Malformed(device, f"a PFC state of {len(answer)} bytes")
        _, enabled, _, _, *counts = _PFC.unpack_from(answer)
        for priority in range(_PRIORITIES):
            key = (device, str(priority))
            yield _ENABLED, key, enabled >> priority & 1
            yield _PAUSES, (*key, "transmit"), counts[priority]
            yield _PAUSES, (*key, "receive"), counts[priority + _PRIORITIES]


def _devices(host: Host) -> list[str]:
    try:
        return sorted(p.name for p in (host.sys / "class/net").iterdir() if (p / "device").exists())
    except OSError:
        return []


def _asked(host: Host, device: str) -> bytes:
    """struct ieee_pfc of a device; empty if it has none."""

    def ask() -> bytes:
        request = _MESSAGE.pack(0, _IEEE_GET, 0) + attribute(_IFNAME, device.encode() + b"\0")
        with Netlink(ROUTE) as netlink:
            for _, body in netlink.ask(_GET_DCB, request):
                ieee = attributes(body[_MESSAGE.size :]).get(_IEEE, b"")
                return attributes(ieee).get(_IEEE_PFC, b"")
        return b""

    try:
        return in_host_netns(host, ask)
    except OSError:
        return b""
