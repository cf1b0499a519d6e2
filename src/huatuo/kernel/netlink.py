"""Netlink: asking the kernel for tables, and being told of changes. Format: linux/netlink.h.

with Netlink(ROUTE) as netlink:
    for kind, payload in netlink.dump(RTM_GETLINK, bytes(16)): …
    attributes(payload[16:])
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator

from huatuo.errors import Malformed

__all__ = [
    "ROUTE",
    "SOCK_DIAG",
    "Netlink",
    "Overrun",
    "attribute",
    "attributes",
    "each_attribute",
    "text",
]

ROUTE, SOCK_DIAG = 0, 4  # include/uapi/linux/netlink.h: NETLINK_…
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_BUFFER = 1 << 18
_TIMEOUT_SECONDS = 5.0
_NETLINK, _ADD_MEMBERSHIP = 270, 1
Message = tuple[int, bytes]


class Overrun(Exception):  # noqa: N818  (what happened, not an error of ours)
    """Changes came faster than they were read: some are lost."""


class Netlink:
    """One socket of the network namespace in which it is made.

    Raises OSError where the kernel refuses or lacks the protocol.
    """

    def __init__(self, protocol: int, groups: Iterable[int] = ()) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        self._sequence = 0
        try:
            self._socket.settimeout(_TIMEOUT_SECONDS)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER * 4)
            self._socket.bind((0, 0))
            for group in groups:
                self._socket.setsockopt(_NETLINK, _ADD_MEMBERSHIP, group)
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def fd(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def dump(self, kind: int, payload: bytes) -> Iterator[Message]:
        """All entries of a table as (type, payload). OSError if the kernel refuses.

        What changed meanwhile may be missing, or there twice.
        """
        self._send(kind, payload, _REQUEST | _DUMP)
        while True:
            for number, body in self._receive():
                if number == _DONE:
                    return
                if number == _ERROR:
                    _raise_if_error(body)
                    return
                yield number, body

    def ask(self, kind: int, payload: bytes) -> list[Message]:
        """The answer to one question. OSError if there is none."""
        self._send(kind, payload, _REQUEST | _ACK)
        found: list[Message] = []
        while True:
            for number, body in self._receive():
                if number == _ERROR:
                    _raise_if_error(body)
                    return found
                found.append((number, body))

    def changes(self) -> list[Message]:
        """What came since the last call. Raises Overrun once if some did not."""
        found: list[Message] = []
        self._socket.setblocking(False)
        try:
            while True:
                found += self._receive(any_sequence=True)
        except BlockingIOError:
            return found
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise Overrun from error
            raise
        finally:
            self._socket.settimeout(_TIMEOUT_SECONDS)

    def _send(self, kind: int, payload: bytes, flags: int) -> None:
        self._sequence += 1
        length = _HEADER.size + len(payload)
        header = _HEADER.pack(length, kind, flags, self._sequence, 0)
        self._socket.send(header + payload)

    def _receive(self, any_sequence: bool = False) -> Iterator[Message]:
        """The messages in one datagram from the kernel."""
        data, (sender, _) = self._socket.recvfrom(_BUFFER)
        if sender != 0:
            return  # another process: nobody's business
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
            if length < _HEADER.size or at + length > len(data):
                raise Malformed("netlink", f"a message of {length} bytes in {len(data) - at}")
            if any_sequence or sequence == self._sequence:
                yield kind, data[at + _HEADER.size : at + length]
            at += (length + 3) & ~3


def _raise_if_error(body: bytes) -> None:
    (code,) = struct.unpack_from("=i", body)
    if code:
        raise OSError(-code, os.strerror(-code))


def attributes(data: bytes) -> dict[int, bytes]:
    """Type → value. Of several of one type the last counts. Raises Malformed."""
    return dict(each_attribute(data))


def each_attribute(data: bytes) -> Iterator[tuple[int, bytes]]:
    """For lists, whose entries may all have one type. Raises Malformed."""
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size or at + length > len(data):
            raise Malformed("netlink", f"an attribute of {length} bytes in {len(data) - at}")
        yield kind & _TYPE_MASK, data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)


def text(value: bytes) -> str:
    return value.split(b"\0", 1)[0].decode(errors="replace")
