"""irq.interrupts on a tree of files with known numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from huatuo.probes.irq.interrupts import Interrupts
from tests.probes.tree import mangled, reader, samples, survives


def test_interrupts_by_device_and_by_cpu() -> None:
    found = samples(reader(Interrupts, "irq_interrupts"))
    assert found["handled_total"] == {
        ("ACPI:Ged",): 3,
        ("virtio1-req.0",): 142601,
        ("50",): 7,
        ("LOC",): 499701,
        ("ERR",): 3,
    }
    assert found["cpu_handled_total"] == {("0",): 251408, ("1",): 390904}


def test_softirqs() -> None:
    found = samples(reader(Interrupts, "irq_interrupts"))
    assert found["softirqs_total"] == {
        ("0", "timer"): 21500,
        ("1", "timer"): 26766,
        ("0", "net_rx"): pytest.approx(6830),
    }


@settings(deadline=None)
@given(mangled())
def test_garbage_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(Interrupts, "irq_interrupts", how)
    assert survives(Interrupts, "irq_interrupts", (0, 1, "garbage !", True)) > 0
