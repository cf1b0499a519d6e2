"""The health log of an NVMe disk, asked of its controller (NVM Express base specification, 5.14).

One admin command through the character device, as nvme-cli does it; needs CAP_SYS_ADMIN.
"""

from __future__ import annotations

import ctypes as c
import fcntl
import os
from dataclasses import dataclass

__all__ = ["Smart", "parse_smart", "read_smart"]

_ADMIN_COMMAND = 0xC0484E41  # _IOWR('N', 0x41, struct nvme_passthru_cmd), uapi/linux/nvme_ioctl.h
_GET_LOG_PAGE, _SMART_LOG, _WHOLE_CONTROLLER = 0x02, 0x02, 0xFFFFFFFF
_SIZE = 512
_TIMEOUT_MS = 1000
_KELVIN = 273
_UNIT = 512_000  # bytes: "thousands of 512 byte units"


class _Command(c.Structure):
    _fields_ = (
        ("opcode", c.c_uint8),
        ("flags", c.c_uint8),
        ("reserved", c.c_uint16),
        ("namespace", c.c_uint32),
        ("words_2_3", c.c_uint32 * 2),
        ("metadata", c.c_uint64),
        ("address", c.c_uint64),
        ("metadata_length", c.c_uint32),
        ("length", c.c_uint32),
        ("words_10_15", c.c_uint32 * 6),
        ("timeout_ms", c.c_uint32),
        ("result", c.c_uint32),
    )


@dataclass(frozen=True, slots=True)
class Smart:
    """Ratios are 0 to 1 (wear may exceed it); counts are of the disk's whole life."""

    warnings: int  # bits: spare, temperature, reliability, read-only, backup, persistent memory
    celsius: int
    spare_ratio: float
    spare_threshold_ratio: float
    wear_ratio: float
    read_bytes: int
    written_bytes: int
    power_on_seconds: int
    power_cycles: int
    unsafe_shutdowns: int
    media_errors: int
    hot_seconds: int  # above the warning temperature
    critical_seconds: int


def read_smart(path: str) -> Smart:
    """Of /dev/nvme0. OSError if the controller refuses or does not answer within a second."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        buffer = (c.c_char * _SIZE)()
        command = _Command(
            opcode=_GET_LOG_PAGE,
            namespace=_WHOLE_CONTROLLER,
            address=c.addressof(buffer),
            length=_SIZE,
            timeout_ms=_TIMEOUT_MS,
        )
        command.words_10_15[0] = _SMART_LOG | (_SIZE // 4 - 1) << 16
        if status := fcntl.ioctl(fd, _ADMIN_COMMAND, command):
            raise OSError(None, f"{path}: the controller answers with status {status:#x}")
        return parse_smart(buffer.raw)
    finally:
        os.close(fd)


def parse_smart(log: bytes) -> Smart:
    """The 512 bytes of the log page."""

    def number(at: int, size: int = 16) -> int:
        return int.from_bytes(log[at : at + size], "little")

    return Smart(
        warnings=log[0],
        celsius=max(number(1, 2) - _KELVIN, 0),
        spare_ratio=log[3] / 100,
        spare_threshold_ratio=log[4] / 100,
        wear_ratio=log[5] / 100,
        read_bytes=number(32) * _UNIT,
        written_bytes=number(48) * _UNIT,
        power_on_seconds=number(128) * 3600,
        power_cycles=number(112),
        unsafe_shutdowns=number(144),
        media_errors=number(160),
        hot_seconds=number(192, 4) * 60,
        critical_seconds=number(196, 4) * 60,
    )
