"""What every store of incidents does. A test module imports the class and has a fixture `store`."""

from __future__ import annotations

import msgspec

from huatuo.model.incident import Capture, FunctionShare, Incident, IncidentFile, Suspect
from huatuo.store.incidents import IncidentStore

__all__ = ["TestIncidents", "incident"]

START = 1_700_000_000_000_000_000
MINUTE = 60_000_000_000


def incident(serial: int, **changes: object) -> Incident:
    time_ns = START + serial * MINUTE
    made = Incident(
        time=f"2023-11-14T22:{13 + serial:02}:20Z",
        time_ns=time_ns,
        start_ns=time_ns - 5 * MINUTE,
        end_ns=time_ns,
        trigger="fork-storm",
        when="rate(cpu_usage_forks_total) > 300",
        per="host",
        target="",
        facts=[f"rate(forks) = {serial}"],
        suspects=[Suspect("web", 1.5)],
    )
    return msgspec.structs.replace(made, **changes)


class TestIncidents:
    def test_empty(self, incidents: IncidentStore) -> None:
        assert incidents.list() == []
        assert incidents.get(1) is None
        assert incidents.file(1, "cpu.pb.gz") is None

    def test_newest_first_within_a_range(self, incidents: IncidentStore) -> None:
        stored = [incidents.put(incident(n)) for n in range(5)]
        assert [each.id for each in stored] == sorted({each.id for each in stored})
        assert incidents.list() == stored[::-1]
        assert incidents.list(limit=2) == stored[:2:-1]
        found = incidents.list(START + MINUTE, START + 3 * MINUTE)
        assert found == [stored[3], stored[2], stored[1]]

    def test_evidence_is_added(self, incidents: IncidentStore) -> None:
        first, other = incidents.put(incident(0)), incidents.put(incident(1))
        files = [
            IncidentFile("cpu.pb.gz", b"\x00\xff" * 100),
            IncidentFile("big", b"x" * 5_000_000),
        ]
        capture = Capture(7, "cpu", "web", "done", profiles={
            "cpu": [FunctionShare("burn", "prog", 0.9, 0.95)]})  # fmt: skip
        more = msgspec.structs.replace(first, summary="内存", capture=capture)
        again = incidents.put(more, files)
        assert again == msgspec.structs.replace(more, files=["cpu.pb.gz"])
        assert incidents.get(first.id) == again
        assert incidents.get(other.id) == other
        assert incidents.file(first.id, "cpu.pb.gz") == b"\x00\xff" * 100
        assert incidents.file(first.id, "big") is None
        assert incidents.file(other.id, "cpu.pb.gz") is None

    def test_expiry(self, incidents: IncidentStore) -> None:
        stored = [incidents.put(incident(n), [IncidentFile("a", b"a")]) for n in range(4)]
        incidents.expire(START + 2 * MINUTE)
        assert incidents.list() == [stored[3], stored[2]]
        assert incidents.file(stored[0].id, "a") is None
        assert incidents.file(stored[2].id, "a") == b"a"
        assert incidents.put(incident(9)).id > stored[3].id

    def test_the_oldest_go_beyond_a_thousand(self, incidents: IncidentStore) -> None:
        stored = [incidents.put(incident(0)) for _ in range(1003)]
        incidents.expire(0)
        assert [each.id for each in incidents.list(limit=2000)] == [
            each.id for each in stored[:2:-1]
        ]
