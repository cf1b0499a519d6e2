"""The folder of symbol tables: one file each, the least recently used removed beyond a size.

A table is written under a passing name and renamed when it is whole, so that a kill at any moment
leaves the folder usable. Times of last use are the files' modification times.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path

from huatuo.enrich.symbols.layer import empty
from huatuo.enrich.symbols.table import Source, Table, write
from huatuo.errors import Malformed

__all__ = ["Cache"]

log = logging.getLogger(__name__)

_TABLE, _PASSING = ".sym", ".tmp"
_ABANDONED_SECONDS = 3600
_RETRY_SECONDS = 24 * 3600
_ROOM_AFTER_REMOVAL = 0.9


class Cache:
    """Raises OSError if `directory` cannot be made."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.directory = directory
        self._max_bytes = max_bytes
        self._passing = 0
        self._tidy()

    def open(self, key: str) -> tuple[Table | None, bool]:
        """(the table, whether it should be built (again)).

        There may be both: one to use until a better one is there. Failures, and tables that lack
        what could not be downloaded, are tried again after a day.
        """
        path = self._path(key)
        try:
            table = Table(path)
        except FileNotFoundError:
            return None, True
        except (OSError, Malformed) as error:
            log.warning("%s; it is built again", error)
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            return None, True
        with contextlib.suppress(OSError):
            os.utime(path)
        return table, self.is_due(table)

    def is_due(self, table: Table) -> bool:
        """Whether it failed, or lacks something, and has been like that for a day."""
        is_poor = bool(table.sources & (Source.FAILED | Source.PARTIAL))
        return is_poor and time.time() - table.created > _RETRY_SECONDS

    def new(self) -> tuple[Path, int]:
        """A passing file to write a table to: (where, descriptor). OSError if the disk is full."""
        self._passing += 1
        path = self.directory / f"{os.getpid()}-{self._passing}{_PASSING}"
        return path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def keep(self, passing: Path, key: str) -> str:
        """Give a written table its name; the problem if it is none, and "" if all went well."""
        try:
            Table(passing).close()
            passing.rename(self._path(key))
        except (OSError, Malformed) as error:
            passing.unlink(missing_ok=True)
            return str(error)
        self._make_room()
        return ""

    def keep_failure(self, key: str) -> None:
        """Remember, over restarts too, that this file has no table."""
        with contextlib.suppress(OSError):
            passing, fd = self.new()
            try:
                write(fd, empty(), Source.FAILED, int(time.time()))
            finally:
                os.close(fd)
            self.keep(passing, key)

    def _path(self, key: str) -> Path:
        return self.directory / f"{key}{_TABLE}"

    def _make_room(self) -> None:
        found = []
        for path in self.directory.glob(f"*{_TABLE}"):
            with contextlib.suppress(OSError):
                status = path.stat(follow_symlinks=False)
                found.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in found)
        if total <= self._max_bytes:
            return
        for _, size, path in sorted(found):
            if total <= self._max_bytes * _ROOM_AFTER_REMOVAL:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size

    def _tidy(self) -> None:
        """Remove what a killed agent was writing; another one may be at work beside us."""
        for path in self.directory.glob(f"*{_PASSING}"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    path.unlink()
        self._make_room()
