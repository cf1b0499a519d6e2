"""irq.handler against /proc/interrupts and stalls of known length, with a disk's interrupts."""

from __future__ import annotations

import mmap
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from huatuo.enrich.symbols.kernel import KernelSymbols
from huatuo.model.metric import edges
from huatuo.probes.irq.handler import Handler
from tests.live.conftest import HOST, disturbed, events, metric, need, row, running
from tests.live.stall import stall

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

RING, RUN = "slow_handlers", "huatuo_irq_handler_run_seconds"
PAGE = 4096


def interrupts() -> dict[int, tuple[int, str]]:
    """Number → (how often so far, name) of what /proc/interrupts has."""
    head, *lines = HOST.read(HOST.proc / "interrupts").splitlines()
    cpus, found = len(head.split()), {}
    for line in lines:
        label, *words = line.split()
        if label[:-1].isdecimal():
            found[int(label[:-1])] = (sum(map(int, words[:cpus])), words[-1])
    return found


@pytest.fixture(name="read_page")
def disk_reader(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Reads a page from a disk, past the page cache; always on one CPU: one interrupt each."""
    subprocess.run(["modprobe", "-q", "nvme"], check=False)
    time.sleep(0.5)  # until it is there
    source = next(iter(sorted(Path("/dev").glob("nvme*n1"))), tmp_path / "file")
    if source.parent == tmp_path:
        with source.open("wb") as file:
            file.write(random.randbytes(4 << 20))
            os.fsync(file.fileno())
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    fd = os.open(source, os.O_RDONLY | os.O_DIRECT)
    pages = os.lseek(fd, 0, os.SEEK_END) // PAGE
    with mmap.mmap(-1, PAGE) as buffer:
        yield lambda: assert_read(os.preadv(fd, [buffer], random.randrange(pages) * PAGE))
    os.close(fd)
    os.sched_setaffinity(0, before)


def assert_read(size: int) -> None:
    assert size == PAGE


def interrupt_of(read_page: Callable[[], None]) -> tuple[int, str]:
    """The number and name of the interrupt that each read makes happen."""
    before = interrupts()
    for _ in range(100):
        read_page()
    after = interrupts()
    grown = {irq: count - before.get(irq, (0, ""))[0] for irq, (count, _) in after.items()}
    most = max(grown, key=lambda irq: grown[irq])
    need(grown[most] >= 50, f"reads of the disk do not interrupt: {grown}")
    return most, after[most][1]


def slots(probe: Handler, irq: int, name: str) -> npt.NDArray[np.uint64]:
    found = metric(probe, RUN)
    counts: npt.NDArray[np.uint64] = found.values[row(found, irq=irq, interrupt=name)].sum(axis=0)
    return counts


def test_handlers_are_counted_as_in_proc_interrupts(read_page: Callable[[], None]) -> None:
    irq, name = interrupt_of(read_page)
    with running(Handler) as probe:
        read_page()
        outer_before = interrupts()[irq][0]
        before = int(slots(probe, irq, name).sum())
        for _ in range(500):
            read_page()
        after = int(slots(probe, irq, name).sum())
        outer = interrupts()[irq][0] - outer_before
        assert 300 <= after - before <= outer
        assert after - before == pytest.approx(outer, abs=3)


def test_slow_handlers_have_number_length_and_name(read_page: Callable[[], None]) -> None:
    """Stalls after our entry program, interrupts off, are part of the handler: slot, sum, event."""
    count, milliseconds = 5, 15
    irq, name = interrupt_of(read_page)
    slot = int(np.searchsorted(edges(27), milliseconds / 1e3, "right"))
    with (
        running(Handler) as probe,
        stall("irq_handler_entry", milliseconds=milliseconds, count=count, irq=irq) as stalls,
    ):
        for _ in range(200):
            read_page()
            if len(stalls) == count:
                break
            time.sleep(0.02)
        truth = stalls.rows()
        assert len(truth) == count
        rows = events(probe, RING, 0.1)
        rows = rows[(rows["irq"] == irq) & (rows["run"] >= milliseconds * 1_000_000)]
        counts = slots(probe, irq, name)
        assert int(counts[slot:].sum()) == len(rows) >= count
        assert len(rows) == count or disturbed()
        rows = rows[:count]
        assert (rows["run"] >= truth["duration"]).all()
        assert (rows["run"] < truth["duration"] + 3_000_000).all() or disturbed()
        assert (rows["cpu"] == truth["cpu"]).all()
        assert {text.decode() for text in rows["interrupt"].tolist()} == {name}
        handler = KernelSymbols(HOST).name(int(rows["handler"][0]))
        assert "irq" in handler or "interrupt" in handler
