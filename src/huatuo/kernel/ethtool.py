"""What drivers say of their devices, by the ethtool ioctl (linux/ethtool.h)."""

from __future__ import annotations

import ctypes as c
import fcntl
import socket
import struct
from dataclasses import dataclass

from huatuo.kernel.netlink import text

__all__ = ["Driver", "driver", "statistics"]

_SIOCETHTOOL = 0x8946
_GET_DRIVER, _GET_STRINGS, _GET_STATISTICS, _GET_SET_SIZES = 0x03, 0x1B, 0x1D, 0x37
_STATISTICS = 1  # ETH_SS_STATS
_STRING_BYTES = 32
_DRIVER = struct.Struct("=I32s32s32s32s32s12sIIIII")
_MOST = 65536  # a driver that claims more is not asked


@dataclass(frozen=True, slots=True)
class Driver:
    """The driver of a device; `version` is often the kernel's, `firmware` often empty."""

    name: str
    version: str
    firmware: str
    bus: str


def driver(asking: socket.socket, device: str) -> Driver:
    """`asking` is any socket of the device's namespace. OSError where the device has no driver."""
    buffer = c.create_string_buffer(struct.pack("=I", _GET_DRIVER), _DRIVER.size)
    _ask(asking, device, buffer)
    _, name, version, firmware, bus, *_ = _DRIVER.unpack(buffer.raw)
    return Driver(text(name), text(version), text(firmware), text(bus))


def statistics(asking: socket.socket, device: str) -> list[tuple[str, int]]:
    """The driver's own counters in its order; names may be repeated. OSError if it has none."""
    sizes = c.create_string_buffer(struct.pack("=IIQI", _GET_SET_SIZES, 0, 1 << _STATISTICS, 0), 24)
    _ask(asking, device, sizes)
    (known,) = struct.unpack_from("=Q", sizes.raw, 8)
    (count,) = struct.unpack_from("=I", sizes.raw, 16)
    if not known or not 0 < count <= _MOST:
        return []
    strings = c.create_string_buffer(
        struct.pack("=III", _GET_STRINGS, _STATISTICS, count), 12 + count * _STRING_BYTES
    )
    _ask(asking, device, strings)
    values = c.create_string_buffer(struct.pack("=II", _GET_STATISTICS, count), 8 + count * 8)
    _ask(asking, device, values)
    names = strings.raw[12:]
    return [
        (text(names[at * _STRING_BYTES : (at + 1) * _STRING_BYTES]), value)
        for at, value in enumerate(struct.unpack_from(f"={count}Q", values.raw, 8))
    ]


def _ask(asking: socket.socket, device: str, buffer: c.Array[c.c_char]) -> None:
    request = struct.pack("16sP16x", device.encode()[:15], c.addressof(buffer))
    fcntl.ioctl(asking, _SIOCETHTOOL, request)
