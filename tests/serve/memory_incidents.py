"""Incidents in a plain dictionary, for tests of the API."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from huatuo.model.incident import Incident, IncidentFile


class MemoryIncidents:
    def __init__(self) -> None:
        self._incidents: dict[int, Incident] = {}
        self._files: dict[tuple[int, str], bytes] = {}
        self._last = 0

    def put(self, incident: Incident, files: Sequence[IncidentFile] = ()) -> Incident:
        kept = {file.name: file.data for file in files if len(file.data) <= 4 << 20}
        if not incident.id:
            self._last += 1
        incident = msgspec.structs.replace(
            incident, id=incident.id or self._last, files=sorted({*incident.files, *kept})
        )
        self._incidents[incident.id] = incident
        self._files |= {(incident.id, name): data for name, data in kept.items()}
        return incident

    def get(self, incident_id: int) -> Incident | None:
        return self._incidents.get(incident_id)

    def file(self, incident_id: int, name: str) -> bytes | None:
        return self._files.get((incident_id, name))

    def list(self, start_ns: int = 0, end_ns: int = 2**63 - 1, limit: int = 100) -> list[Incident]:
        found = [i for i in self._incidents.values() if start_ns <= i.time_ns <= end_ns]
        return sorted(found, key=lambda i: (i.time_ns, i.id), reverse=True)[:limit]

    def expire(self, before_ns: int) -> None:
        kept = sorted(self._incidents)[-1000:]
        self._incidents = {n: self._incidents[n] for n in kept
                           if self._incidents[n].time_ns >= before_ns}  # fmt: skip
        self._files = {key: data for key, data in self._files.items() if key[0] in self._incidents}
