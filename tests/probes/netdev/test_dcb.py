"""netdev.dcb on answers laid out by ctypes as linux/dcbnl.h has them, and on garbage."""

from __future__ import annotations

import ctypes as c
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from huatuo.kernel.host import Host
from huatuo.kernel.netlink import Netlink, attribute
from huatuo.probes.netdev.dcb import PriorityFlowControl
from tests.probes.tree import samples

IFNAME, IEEE, IEEE_ETS, IEEE_PFC = 1, 13, 1, 2  # enum dcbnl_attrs, enum ieee_attrs


class Pfc(c.Structure):
    """struct ieee_pfc."""

    _fields_ = (
        ("pfc_cap", c.c_uint8),
        ("pfc_en", c.c_uint8),
        ("mbc", c.c_uint8),
        ("delay", c.c_uint16),
        ("requests", c.c_uint64 * 8),  # sent
        ("indications", c.c_uint64 * 8),  # received
    )


def answer(ieee: bytes) -> bytes:
    """struct dcbmsg (AF_UNSPEC, DCB_CMD_IEEE_GET), then the attributes."""
    return struct.pack("=BBH", 0, 21, 0) + attribute(IFNAME, b"eth0\0") + attribute(IEEE, ieee)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], Host]:
    """A host with the cards eth0, which answers that, and eth1, which has no DCB."""
    for device in ("eth0", "eth1"):
        (tmp_path / "class/net" / device / "device").mkdir(parents=True)
    (tmp_path / "class/net/lo").mkdir()

    def host(answered: bytes) -> Host:
        def ask(_: Netlink, kind: int, payload: bytes) -> list[tuple[int, bytes]]:
            assert kind == 78, "RTM_GETDCB"
            if b"eth0\0" in payload:
                return [(78, answered)]
            assert b"eth1\0" in payload, "not hardware"
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(Netlink, "ask", ask)
        return Host(sys=tmp_path)

    return host


def test_pauses_of_each_priority(asked: Callable[[bytes], Host]) -> None:
    sent, received = range(100, 108), range(200, 208)
    pfc = Pfc(8, 0b1000_1000, 0, 7, (c.c_uint64 * 8)(*sent), (c.c_uint64 * 8)(*received))
    host = asked(answer(attribute(IEEE_ETS, bytes(60)) + attribute(IEEE_PFC, bytes(pfc))))
    assert PriorityFlowControl.unavailable(host) == ""
    probe = PriorityFlowControl(host)
    found = samples(probe)
    assert probe.collect_errors == 0
    for priority in range(8):
        key = ("eth0", str(priority))
        assert found["enabled"][key] == (priority in (3, 7))
        assert found["pause_frames_total"][*key, "transmit"] == 100 + priority
        assert found["pause_frames_total"][*key, "receive"] == 200 + priority
    assert len(found["enabled"]) == 8


def test_a_card_without_pfc(asked: Callable[[bytes], Host]) -> None:
    host = asked(answer(attribute(IEEE_ETS, bytes(60))))
    assert PriorityFlowControl.unavailable(host) == "no network device with DCB"
    assert samples(PriorityFlowControl(host)) == {}


def test_garbage_is_skipped_and_counted(asked: Callable[[bytes], Host]) -> None:
    for bad in (answer(attribute(IEEE_PFC, bytes(20))), answer(b"\xff\xff\1\0"), b"\1"):
        probe = PriorityFlowControl(asked(bad))
        found = samples(probe)
        assert found == {}
        assert probe.collect_errors == (bad != b"\1")
