"""Listening TCP sockets as sock_diag tells of them (linux/inet_diag.h): `ss -ltm`."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from huatuo.errors import Malformed
from huatuo.kernel.netlink import SOCK_DIAG, Netlink, attributes

__all__ = ["Listener", "listeners", "parse_listener"]

_BY_FAMILY = 20
_TCP, _LISTEN = 6, 10
_MEMORY, _CGROUP = 7, 21  # INET_DIAG_SKMEMINFO, INET_DIAG_CGROUP_ID
_DROPS = 8  # SK_MEMINFO_DROPS, linux/sock_diag.h
_REQUEST = struct.Struct("=BBBxI48x")  # struct inet_diag_req_v2: family, protocol, wanted, states
_MESSAGE_SIZE = 72  # struct inet_diag_msg


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket. `address` is 16 bytes, IPv4 as ::ffff:a.b.c.d.

    `waiting` connections are to be accepted, at most `limit` + 1. `drops`: connections that it
    refused so far. `cgroup`: on v2, 0 if this kernel does not say (before 5.8).
    """

    address: bytes
    port: int
    waiting: int
    limit: int
    drops: int = 0
    cgroup: int = 0
    cookie: int = 0  # the same socket has the same
    inode: int = 0  # as /proc/PID/fd has it


def listeners() -> list[Listener]:
    """All of this thread's namespace."""
    found = []
    with Netlink(SOCK_DIAG) as netlink:
        for family in (socket.AF_INET, socket.AF_INET6):
            request = _REQUEST.pack(family, _TCP, 1 << (_MEMORY - 1), 1 << _LISTEN)
            found += [parse_listener(body) for _, body in netlink.dump(_BY_FAMILY, request)]
    return found


def parse_listener(body: bytes) -> Listener:
    """Raises Malformed."""
    if len(body) < _MESSAGE_SIZE:
        raise Malformed("sock_diag", f"a socket of {len(body)} bytes")
    family = body[0]
    (port,) = struct.unpack_from(">H", body, 4)
    address = body[8:24]
    if family == socket.AF_INET:
        address = bytes(10) + b"\xff\xff" + body[8:12]
    (cookie,) = struct.unpack_from("=Q", body, 44)
    waiting, limit, _, inode = struct.unpack_from("=IIII", body, 56)
    found = attributes(body[_MESSAGE_SIZE:])
    memory = found.get(_MEMORY, b"")
    drops = struct.unpack_from("=I", memory, _DROPS * 4)[0] if len(memory) > _DROPS * 4 else 0
    cgroup = int.from_bytes(found.get(_CGROUP, b"")[:8], "little")
    return Listener(address, port, waiting, limit, drops, cgroup, cookie, inode)
