"""hardware.edac on a tree of files with known numbers."""

from __future__ import annotations

from hypothesis import given, settings

from huatuo.probes.hardware.edac import Edac
from tests.probes.tree import mangled, reader, samples, survives


def test_errors_by_controller_module_and_severity() -> None:
    found = samples(reader(Edac, "hardware_edac"))["errors_total"]
    assert {key: count for key, count in found.items() if count} == {
        ("mc0", "CPU0_DIMM_A1", "corrected"): 5,
        ("mc0", "CPU0_DIMM_A1", "uncorrected"): 1,
        ("mc0", "unknown", "corrected"): 2,
        ("mc1", "mc#1csrow#0channel#0", "corrected"): 7,
    }
    assert found["mc0", "dimm3", "corrected"] == 0, "a module without a label has its own name"


@settings(deadline=None)
@given(mangled())
def test_garbage_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(Edac, "hardware_edac", how)
    assert survives(Edac, "hardware_edac", (0, 1, "garbage !", True)) > 0
