"""hardware.ras against errors that the kernel's own injectors make, and their other counters."""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import os
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from huatuo.enrich.enricher import Enricher
from huatuo.kernel.host import Host
from huatuo.model.event import Event
from huatuo.probes.hardware.pcie import Pcie
from huatuo.probes.hardware.ras import Ras
from tests.live.conftest import HOST, metric, need, row, running
from tests.live.rawrun import run_raw
from tests.probes.tree import samples

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

ERRORS = "huatuo_hardware_ras_errors_total"
MADV_HWPOISON = 100
ADDRESS = 0x12345000


def module(name: str) -> None:
    done = subprocess.run(["modprobe", name], check=False, capture_output=True, text=True)
    need(done.returncode == 0, f"no module {name}: {done.stderr.strip()}")


def total(probe: Ras, **labels: str) -> int:
    names = {m.name for m in probe.collect()}
    found = metric(probe, ERRORS) if ERRORS in names else None
    return int(found.values[row(found, **labels)].sum()) if found else 0


def told(probe: Ras, seconds: float = 2.0) -> list[Event]:
    """All events within this time, as people see them."""
    enricher, end = Enricher(HOST), time.monotonic() + seconds
    events: list[Event] = []
    while time.monotonic() < end:
        for batch in probe.drain():
            events += enricher.events(batch, Ras)
        time.sleep(0.05)
    return events


# machine checks


@pytest.fixture(name="mce")
def injector() -> Iterator[Path]:
    module("mce-inject")
    directory = HOST.sys / "kernel/debug/mce-inject"
    need(directory.is_dir(), "mce-inject has no debugfs files here")
    (directory / "flags").write_text("sw\n")  # the last character is cut off
    yield directory


def inject(mce: Path, bank: int, **values: int) -> None:
    for name, value in values.items():
        (mce / name).write_text(str(value))
    (mce / "bank").write_text(str(bank))  # this one does it


VALID, UNCORRECTED, ADDRESS_VALID, CORRUPT = 1 << 63, 1 << 61, 1 << 58, 1 << 57


def test_machine_checks_have_place_kind_and_severity(mce: Path) -> None:
    with running(Ras) as probe:
        inject(mce, 2, cpu=1, addr=ADDRESS, misc=0x55, status=VALID | ADDRESS_VALID | 0x0135)
        inject(mce, 3, cpu=0, status=VALID | UNCORRECTED | 0x0090)
        events = told(probe)
        mine = {event.fields["bank"]: event.fields for event in events}
        assert mine.keys() == {2, 3}
        assert mine[2]["severity"] == "corrected"
        assert (mine[2]["cpu"], mine[2]["address"], mine[2]["misc"]) == (1, ADDRESS, 0x55)
        assert mine[2]["kind"] == "cache"
        assert (mine[3]["severity"], mine[3]["kind"]) == ("recoverable", "memory controller")
        assert any("CPU 1, bank 2: corrected error: cache" in event.title for event in events)
        assert total(probe, severity="corrected", source="mce") == 1


def test_corrected_errors_of_one_place_back_off(mce: Path) -> None:
    """Twenty of one bank, three of another: two events, all counted, held ones reported later."""
    with running(Ras, corrected_interval=1_500_000_000) as probe:
        for _ in range(20):
            inject(mce, 4, cpu=0, status=VALID | 0x0135)
        for _ in range(3):
            inject(mce, 5, cpu=0, status=VALID | 0x0135)
        first = told(probe, 0.5)
        assert [(e.fields["bank"], e.fields["errors"]) for e in first] == [(4, 1), (5, 1)]
        assert total(probe, source="mce") == 23
        time.sleep(1.5)
        inject(mce, 4, cpu=0, status=VALID | 0x0135)
        (later,) = told(probe, 0.5)
        assert (later.fields["bank"], later.fields["errors"]) == (4, 20)
        assert "20 corrected errors" in later.title
        account = probe.account()
        assert account.produced == 24
        assert account.delivered == 3
        assert account.suppressed["rate_limited"] == 21


def test_a_threshold_holds_the_first_event_back(mce: Path) -> None:
    with running(Ras, corrected_threshold=5) as probe:
        for _ in range(4):
            inject(mce, 1, cpu=0, status=VALID | 0x0135)
        assert told(probe, 0.3) == []
        inject(mce, 1, cpu=0, status=VALID | 0x0135)
        (event,) = told(probe, 0.5)
        assert event.fields["errors"] == 5


# PCI Express


def express_device() -> Path:
    """One behind a port that reports errors, and not itself a port."""
    for file in sorted(HOST.sys.glob("bus/pci/devices/*/aer_dev_correctable")):
        if not (file.parent / "class").read_text().startswith("0x0604"):
            return file.parent
    pytest.skip("no PCI Express device reports errors here")


def counted(device: Path, severity: str) -> int:
    text = (device / f"aer_dev_{severity}").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("TOTAL")))


def test_pcie_errors_are_those_of_the_devices_counters() -> None:
    """Bad TLP and replay timeout, corrected; the device's own counter in /sys goes up as well."""
    device = express_device()
    module("aer_inject")
    domain, bus, rest = device.name.split(":")
    slot, function = rest.split(".")
    before = counted(device, "correctable")
    with running(Ras) as probe:
        corrected = 1 << 6 | 1 << 12
        request = struct.pack(
            "<BBBxIIIIIII", int(bus, 16), int(slot, 16), int(function, 16), 0, corrected,
            0, 0, 0, 0, int(domain, 16),
        )  # fmt: skip
        Path("/dev/aer_inject").write_bytes(request)
        (event,) = told(probe, 3)
        assert event.fields["device"] == device.name
        assert event.fields["severity"] == "corrected"
        assert event.fields["kind"] == "bad TLP, replay timer timeout"
        assert total(probe, source="aer", severity="corrected") == 1
    errors = counted(device, "correctable") - before
    assert errors >= 1
    found = samples(Pcie(Host()))
    assert found["errors_total"][device.name, "corrected"] == before + errors
    assert found["all_errors_total"]["corrected",] >= before + errors


# memory


def corrupted_kib() -> int:
    return HOST.read_pairs(HOST.proc / "meminfo")["HardwareCorrupted"]


def test_a_poisoned_page_is_an_event() -> None:
    """MADV_HWPOISON gives up a page of a child, which may die; meminfo counts 4 KiB as broken."""
    need(os.environ.get("HUATUO_DISPOSABLE_HOST"), "a page of the machine would be lost")
    need("memory_failure_event" in hooks(), "no tracepoint memory_failure_event")
    before = corrupted_kib()
    with running(Ras) as probe:
        child = os.fork()
        if child == 0:
            poison_a_page()
        _, status = os.waitpid(child, 0)
        need(not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0, "no memory can fail here")
        assert os.WIFEXITED(status) or os.WTERMSIG(status) == signal.SIGBUS
        (event,) = told(probe)
        assert event.fields["source"] == "memory_failure"
        assert event.fields["severity"] == "recoverable"
        assert "recovered" in event.title
        assert corrupted_kib() - before == mmap.PAGESIZE // 1024


def poison_a_page() -> None:
    """Does not return: exits with 0 if the kernel did it, or is killed by it (6.12 and later)."""
    page = mmap.mmap(-1, mmap.PAGESIZE)
    page[0] = 1
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    libc = ctypes.CDLL(None, use_errno=True)
    faulthandler.disable()
    os._exit(libc.madvise(ctypes.c_void_p(address), mmap.PAGESIZE, MADV_HWPOISON) != 0)


def hooks() -> str:
    with running(Ras) as probe:
        return " ".join(probe.hooks)


# what needs firmware or a driver: made-up arguments


CASES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "edac": (
        (0, 0, 0, 3, 1, 0, 0, 0, ADDRESS, 6, 0xAB, 0),
        {"source": "edac", "severity": "corrected", "errors": 3, "bank": 1, "address": ADDRESS},
    ),
    "ghes": ((0, 1, 0, 0, 1), {"source": "ghes", "severity": "fatal"}),
    "firmware": ((0, 0, 0, 3), {"source": "firmware", "severity": "info"}),
    "threshold": ((0xF9,), {"source": "threshold", "severity": "corrected"}),
    "deferred": ((0xF4,), {"source": "deferred", "severity": "deferred"}),
    "thermal": ((0, 1, 3), {"source": "thermal", "severity": "fatal"}),
}


@pytest.mark.parametrize("role", CASES)
def test_reports_with_made_up_arguments(role: str) -> None:
    """Programs run whether or not this kernel has their tracepoint."""
    arguments, expected = CASES[role]
    with running(Ras) as probe:
        assert probe.object
        run_raw(probe.object, role, *arguments)
        (event,) = told(probe, 0.3)
        assert {name: event.fields[name] for name in expected} == expected
        assert total(probe, source=expected["source"]) == expected.get("errors", 1)


def test_everyday_cooling_is_no_event() -> None:
    with running(Ras) as probe:
        assert probe.object
        run_raw(probe.object, "thermal", 0, 0, 1)
        assert told(probe, 0.3) == []
        assert probe.account().produced == 0
