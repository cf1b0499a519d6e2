"""The store of one node: an SQLite file with compressed blocks, in the agent's own process."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from huatuo.errors import StoreError
from huatuo.model.event import Event
from huatuo.model.metric import Metric
from huatuo.model.profile import Line, Location, Profile, Samples
from huatuo.store import eventlog, history, incidents
from huatuo.store.base import EventQuery, Facet, MetricQuery, Series, Usage
from huatuo.store.codec import BadBlock
from huatuo.store.database import Database, DirectoryLock, is_corrupt, is_full
from huatuo.store.eventlog import EventLog
from huatuo.store.history import History
from huatuo.store.incidents import EmbeddedIncidents
from huatuo.store.profile import log as profile_log
from huatuo.store.profile import queries
from huatuo.store.profile.dictionary import drop_epochs
from huatuo.store.profile.log import ProfileLog
from huatuo.store.profiles import ProfileQuery, ProfileSeries
from huatuo.store.retention import delete_before, delete_oldest, oldest_ns

__all__ = ["EmbeddedStore"]

log = logging.getLogger(__name__)

_SCHEMA = (eventlog.SCHEMA + history.SCHEMA, profile_log.SCHEMA, incidents.SCHEMA)
_MILLISECOND = 1_000_000
_FULL_RATIO, _TARGET_RATIO = 0.95, 0.9  # of max_bytes: where retention by size begins and ends
_ROOM_BYTES = 1 << 20  # made at least, when the disk is full
_MAX_NOTICES = 20
_SYMBOLS = 512  # set at a time
_UPKEEP_SECONDS = 0.004  # after each snapshot; one step at least

T = TypeVar("T")


class EmbeddedStore:
    """See store/base.py. One thread at a time appends and expires; any thread reads.

    On a full disk the oldest data goes and the new is written; a damaged file is moved aside and
    an empty one begun. Both are told in `usage().notices`.
    """

    def __init__(self, directory: Path, *, max_bytes: int, max_age_seconds: float) -> None:
        """Raises StoreLocked if another agent has it, StoreError if it cannot be opened."""
        self.directory = directory
        self._max_bytes = max_bytes
        self._max_age_ns = int(max_age_seconds * 1e9)
        self._setup()
        self._lock: DirectoryLock | None = DirectoryLock(directory)
        try:
            self._database = self._open()
        except BaseException:
            self._lock.release()
            raise

    def _setup(self) -> None:
        self._notices: dict[str, None] = {}
        self._notices_lock = threading.Lock()
        self._lost_events = self._lost_snapshots = self._lost_samples = 0
        self._events = EventLog(self._notice)
        self._history = History(self._notice)
        self._samples = ProfileLog(self._notice)
        self.profiles = EmbeddedProfiles(self)
        self.incidents = EmbeddedIncidents(lambda: self._database, self._reading, self._notice)

    @classmethod
    def open_readonly(cls, directory: Path) -> EmbeddedStore:
        """Beside a running agent, or without one. Raises StoreError."""
        store = cls.__new__(cls)
        store.directory = directory
        store._setup()
        store._lock = None
        store._database = Database(directory, _SCHEMA, readonly=True)
        return store

    def _open(self) -> Database:
        for attempt in (1, 2):
            try:
                database = Database(self.directory, _SCHEMA, max_bytes=self._max_bytes)
                with database.write() as db:
                    self._events.open(db)
                    self._samples.fit(database.room(db))
                return database
            except (sqlite3.Error, OSError) as error:
                corrupt = isinstance(error, sqlite3.Error) and is_corrupt(error)
                if attempt == 2 or not corrupt:
                    raise StoreError(
                        f"{self.directory}: the store cannot be opened: {error}"
                    ) from error
                self._move_aside(error)
        raise AssertionError("unreachable")

    def _move_aside(self, error: Exception) -> None:
        where = Database.move_aside(self.directory)
        self._notice(f"{self.directory}: the store was damaged ({error}); moved to {where.name},"
                     " an empty one was begun")  # fmt: skip

    def _notice(self, message: str) -> None:
        with self._notices_lock:
            if message in self._notices:
                return
            self._notices[message] = None
            for oldest in list(self._notices)[:-_MAX_NOTICES]:
                del self._notices[oldest]
        log.warning("%s", message)

    # -- writing -------------------------------------------------------------------------------

    def append_events(self, events: Sequence[Event]) -> list[Event]:
        if not events:
            return []

        def write() -> list[Event]:
            with self._database.write() as db:
                stored = self._events.append(db, events)
            self._events.appended(len(stored))
            return stored

        try:
            stored = self._persist(write)
        except sqlite3.Error as error:
            self._lost_events += len(events)
            self._notice(f"{self.directory}: events are lost: {error}")
            return [msgspec.structs.replace(event, id=0) for event in events]
        self._try(self._compact_events)
        return stored

    def _compact_events(self) -> None:
        while self._events.needs_compaction():
            with self._database.write() as db:
                self._events.compact(db)
                self._events.recount(db)

    def append_metrics(self, time_ns: int, metrics: Iterable[Metric]) -> None:
        rounded = time_ns - time_ns % _MILLISECOND
        snapshot = list(metrics)

        def write() -> None:
            with self._database.write() as db:
                self._history.append(db, rounded, snapshot)

        try:
            self._persist(write)
        except sqlite3.Error as error:
            self._lost_snapshots += 1
            self._notice(f"{self.directory}: snapshots of metrics are lost: {error}")
            return
        self._try(lambda: self._upkeep(rounded))

    def _append_samples(self, samples: Samples) -> None:
        if not len(samples):
            return

        def write() -> None:
            with self._database.write() as db:
                self._samples.append(db, samples)

        try:
            self._persist(write)
        except sqlite3.Error as error:
            self._lost_samples += len(samples)
            self._notice(f"{self.directory}: samples of profiles are lost: {error}")
            return
        self._try(self._join_samples)

    def _join_samples(self) -> None:
        while self._samples.is_due():
            with self._database.write() as db:
                self._samples.step(db)

    def _set_lines(self, lines: Mapping[Location, tuple[Line, ...]]) -> int:
        """Some hundred in each transaction, so that each is short."""
        changed = 0
        items = list(lines.items())
        for first in range(0, len(items), _SYMBOLS):
            part = dict(items[first : first + _SYMBOLS])

            def write(part: Mapping[Location, tuple[Line, ...]] = part) -> int:
                with self._database.write() as db:
                    return self._samples.set_lines(db, part)

            try:
                changed += self._persist(write)
            except sqlite3.Error as error:
                self._notice(f"{self.directory}: symbols of profiles are lost: {error}")
        return changed

    def _upkeep(self, now_ns: int) -> None:
        """Each step in its own transaction, so that the lock is free in between."""
        deadline = time.perf_counter() + _UPKEEP_SECONDS
        while self._history.is_due(now_ns) and time.perf_counter() < deadline:
            with self._database.write() as db:
                self._history.step(db, now_ns)

    def _try(self, work: Callable[[], object]) -> None:
        """Upkeep; what fails now is done another time."""
        try:
            work()
        except sqlite3.Error as error:
            self._forget()
            self._repair(error, attempt=1)

    def _forget(self) -> None:
        """The last transaction failed."""
        self._history.forget()
        self._samples.forget()

    def _persist(self, write: Callable[[], T]) -> T:
        """Again after what can be repaired, twice. Raises sqlite3.Error."""
        attempt = 1
        while True:
            try:
                return write()
            except sqlite3.Error as error:
                self._forget()
                if attempt > 2 or not self._repair(error, attempt):
                    raise
            attempt += 1

    def _repair(self, error: sqlite3.Error, attempt: int) -> bool:
        """Whether it makes sense to try again."""
        try:
            if is_corrupt(error):
                self._database.close()
                self._move_aside(error)
                self._database = self._open()
                return True
            if is_full(error):
                self._notice(f"{self.directory}: {error}; the oldest data goes")
                self._make_room(thoroughly=attempt > 1)
                return True
        except (sqlite3.Error, StoreError, OSError) as failure:
            self._notice(f"{self.directory}: {failure}")
        return False

    def _make_room(self, thoroughly: bool) -> None:
        """Free pages inside the file, which is enough at our own limit; thoroughly: on the disk."""
        if not thoroughly:
            try:
                self._shrink(by=_ROOM_BYTES)
                return
            except sqlite3.Error as error:
                if not is_full(error):
                    raise
        self._database.spend_reserve()
        self._shrink(by=_ROOM_BYTES + self._database.reserve_bytes)
        with suppress(sqlite3.Error):  # what is free inside the file is enough for now
            self._database.give_back(all_pages=True)
        self._database.keep_reserve()

    def _shrink(self, by: int) -> None:
        """Delete the oldest until this many bytes, or a twentieth of everything, are free."""
        with self._database.write() as db:
            used = self._database.used_bytes(db)
            target = used - max(by, used // 20)
            self._samples.fit(used)  # there was no room for more
            while self._database.used_bytes(db) > target and delete_oldest(db):
                pass
            self._recount(db)

    def expire(self, now_ns: int) -> int:
        try:
            with self._database.write() as db:
                before = self._database.used_bytes(db)
                delete_before(db, now_ns - self._max_age_ns)
                self._history.catalog.collect_garbage(db, oldest_ns(db) or now_ns)
            used = self._drop_epochs()
            if used > self._max_bytes * _FULL_RATIO:
                self._shrink(by=used - int(self._max_bytes * _TARGET_RATIO))
            self._database.give_back()
            if not self._database.keep_reserve():
                self._make_room(thoroughly=True)
            with self._database.read() as db:
                return max(before - self._database.used_bytes(db), 0)
        except sqlite3.Error as error:
            self._forget()
            self._repair(error, attempt=1)
            return 0

    def _drop_epochs(self) -> int:
        """Some of them in each transaction, so that each is short; returns what is used then."""
        while True:
            with self._database.write() as db:
                if not drop_epochs(db):
                    self._recount(db)
                    self._samples.fit(self._database.room(db))
                    return self._database.used_bytes(db)

    def _recount(self, db: sqlite3.Connection) -> None:
        """After deleting."""
        self._events.recount(db)
        self._samples.recheck(db)

    def close(self) -> None:
        self._database.close()
        if self._lock is not None:
            self._lock.release()

    # -- reading -------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._database.read() as db:
                yield db
        except (sqlite3.Error, BadBlock) as error:
            raise StoreError(f"{self.directory}: the store cannot be read: {error}") from error

    def events(self, query: EventQuery) -> list[Event]:
        with self._reading() as db:
            return self._events.find(db, query)

    def event(self, event_id: int) -> Event | None:
        with self._reading() as db:
            return self._events.get(db, event_id)

    def event_histogram(self, query: EventQuery, buckets: int) -> list[tuple[int, dict[str, int]]]:
        with self._reading() as db:
            return self._events.histogram(db, query, buckets)

    def facets(self, query: EventQuery, fields: Sequence[str]) -> list[Facet]:
        with self._reading() as db:
            return self._events.facets(db, query, fields)

    def metric_names(self) -> list[tuple[str, str, str, list[str]]]:
        with self._reading() as db:
            return self._history.catalog.names(db)

    def metrics(self, query: MetricQuery) -> list[Series]:
        with self._reading() as db:
            return self._history.query(db, query)

    def usage(self) -> Usage:
        with self._reading() as db:
            (series,) = db.execute("SELECT count(*) FROM series").fetchone()
            size = self._database.used_bytes(db) + self._database.wal_bytes()
            events, oldest = self._events.count(db), oldest_ns(db)
            samples = self._samples.count(db)
        with self._notices_lock:
            notices = tuple(self._notices)
        return Usage(
            size,
            events,
            oldest,
            series,
            self._lost_events,
            self._lost_snapshots,
            notices,
            samples,
            self._lost_samples,
        )


class EmbeddedProfiles:
    """See store/profiles.py: the profiles of an EmbeddedStore, in its file."""

    def __init__(self, store: EmbeddedStore) -> None:
        self._store = store

    def append(self, samples: Samples) -> None:
        self._store._append_samples(samples)

    def set_lines(self, lines: Mapping[Location, tuple[Line, ...]]) -> int:
        return self._store._set_lines(lines)

    def types(self, start_ns: int, end_ns: int) -> list[str]:
        with self._store._reading() as db:
            return self._store._samples.types(db, start_ns, end_ns)

    def labels(self, query: ProfileQuery) -> dict[str, list[str]]:
        with self._store._reading() as db:
            return queries.labels(db, self._store._samples, query)

    def merge(self, query: ProfileQuery) -> Profile:
        with self._store._reading() as db:
            return queries.merge(db, self._store._samples, query, self._store._notice)

    def series(
        self, query: ProfileQuery, step_ns: int, by: Sequence[str] = (), spread: bool = False
    ) -> list[ProfileSeries]:
        with self._store._reading() as db:
            return queries.series(db, self._store._samples, query, step_ns, by, spread)
