"""The kernel's log, read as it grows (Documentation/ABI/testing/dev-kmsg)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from huatuo.kernel.host import Host

__all__ = ["Kmsg", "Line"]

_LONGEST = 8192
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")  # whatever is not printable ASCII, and backslashes
_MOST_LINES = 1000  # of one call, so that a storm does not hold the caller


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its priority (0 to 7, smaller is worse) and its text."""

    priority: int
    text: str


class Kmsg:
    """Lines written after it was opened. OSError if the log cannot be read."""

    def __init__(self, host: Host) -> None:
        self._fd = os.open(host.root / "dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self._fd, 0, os.SEEK_END)

    def lines(self) -> Iterator[Line]:
        """What came since the last call; lines that were overwritten unread are skipped."""
        for _ in range(_MOST_LINES):
            try:
                record = os.read(self._fd, _LONGEST)
            except BlockingIOError:
                return
            except BrokenPipeError:  # overwritten: the next read goes on behind the gap
                continue
            head, _, rest = record.partition(b";")
            text = _ESCAPED.sub(_byte, rest.partition(b"\n")[0])
            with suppress(ValueError):
                yield Line(int(head.split(b",")[0]) & 7, text.decode(errors="replace"))

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _byte(escaped: re.Match[bytes]) -> bytes:
    return bytes.fromhex(escaped[1].decode())
