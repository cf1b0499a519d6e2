"""Queueing disciplines as rtnetlink tells of them (linux/pkt_sched.h, linux/gen_stats.h)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from huatuo.errors import Malformed
from huatuo.kernel.netlink import Netlink, attributes, text

__all__ = ["Qdisc", "parse_qdisc", "qdiscs"]

_NEW_QDISC, _GET_QDISC = 36, 38
_MESSAGE = struct.Struct("=BxxxiIII")  # struct tcmsg: family, device, handle, parent, info
_KIND, _STATISTICS = 1, 7
_BASIC, _QUEUE, _PACKETS64 = 1, 3, 8
_ROOT, _INGRESS = 0xFFFFFFFF, 0xFFFFFFF1


@dataclass(frozen=True, slots=True)
class Qdisc:
    """One queueing discipline; `level` is root, child or ingress."""

    device: int
    kind: str
    level: str
    bytes: int = 0
    packets: int = 0
    queued: int = 0
    backlog: int = 0  # bytes
    drops: int = 0
    requeues: int = 0
    overlimits: int = 0


def qdiscs(netlink: Netlink) -> Iterator[Qdisc]:
    """All of the socket's namespace."""
    for kind, payload in netlink.dump(_GET_QDISC, bytes(_MESSAGE.size)):
        if kind == _NEW_QDISC:
            yield parse_qdisc(payload)


def parse_qdisc(payload: bytes) -> Qdisc:
    """Raises Malformed, or struct.error, on what is none."""
    if len(payload) < _MESSAGE.size:
        raise Malformed("rtnetlink", "a queueing discipline without a header")
    _, device, _, parent, _ = _MESSAGE.unpack_from(payload)
    found = attributes(payload[_MESSAGE.size :])
    statistics = attributes(found.get(_STATISTICS, b""))
    size, packets = _unpacked("=QI", statistics.get(_BASIC, b""))
    if _PACKETS64 in statistics:
        (packets,) = _unpacked("=Q", statistics[_PACKETS64])
    queued, backlog, drops, requeues, overlimits = _unpacked("=5I", statistics.get(_QUEUE, b""))
    level = {_ROOT: "root", _INGRESS: "ingress"}.get(parent, "child")
    return Qdisc(
        device,
        text(found.get(_KIND, b"")),
        level,
        size,
        packets,
        queued,
        backlog,
        drops,
        requeues,
        overlimits,
    )


def _unpacked(form: str, data: bytes) -> tuple[int, ...]:
    """Zeros where there is nothing."""
    size = struct.calcsize(form)
    return struct.unpack_from(form, data.ljust(size, b"\0"))
