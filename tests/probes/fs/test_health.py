"""fs.health on a tree of files with known numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from huatuo.probes.fs.health import Health
from tests.probes.tree import mangled, reader, samples, survives


def test_errors_on_record() -> None:
    """The disks of one btrfs are told apart by their number in it."""
    found = samples(reader(Health, "fs_health"))["errors_total"]
    assert {key: count for key, count in found.items() if count} == {
        ("sda1", "ext4"): 3,
        ("sdc:1", "read"): 2,
        ("sdc:2", "corruption"): 4,
    }
    assert found["sdb1", "ext4"] == found["sde", "write"] == 0


def test_commits_of_btrfs() -> None:
    found = samples(reader(Health, "fs_health"))
    assert found["commits_total"] == {("sdc",): 250}, "the other kernel does not count them"
    assert found["commit_seconds_total"] == {("sdc",): pytest.approx(6.4)}
    assert found["longest_commit_seconds"] == {("sdc",): pytest.approx(1.8)}


@settings(deadline=None)
@given(mangled())
def test_garbage_is_skipped_and_counted(how: tuple[float, float, str, bool]) -> None:
    survives(Health, "fs_health", how)
    assert survives(Health, "fs_health", (0, 1, "garbage !", True)) > 0
