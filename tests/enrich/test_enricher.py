"""Events: every meaning of a field, from made records."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
import numpy as np
import pytest

from huatuo.enrich import enricher as module
from huatuo.enrich.enricher import Enricher
from huatuo.model.event import Process
from huatuo.model.meaning import MEANINGS
from huatuo.model.record import Field, RecordBatch, Schema
from huatuo.probes.base import Probe
from tests.enrich.conftest import SECOND, Layout

A, B = "a" * 64, "b" * 64
Columns = dict[str, tuple[str, Any, Any]]


class Kill(Probe):
    titles: ClassVar = {"kills": "{victim_comm} of {container} lost {lost} after {wait} {nothing}"}
    subjects: ClassVar = {"kills": "victim_cgroup"}


class Decoding(Probe):
    titles: ClassVar = {"drops": "{protocol} from {packet}"}

    @staticmethod
    def describe(fields: dict[str, Any]) -> dict[str, Any]:
        return {"protocol": "TCP" if fields["packet"][0] == 6 else "UDP"}


class Telling(Probe):
    titles: ClassVar = {"drops": "never"}

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        fields["decoded"] = fields.pop("packet")[0]
        return f"packet {fields['decoded']}"


class Failing(Probe):
    @staticmethod
    def describe(fields: dict[str, Any]) -> dict[str, Any]:
        return {"x": fields["packet"][99]}


@pytest.fixture
def layout(make_layout: Callable[[str], Layout]) -> Layout:
    return make_layout("v2")


@pytest.fixture
def enricher(layout: Layout) -> Enricher:
    return Enricher(layout.host)


def batch(ring: str, columns: Columns, **fields: Field) -> RecordBatch:
    """Columns: name → (meaning, format, one record's value or a list of them)."""
    dtype = np.dtype([(name, kind) for name, (_, kind, _) in columns.items()])
    lists = {n: v if isinstance(v, list) else [v] for n, (_, _, v) in columns.items()}
    rows = np.zeros(max(len(values) for values in lists.values()), dtype)
    for name, values in lists.items():
        rows[name] = values
    schema = Schema(
        "record",
        dtype,
        tuple(fields.get(n) or Field(n, MEANINGS[m]) for n, (m, _, _) in columns.items()),
    )
    return RecordBatch("memory.oom", ring, schema, rows)


def test_the_whole_record(layout: Layout, enricher: Enricher) -> None:
    victim, trigger = layout.cgroup(f"/docker/{A}"), layout.cgroup("/system.slice/ssh.service")
    records = batch(
        "kills",
        {
            "time": ("ktime_ns_t", "u8", 1000 * SECOND + 123456789),
            "victim_cgroup": ("cgroup_id_t", "u8", victim),
            "trigger_cgroup": ("cgroup_id_t", "u8", trigger),
            "victim_tgid": ("tgid_t", "u4", 42),
            "victim_tid": ("tid_t", "u4", 43),
            "victim_comm": ("comm_t", "S16", b"worker\0garbage"),
            "trigger_tgid": ("tgid_t", "u4", 7),
            "lost": ("bytes_t", "u8", 3 << 20),
            "wait": ("duration_ns_t", "u8", 12_300_000),
            "scope": ("plain", "u4", 1),
            "score": ("plain", "i8", -3),
            "since": ("ktime_ns_t", "u8", 999 * SECOND),
        },
        scope=Field("scope", MEANINGS["plain"], labels={0: "global", 1: "cgroup"}),
    )
    (event,) = enricher.events(records, Kill)
    assert event.time == "2023-11-14T22:13:20.123456789Z"
    assert (event.probe, event.kind) == ("memory.oom", "kills")
    assert event.container is not None
    assert event.container.id == A
    assert event.process == Process(42, "worker", 43)
    assert event.title == f"worker of {A[:12]} lost 3 MiB after 12.3 ms {{nothing}}"
    assert event.fields == {
        "trigger_cgroup": "ssh.service",
        "victim_pid": 42,
        "victim_tid": 43,
        "victim_comm": "worker",
        "trigger_pid": 7,
        "lost_bytes": 3 << 20,
        "wait_ns": 12_300_000,
        "scope": "cgroup",
        "score": -3,
        "since": "2023-11-14T22:13:19.000000000Z",
    }
    assert json.loads(msgspec.json.encode(event))["fields"] == event.fields


def test_numbers_are_python_numbers(enricher: Enricher) -> None:
    records = batch(
        "kills", {"counts": ("plain", "(3,)u2", [[1, 2, 3]]), "n": ("count_t", "u8", 1)}
    )
    (event,) = enricher.events(records, Kill)
    assert event.fields == {"counts": [1, 2, 3], "n": 1}
    assert type(event.fields["n"]) is int


def test_nested_struct_becomes_an_object(enricher: Enricher) -> None:
    inner = [("current", "u8"), ("name", "S4")]
    records = batch("kills", {"memory": ("plain", inner, [(5, b"ab")])})
    (event,) = enricher.events(records, Kill)
    assert event.fields == {"memory": {"current": 5, "name": "ab"}}


def test_text_that_is_no_utf8(enricher: Enricher) -> None:
    (event,) = enricher.events(batch("kills", {"comm": ("comm_t", "S16", b"\xff\xfea")}), Kill)
    assert event.fields["comm"] == "\ufffd\ufffda"


def test_only_cgroup_is_the_subject_and_zero_is_nobody(layout: Layout, enricher: Enricher) -> None:
    inode = layout.cgroup(f"/docker/{A}")
    records = batch(
        "other", {"owner": ("cgroup_id_t", "u8", [inode, 0]), "tgid": ("tgid_t", "u4", [5, 0])}
    )
    first, second = enricher.events(records, Kill)
    assert first.container is not None
    assert first.container.id == A
    assert first.process == Process(5, "")
    assert second.container is None
    assert second.process is None
    assert second.fields == {"pid": 0}


def test_network_namespace_stands_in_for_the_cgroup(layout: Layout, enricher: Enricher) -> None:
    layout.cgroup(f"/docker/{A}")
    layout.process(100, f"/docker/{A}", 4026532100)
    layout.file("proc/100/net/igmp", "Idx\tDevice    : Count Querier\n3\teth0 :  1 V3\n")
    layout.file("sys/class/net/ens5/ifindex", "3\n")
    enricher._inventory.refresh()
    records = batch(
        "drops",
        {
            "cgroup": ("cgroup_id_t", "u8", [0, 0]),
            "netns": ("netns_t", "u4", [4026532100, 4026531840]),
            "ifindex": ("ifindex_t", "u4", [3, 3]),
            "rx_dev": ("ifindex_t", "u4", [0, 9]),
        },
    )
    first, second = enricher.events(records, Kill)
    assert first.container is not None
    assert first.container.id == A
    assert first.fields["ifindex"] == 3
    assert first.fields["interface"] == "eth0"
    assert first.fields["rx_dev"] == ""
    assert second.container is None
    assert second.fields["interface"] == "ens5"
    assert (second.fields["rx_dev"], second.fields["rx_dev_index"]) == ("if9", 9)


def test_symbols_and_stack(layout: Layout, enricher: Enricher) -> None:
    layout.file(
        "proc/kallsyms",
        "ffffffff81000000 T _text\nffffffff81000100 t helper\nffffffffc0000000 t mod_fn\t[mod]\n",
    )
    stack = [0xFFFFFFFF81000112, 0xFFFFFFFFC0000001, 0, 0xFFFFFFFF81000112]
    records = batch(
        "drops",
        {
            "location": ("kaddr_t", "u8", 0xFFFFFFFF81000104),
            "stack": ("kstack_t", "(4,)u8", [stack]),
        },
    )
    (event,) = enricher.events(records, Kill)
    assert event.fields == {"location": "helper+0x4"}
    assert event.stack == ["helper+0x12", "mod_fn+0x1 [mod]"]


def test_disk_and_blkcg(layout: Layout, enricher: Enricher) -> None:
    inode = layout.cgroup(f"/docker/{A}")
    layout.file("sys/devices/block/cciss!c0d0/uevent", "")
    (layout.host.sys / "dev/block").mkdir(parents=True)
    (layout.host.sys / "dev/block/8:16").symlink_to("../../devices/block/cciss!c0d0")
    records = batch(
        "slow",
        {"cgroup": ("blkcg_id_t", "u8", inode), "disk": ("disk_t", "u4", 8 << 20 | 16)},
    )
    (event,) = enricher.events(records, Kill)
    assert event.container is not None
    assert event.container.id == A
    assert event.fields == {"disk": "cciss/c0d0"}


def test_labels_of_a_kernel_enum(enricher: Enricher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "kernel_enum", {"skb_drop_reason": {2: "no_socket"}}.__getitem__)
    reason = Field("reason", MEANINGS["plain"], kernel_enum="skb_drop_reason")
    records = batch("drops", {"reason": ("plain", "u4", [2, 77])}, reason=reason)
    assert [e.fields["reason"] for e in enricher.events(records, Kill)] == ["no_socket", "77"]


PACKET: Columns = {"packet": ("packet_t", "(2,)u1", [[6, 255], [17, 0]])}


def test_probe_decodes_its_fields(enricher: Enricher) -> None:
    first, second = enricher.events(batch("drops", PACKET), Decoding)
    assert first.fields == {"packet": "06ff", "protocol": "TCP"}
    assert second.fields["protocol"] == "UDP"


def test_probe_gives_the_title_itself(enricher: Enricher) -> None:
    first, _ = enricher.events(batch("drops", PACKET), Telling)
    assert (first.title, first.fields) == ("packet 6", {"decoded": 6})


def test_what_cannot_be_decoded_stays_as_it_is(enricher: Enricher) -> None:
    first, _ = enricher.events(batch("drops", PACKET), Failing)
    assert first.fields == {"packet": "06ff"}
    assert first.title


def test_nothing_and_a_record_without_fields(enricher: Enricher) -> None:
    empty = batch("kills", {"time": ("ktime_ns_t", "u8", [1])})
    assert enricher.events(RecordBatch("p", "kills", empty.schema, empty.rows[:0]), Kill) == []
    assert len(enricher.events(empty, Kill)) == 1
    no_time = batch("kills", {"n": ("plain", "u4", 1)})
    (event,) = enricher.events(no_time, Kill)
    assert event.time == "2023-11-14T22:13:20.000000000Z"
