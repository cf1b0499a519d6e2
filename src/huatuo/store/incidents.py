"""What a store can do with incidents. Every implementation passes tests/contracts/incidents.py.

They are few and worth more than the data they are made of, so they have a retention of their own:
by age and by number, not by the size of the store. As everywhere in the store: writing never
raises for what the disk does, reading raises StoreError.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from huatuo.errors import StoreError
from huatuo.model.incident import Incident, IncidentFile
from huatuo.store.codec import BadBlock, compress, decompress
from huatuo.store.database import Database

__all__ = ["SCHEMA", "EmbeddedIncidents", "IncidentStore"]

SCHEMA = """
CREATE TABLE incidents (id INTEGER PRIMARY KEY AUTOINCREMENT, time_ns INTEGER, data BLOB);
CREATE INDEX incidents_by_time ON incidents (time_ns);
CREATE TABLE incident_files (
    incident INTEGER, name TEXT, data BLOB, PRIMARY KEY (incident, name)
)
"""
_MOST = 1000
_LARGEST_FILE = 4 << 20
_decode = msgspec.json.Decoder(Incident).decode


class IncidentStore(Protocol):
    def put(self, incident: Incident, files: Sequence[IncidentFile] = ()) -> Incident:
        """Store a new one (id 0), which comes back with its id, or one again, with more evidence
        and files; id 0 comes back if it could not be kept. Files above 4 MiB are left out."""

    def get(self, incident_id: int) -> Incident | None: ...

    def file(self, incident_id: int, name: str) -> bytes | None: ...

    def list(self, start_ns: int = 0, end_ns: int = 2**63 - 1, limit: int = 100) -> list[Incident]:
        """Those that began in the range, newest first."""

    def expire(self, before_ns: int) -> None:
        """Remove what began before, and the oldest beyond a thousand."""


class EmbeddedIncidents:
    """In an EmbeddedStore's file; any thread reads and writes."""

    def __init__(
        self,
        database: Callable[[], Database],
        reading: Callable[[], AbstractContextManager[sqlite3.Connection]],
        notice: Callable[[str], None],
    ) -> None:
        self._database, self._reading, self._notice = database, reading, notice

    def put(self, incident: Incident, files: Sequence[IncidentFile] = ()) -> Incident:
        kept = [file for file in files if len(file.data) <= _LARGEST_FILE]
        names = sorted({*incident.files, *(file.name for file in kept)})
        incident = msgspec.structs.replace(incident, files=names)
        try:
            with self._database().write() as db:
                return self._put(db, incident, kept)
        except (sqlite3.Error, StoreError) as error:
            self._notice(f"an incident could not be stored: {error}")
            return incident

    @staticmethod
    def _put(db: sqlite3.Connection, incident: Incident, files: Sequence[IncidentFile]) -> Incident:
        data = compress(msgspec.json.encode(msgspec.structs.replace(incident, id=0)))
        if incident.id:
            db.execute("UPDATE incidents SET data = ? WHERE id = ?", (data, incident.id))
        else:
            query = "INSERT INTO incidents (time_ns, data) VALUES (?, ?)"
            number = db.execute(query, (incident.time_ns, data)).lastrowid
            incident = msgspec.structs.replace(incident, id=number)
        for file in files:
            db.execute(
                "INSERT OR REPLACE INTO incident_files VALUES (?, ?, ?)",
                (incident.id, file.name, file.data),
            )
        return incident

    def get(self, incident_id: int) -> Incident | None:
        with self._reading() as db:
            query = "SELECT id, data FROM incidents WHERE id = ?"
            row = db.execute(query, (incident_id,)).fetchone()
            return _incident(*row) if row else None

    def file(self, incident_id: int, name: str) -> bytes | None:
        with self._reading() as db:
            query = "SELECT data FROM incident_files WHERE incident = ? AND name = ?"
            row = db.execute(query, (incident_id, name)).fetchone()
            return bytes(row[0]) if row else None

    def list(self, start_ns: int = 0, end_ns: int = 2**63 - 1, limit: int = 100) -> list[Incident]:
        with self._reading() as db:
            rows = db.execute(
                "SELECT id, data FROM incidents WHERE time_ns BETWEEN ? AND ?"
                " ORDER BY time_ns DESC, id DESC LIMIT ?",
                (start_ns, end_ns, limit),
            )
            return [_incident(number, data) for number, data in rows]

    def expire(self, before_ns: int) -> None:
        oldest = "SELECT id FROM incidents ORDER BY id DESC LIMIT -1 OFFSET ?"
        try:
            with self._database().write() as db:
                db.execute("DELETE FROM incidents WHERE time_ns < ?", (before_ns,))
                db.execute(f"DELETE FROM incidents WHERE id IN ({oldest})", (_MOST,))
                db.execute(
                    "DELETE FROM incident_files WHERE incident NOT IN (SELECT id FROM incidents)"
                )
        except (sqlite3.Error, StoreError) as error:
            self._notice(f"old incidents could not be removed: {error}")


def _incident(number: int, data: bytes) -> Incident:
    try:
        return msgspec.structs.replace(_decode(decompress(data)), id=number)
    except msgspec.DecodeError as error:
        raise BadBlock(f"incident {number} cannot be read: {error}") from error
