"""What net.drop does with a record after the kernel has written it."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from huatuo.kernel.host import Host
from huatuo.model.record import RecordBatch
from huatuo.probes.net.drop import Drop

SCHEMA = Drop.event_schemas()["drops"]


def test_reasons_come_from_the_running_kernel() -> None:
    field = SCHEMA.field("reason")
    assert field.kernel_enum.split(",")[0] == "skb_drop_reason"
    assert field.labels == {0: "not_given"}


def test_stack_begins_where_the_packet_was_dropped() -> None:
    rows = np.zeros(2, SCHEMA.dtype)
    rows["location"] = [0xB, 0xF]
    rows["stack"][:, :4] = [0xA, 0xB, 0xC, 0xD]
    batch = Drop(Host()).decode(RecordBatch("net.drop", "drops", SCHEMA, rows))
    assert batch.rows["stack"][0][:4].tolist() == [0xB, 0xC, 0xD, 0]
    assert batch.rows["stack"][1][:4].tolist() == [0xA, 0xB, 0xC, 0xD]  # not in it: as it was


def fields(**changes: Any) -> dict[str, Any]:
    given_fields: dict[str, Any] = {
        "packet": bytes(128),
        "captured": 0,
        "protocol": 0,
        "network_offset": 0,
        "family": 0,
        "reason": "no_socket",
        "location": "udp_rcv+0x10",
        "length_bytes": 12,
    }
    return given_fields | changes


def test_headers_replace_the_bytes() -> None:
    packet = (
        bytes.fromhex("4500001c00000000401100007f0000017f000002")
        + struct.pack(">HHHH", 1024, 53, 8, 0)
        + b"secret"
    )
    found = fields(packet=packet.ljust(128, b"\0"), captured=len(packet), protocol=0x0800)
    title = Drop.describe(found)
    assert title == "UDP 127.0.0.1:1024 → 127.0.0.2:53 dropped: no_socket at udp_rcv"
    assert found["headers"]["udp"] == {"src_port": 1024, "dst_port": 53, "length": 8}
    assert found["protocol"] == "0x0800"
    assert "secret" not in repr(found)
    assert not {"packet", "captured", "network_offset"} & set(found)


def test_a_socket_without_headers() -> None:
    title = Drop.describe(fields(family=1))
    assert title == "unix packet of 12 bytes dropped: no_socket at udp_rcv"


def test_only_captured_bytes_are_decoded() -> None:
    packet = bytes.fromhex("4500001c00000000401100007f0000017f000002").ljust(128, b"\0")
    found = fields(packet=packet, captured=20, protocol=0x0800)
    Drop.describe(found)
    assert "udp" not in found["headers"]
    assert found["headers"]["truncated"]


@given(st.binary(min_size=128, max_size=128), st.integers(0, 128), st.integers(0, 65535))
def test_any_record_can_be_described(packet: bytes, captured: int, protocol: int) -> None:
    Drop.describe(fields(packet=packet, captured=captured, protocol=protocol, network_offset=14))
