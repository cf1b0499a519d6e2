"""hardware.pcie on a tree of files with known numbers."""

from __future__ import annotations

from hypothesis import given, settings

from huatuo.probes.hardware.pcie import Pcie
from tests.probes.tree import mangled, reader, samples, survives


def test_errors_of_devices_that_have_some_and_of_all() -> None:
    found = samples(reader(Pcie, "hardware_pcie"))
    assert found["errors_total"] == {
        ("0000:01:00.0", "corrected"): 3,
        ("0000:01:00.0", "nonfatal"): 1,
        ("0000:03:00.0", "corrected"): 4,
    }
    assert found["all_errors_total"] == {("corrected",): 7, ("nonfatal",): 1, ("fatal",): 0}
    assert found["devices"] == {(): 6}, "the seventh has no error reporting"


def test_a_link_is_degraded_if_both_ends_could_do_more() -> None:
    """Of three links below what one end can do, one is below what both can."""
    assert samples(reader(Pcie, "hardware_pcie"))["degraded_links"] == {(): 1}


@settings(deadline=None)
@given(mangled())
def test_garbage_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(Pcie, "hardware_pcie", how)
    spoilt = "aer_dev_nonfatal"
    assert survives(Pcie, "hardware_pcie", (0, 1, "TOTAL_ERR_NONFATAL x", True), spoilt) > 0
