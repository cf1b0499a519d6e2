"""The SQLite file under the store: opening, locking, one writer, readers of their own.

WAL with synchronous=NORMAL: a commit survives kill -9 of the agent; a power cut may take the last
commits, but never the consistency of the file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from huatuo.errors import StoreError, StoreLocked

__all__ = ["Database", "DirectoryLock", "is_corrupt", "is_full"]

_PAGE = 4096
_RESERVE_BYTES = (
    4 << 20
)  # kept aside for the deletions that make room on a full disk; less if small
_CHECKPOINT_PAGES = 256  # of WAL; on a full disk the file must be able to grow by this much
_VACUUM_PAGES = 128
_FILE = "huatuo.db"
_IDLE_READERS = 2  # connections kept open for the next reader
_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)  # a full disk shows as either
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _code(error: sqlite3.Error) -> int:
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def is_full(error: sqlite3.Error) -> bool:
    return _code(error) in _FULL


def is_corrupt(error: sqlite3.Error) -> bool:
    return _code(error) in _CORRUPT


class DirectoryLock:
    """Held as long as the process lives; the kernel frees it whatever the process dies of."""

    def __init__(self, directory: Path) -> None:
        """Raises StoreLocked, StoreError."""
        path = directory / "lock"
        try:
            directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._file: TextIO = path.open("a+")
        except OSError as error:
            raise StoreError(
                f"{directory}: cannot keep the store here: {error.strerror};"
                " name another directory in [store] directory, or run with the rights to write it"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            holder = self._file.read().strip()
            self._file.close()
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise StoreError(f"{path}: cannot be locked: {error.strerror}") from error
            raise StoreLocked(
                f"{directory}: another agent{f' (pid {holder})' if holder else ''} writes this"
                " store; stop it, or give this one a directory of its own in [store] directory"
            ) from error
        with suppress(OSError):  # on a full disk the lock holds without its pid
            self._file.truncate(0)
            self._file.write(f"{os.getpid()}\n")
            self._file.flush()

    def release(self) -> None:
        self._file.close()


class Database:
    """One writing connection under a lock, and a pool of reading ones that any thread may use."""

    def __init__(
        self,
        directory: Path,
        schema: Sequence[str],
        *,
        readonly: bool = False,
        max_bytes: int = 0,
    ) -> None:
        """`schema`: what each version adds to the one before; a file of an older version is
        brought up. Raises StoreError, and sqlite3.DatabaseError if the file is damaged."""
        self.directory = directory
        self.path = directory / _FILE
        self._reserve = directory / "reserve"
        self.reserve_bytes = _reserve_bytes(directory)
        self._schema = schema
        self._lock = threading.RLock()  # of the writer
        self._idle_lock = threading.Lock()  # readers never wait for the writer
        self._idle: list[sqlite3.Connection] = []
        self._writer: sqlite3.Connection | None = None
        self._immutable = self._closed = False
        if readonly:
            self._open_readonly()
        else:
            self._open_writer(max_bytes)

    def _open_readonly(self) -> None:
        if not self.path.exists():
            raise StoreError(f"{self.directory}: there is no store here; has an agent run?")
        try:
            try:
                with self.read() as db:
                    version = self._check_version(db)
            except sqlite3.OperationalError:
                # Without write access and without an agent there is no way to take WAL's locks.
                wal = self.path.with_name(_FILE + "-wal")
                self._immutable = not wal.exists() or not wal.stat().st_size
                with self.read() as db:
                    version = self._check_version(db)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{self.path}: cannot be read: {error}") from error
        if version < len(self._schema):
            raise StoreError(
                f"{self.path}: written by an older HUATUO (store version {version}, this one reads"
                f" {len(self._schema)}); it is brought up when the agent of this version starts"
            )

    def _open_writer(self, max_bytes: int) -> None:
        db = self._connect("rwc")
        try:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only counts for a new file
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA secure_delete = OFF")  # Debian's default is to overwrite with zeros
            db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            db.execute(f"PRAGMA journal_size_limit = {4 << 20}")
            version = self._check_version(db)
            self._writer = db
            if version < len(self._schema):
                self.spend_reserve()  # the disk may be full, and the file at its limit
                with self.write():
                    for statement in ";".join(self._schema[version:]).split(";"):
                        db.execute(statement)
                    db.execute(f"PRAGMA user_version = {len(self._schema)}")
            if max_bytes:
                db.execute(f"PRAGMA max_page_count = {max(max_bytes // _PAGE, 64)}")
            for (table,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'"):
                db.execute(f'SELECT * FROM "{table}" ORDER BY rowid LIMIT 1').fetchone()
                db.execute(f'SELECT * FROM "{table}" ORDER BY rowid DESC LIMIT 1').fetchone()
        except BaseException:
            db.close()
            raise
        self.keep_reserve()

    def _connect(self, mode: str) -> sqlite3.Connection:
        immutable = "&immutable=1" if self._immutable else ""
        uri = f"{self.path.absolute().as_uri()}?mode={mode}{immutable}"
        db = sqlite3.connect(
            uri, uri=True, isolation_level=None, timeout=10, check_same_thread=False
        )
        db.execute("PRAGMA cache_size = -1024")
        db.execute("PRAGMA temp_store = MEMORY")
        return db

    def _check_version(self, db: sqlite3.Connection) -> int:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        known = len(self._schema)
        if version > known:
            raise StoreError(
                f"{self.path}: written by a newer HUATUO (store version {version}, this one knows"
                f" {known}); upgrade this one, or move the file away to begin anew"
            )
        return int(version)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it or nothing. Raises sqlite3.Error."""
        with self._lock:
            if self._writer is None:
                raise StoreError(f"{self.directory}: the store is closed or open for reading only")
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One consistent view of everything. Raises sqlite3.Error."""
        with self._idle_lock:
            db = self._idle.pop() if self._idle else None
        if db is None:
            db = self._connect("ro")
        try:
            db.execute("BEGIN")
            yield db
            db.execute("COMMIT")
        except BaseException:
            db.close()
            raise
        with self._idle_lock:
            if len(self._idle) < _IDLE_READERS and not self._closed:
                self._idle.append(db)
                return
        db.close()

    def used_bytes(self, db: sqlite3.Connection) -> int:
        """Pages in use; free pages are used again before the file grows."""
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        (free,) = db.execute("PRAGMA freelist_count").fetchone()
        return int(pages - free) * _PAGE

    def room(self, db: sqlite3.Connection) -> int:
        """What can be used, with what is used already: our own limit, or what the disk has."""
        (pages,) = db.execute("PRAGMA max_page_count").fetchone()
        limit = int(pages) * _PAGE
        with suppress(OSError):
            disk = os.statvfs(self.directory)
            return min(limit, self.used_bytes(db) + disk.f_bavail * disk.f_frsize)
        return limit

    def give_back(self, *, all_pages: bool = False) -> None:
        """Return free pages to the file system, once they are many; some thousand at a time."""
        with self._lock:
            if self._writer is None:
                return
            (pages,) = self._writer.execute("PRAGMA page_count").fetchone()
            (free,) = self._writer.execute("PRAGMA freelist_count").fetchone()
            if free <= (0 if all_pages else pages // 8 + 256):
                return
            # In steps, since the pages that move to the free places go through the WAL.
            # execute() would do a single page: it stops where a statement yields no columns.
            for _ in range(0, min(free, 4096), _VACUUM_PAGES):
                self._writer.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
                self.checkpoint()

    def spend_reserve(self) -> None:
        """On a full disk even deleting needs room: for the WAL, and for the file to take it up."""
        with suppress(OSError):
            self._reserve.unlink(missing_ok=True)
        self.checkpoint()

    def keep_reserve(self) -> bool:
        """Make the reserve again; False where the disk has no room for it."""
        try:
            if not self._reserve.exists():
                with self._reserve.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, self.reserve_bytes)
        except OSError:
            with suppress(OSError):
                self._reserve.unlink(missing_ok=True)
            return False
        return True

    def checkpoint(self) -> None:
        """Move the WAL into the file, as far as readers allow. Its blocks stay ours."""
        with self._lock, suppress(sqlite3.Error):
            if self._writer is not None:
                self._writer.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()

    def wal_bytes(self) -> int:
        with suppress(OSError):
            return self.path.with_name(_FILE + "-wal").stat().st_size
        return 0

    def close(self) -> None:
        with self._idle_lock:
            self._closed = True
            for db in self._idle:
                db.close()
            self._idle = []
        with self._lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    @staticmethod
    def move_aside(directory: Path) -> Path:
        """Rename a damaged file, for whoever wants to look; only the newest is kept."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        for old in directory.glob(_FILE + "*.corrupt-*"):
            old.unlink(missing_ok=True)
        for suffix in ("", "-wal", "-shm"):
            path = directory / (_FILE + suffix)
            with suppress(FileNotFoundError):
                path.rename(path.with_name(f"{path.name}.corrupt-{stamp}"))
        return directory / f"{_FILE}.corrupt-{stamp}"


def _reserve_bytes(directory: Path) -> int:
    """A sixteenth of a small disk."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return _RESERVE_BYTES
    return min(_RESERVE_BYTES, max(disk.f_blocks * disk.f_frsize // 16, _RESERVE_BYTES // 4))
